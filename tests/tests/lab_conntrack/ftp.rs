//! A helper, what it expects, and the numbers that it shifts: an FTP session in active mode through translation.

use crate::orders::named;
use crate::paths::{CLIENT, OUTSIDE, Paths, SERVER, STRICT};
use crate::table::{assert_same, flow_of, flows, make, order};
use anyhow::Result;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::talk::Talk;
use carp_user::io::conntrack::{Order, expectations};
use carp_user::proto::flow::{Expectation, Ids, Key, status};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

const TCP: u8 = 6;
/// The helper watches connections to port 21.
const HELPER: &str = r#"
table inet ftp {
    ct helper ftp { type "ftp" protocol tcp; }
    chain early {
        type filter hook prerouting priority 0;
        tcp dport 21 ct helper set "ftp"
    }
}
"#;

fn expected(host: &Namespace) -> Result<Vec<Expectation>> {
    host.enter(|| Ok(expectations()?))
}

#[test]
fn an_ftp_session_goes_on_with_its_helper_its_expectation_and_its_shift() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, b] = &paths.gateways;
    for gateway in [a, b] {
        if let Err(error) = gateway.load_rules(HELPER) {
            println!("skipped: this kernel has no helper for FTP ({error:#})");
            return Ok(());
        }
    }
    // What translates the words of FTP is a module of its own, which newer kernels do not load by themselves; where it is
    // built in there is nothing to load.
    let _built_in = Command::new("modprobe").args(["-q", "nf_nat_ftp"]).status();
    let mut talk = Talk::start(&paths.client, &paths.server, paths.server_addresses()[0], 21)?;
    // The helper looks at what comes behind a line that it has seen.
    talk.client.write_all(b"USER me\r\n")?;
    assert_eq!(talk.server.read(&mut [0; 64])?, 9);
    announce(&mut talk, 5001)?;
    let control = flow_of(a, TCP, CLIENT[0])?;
    assert_eq!(control.helper, Some(named("ftp")));
    assert!(
        control.status & status::SHIFTED != 0 && control.sequence.iter().all(Option::is_some),
        "{control:?}"
    );
    let there = expected(a)?;
    assert_eq!(there.len(), 1, "{there:#?}");
    assert_eq!(there[0].tuple.destination, OUTSIDE[0].parse::<IpAddr>()?);
    assert_eq!(there[0].function.map(|name| name[..18].to_vec()), Some(b"nat-follow-master\0".to_vec()));

    make(b, &[control])?;
    assert_same(&[control], &flows(b)?);
    assert_eq!(order(b, &[Order::Expect(&there[0])])?, []);
    let mut here = expected(b)?;
    assert_eq!(here.len(), 1, "{here:#?}");
    here[0].timeout = there[0].timeout;
    assert_eq!(here, there);

    // The server opens the data connection over the other gateway, which lets it in for the expectation alone.
    paths.lead_over(1)?;
    let Ids::Ports { destination, .. } = there[0].tuple.ids else { anyhow::bail!("{there:?}") };
    let own = SocketAddr::new(CLIENT[0].parse()?, 5001);
    let listener = paths.client.enter(|| Ok(TcpListener::bind(own)?))?;
    let outside = SocketAddr::new(there[0].tuple.destination, destination);
    let mut data =
        paths.server.enter(|| Ok(TcpStream::connect_timeout(&outside, Duration::from_secs(5))?))?;
    data.write_all(b"data")?;
    let (mut received, (mut waiting, _)) = ([0; 4], listener.accept()?);
    waiting.read_exact(&mut received)?;
    assert_eq!(&received, b"data");
    assert_eq!(expected(b)?, []);

    // The control connection, whose numbers are shifted, goes on there, and so does the one that it announced, back
    // at a.
    announce(&mut talk, 5002)?;
    let announced = flow_of(b, TCP, SERVER[0])?;
    assert!(announced.status & status::EXPECTED != 0, "{announced:?}");
    assert_eq!(announced.master, Some(control.key.original));
    let control = flow_of(b, TCP, CLIENT[0])?;
    assert_eq!(order(a, &[Order::Change(&control), Order::Make(&announced)])?, []);
    assert_same(&flows(b)?, &flows(a)?);
    paths.lead_over(0)?;
    data.write_all(b"more")?;
    waiting.read_exact(&mut received)?;
    assert_eq!(&received, b"more");
    let next = expected(b)?;
    let next = Key { zone: next[0].master.zone, original: next[0].tuple };
    assert_eq!(order(b, &[Order::Withdraw(&next), Order::Withdraw(&next)])?, []);
    assert_eq!(expected(b)?, []);
    Ok(())
}

/// The client says where it waits for data; the helper sees it, and the server what the helper made of it.
fn announce(talk: &mut Talk, port: u16) -> Result<()> {
    let [high, low] = port.to_be_bytes();
    let address = CLIENT[0].replace('.', ",");
    let said = format!("PORT {address},{high},{low}\r\n");
    talk.client.write_all(said.as_bytes())?;
    talk.server.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut heard = [0; 64];
    let len = talk.server.read(&mut heard)?;
    let heard = String::from_utf8_lossy(&heard[..len]).into_owned();
    assert!(heard.starts_with("PORT 10,9,200,1,"), "{heard}");
    talk.server.write_all(b"200 PORT\r\n")?;
    talk.client.set_read_timeout(Some(Duration::from_secs(5)))?;
    assert_eq!(talk.client.read(&mut [0; 64])?, 10);
    Ok(())
}
