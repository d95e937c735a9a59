//! FTP through translation, with the helper in both kernels: what a session has announced over one gateway is let in by the
//! other one.

use anyhow::{Context, Result, bail};
use carp_common::time::Span;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::flows;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{SERVER, fortify};
use carp_tests::lab::talk::Talk;
use carp_tests::lab::{Purpose, clock};
use carp_user::io::conntrack::expectations;
use carp_user::proto::flow::{Key, SequenceShift};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;

const CLIENT: &str = "10.77.1.10";
/// Beside the connections to port 21 only what they announce comes through, in either direction.
const RULES: &str = r#"table ip gateway {
    ct helper ftp { type "ftp" protocol tcp; }
    chain early {
        type filter hook prerouting priority filter;
        iifname lan0 tcp dport 21 ct helper set "ftp"
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 tcp dport 21 tcp flags & (syn|ack) == syn ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 counter snat to 10.77.2.1
    }
}
"#;

/// Who waits for the data connection, having said where.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The client, with PORT.
    Active,
    /// The server, with 227 in answer to PASV.
    Passive,
}

#[test]
fn ftp_lives_on_when_the_masters_daemon_is_killed_and_through_the_planned_move_back() -> Result<()> {
    let Some(mut duo) = begun(&Config::gateway().with_sync())? else { return Ok(()) };
    let mut sessions = [Session::start(&duo, Mode::Active)?, Session::start(&duo, Mode::Passive)?];
    let mut data = Vec::new();
    sessions.iter_mut().try_for_each(|session| session.announce(&duo))?;
    all_known(&duo)?;
    duo.gw1.kill()?;
    duo.wait_moved()?;
    for session in &mut sessions {
        data.push(session.open(&duo, PATIENCE).with_context(|| format!("{:?}, over gw2", session.mode))?);
        session.announce(&duo)?;
    }
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    all_known(&duo)?;
    for session in &mut sessions {
        data.push(session.open(&duo, PATIENCE).with_context(|| format!("{:?}, over gw1", session.mode))?);
        session.announce(&duo)?;
    }
    data.iter_mut().try_for_each(|talk| talk.exchange(1, PATIENCE.std()))?;
    duo.never_two_masters()
}

#[test]
fn without_replication_no_announced_connection_comes_through() -> Result<()> {
    let Some(mut duo) = begun(&Config::gateway())? else { return Ok(()) };
    let mut sessions = [Session::start(&duo, Mode::Active)?, Session::start(&duo, Mode::Passive)?];
    sessions.iter_mut().try_for_each(|session| session.announce(&duo))?;
    assert_eq!(expected(&duo, 0)?, 2);
    duo.gw1.stop()?;
    duo.wait_moved()?;
    for session in &mut sessions {
        assert!(session.open(&duo, Span::secs(2)).is_err(), "{:?}", session.mode);
    }
    Ok(())
}

/// None where the kernel has no helper.
fn begun(config: &Config) -> Result<Option<Duo>> {
    // What translates the words of FTP is a module of its own, which newer kernels do not load by themselves; where it is
    // built in there is nothing to load.
    let _built_in = Command::new("modprobe").args(["-q", "nf_nat_ftp"]).status();
    let pair = Pair::new(Purpose::Test)?;
    if let Err(error) = fortify(&pair, RULES) {
        println!("skipped: this kernel has no helper for FTP ({error:#})");
        return Ok(None);
    }
    Duo::elected_in(pair, config).map(Some)
}

fn expected(duo: &Duo, gateway: usize) -> Result<usize> {
    duo.pair.gateways[gateway].enter(|| Ok(expectations()?.len()))
}

/// Until both kernels expect the connections of both sessions, and shift the numbers of that in active mode alike.
fn all_known(duo: &Duo) -> Result<()> {
    let [one, two] = &duo.pair.gateways;
    clock::wait_for("both gateways to know the same of FTP", PATIENCE, || {
        let (here, there) = (shifts(one).ok()?, shifts(two).ok()?);
        let is_shifted = here.values().any(|sequence| *sequence != [None; 2]);
        let are_expected = expected(duo, 0).ok()? == 2 && expected(duo, 1).ok()? == 2;
        (is_shifted && here == there && are_expected).then_some(())
    })
}

/// What each control connection's numbers are shifted by.
fn shifts(gateway: &Namespace) -> Result<BTreeMap<Key, [Option<SequenceShift>; 2]>> {
    let flows = flows::all(gateway)?.into_iter().filter(|flow| flow.helper.is_some());
    Ok(flows.map(|flow| (flow.key, flow.sequence)).collect())
}

/// A control connection, and who waits for the next data connection.
struct Session {
    mode: Mode,
    control: Talk,
    waiting: Option<(TcpListener, SocketAddrV4)>,
}

impl Session {
    fn start(duo: &Duo, mode: Mode) -> Result<Self> {
        let mut control = Talk::start(&duo.pair.client, &duo.pair.server, SERVER.parse()?, 21)?;
        for end in [&control.client, &control.server] {
            end.set_read_timeout(Some(PATIENCE.std()))?;
        }
        // The helper looks at what comes behind a line that it has seen.
        say(&mut control.client, &mut control.server, "USER me")?;
        say(&mut control.server, &mut control.client, "230 hello")?;
        Ok(Self { mode, control, waiting: None })
    }

    /// One side says where it waits for data; the helper sees it, and the other side what the helper made of it.
    fn announce(&mut self, duo: &Duo) -> Result<()> {
        let (host, address) = match self.mode {
            Mode::Active => (&duo.pair.client, CLIENT),
            Mode::Passive => (&duo.pair.server, SERVER),
        };
        let listener = host.enter(|| Ok(TcpListener::bind((address, 0))?))?;
        let [high, low] = listener.local_addr()?.port().to_be_bytes();
        let place = format!("{},{high},{low}", address.replace('.', ","));
        let Talk { client, server, .. } = &mut self.control;
        let heard = match self.mode {
            Mode::Active => {
                let heard = say(client, server, &format!("PORT {place}"))?;
                say(server, client, "200 PORT")?;
                heard
            }
            Mode::Passive => {
                say(client, server, "PASV")?;
                say(server, client, &format!("227 Entering Passive Mode ({place})"))?
            }
        };
        self.waiting = Some((listener, place_in(&heard)?));
        Ok(())
    }

    /// The data connection to where the other side was said to wait.
    fn open(&mut self, duo: &Duo, patience: Span) -> Result<Talk> {
        let (listener, place) = self.waiting.take().context("nobody waits")?;
        let from = match self.mode {
            Mode::Active => &duo.pair.server,
            Mode::Passive => &duo.pair.client,
        };
        let client = from.enter(|| Ok(TcpStream::connect_timeout(&place.into(), patience.std())?))?;
        let (server, _) = listener.accept()?;
        let mut talk = Talk::between(client, server)?;
        talk.exchange(1, patience.std())?;
        Ok(talk)
    }
}

/// Says a line, and gives what came of it.
fn say(from: &mut TcpStream, to: &mut TcpStream, line: &str) -> Result<String> {
    from.write_all(format!("{line}\r\n").as_bytes())?;
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(b"\r\n") {
        to.read_exact(&mut byte).with_context(|| format!("waiting for {line:?}"))?;
        heard.extend(byte);
    }
    Ok(String::from_utf8(heard)?)
}

/// Six numbers: an address and a port.
fn place_in(line: &str) -> Result<SocketAddrV4> {
    let numbers =
        line.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse::<u8>().ok());
    let numbers: Vec<u8> = numbers.collect();
    let Some([a, b, c, d, high, low]) = numbers.last_chunk() else { bail!("no place in {line:?}") };
    Ok(SocketAddrV4::new(Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*high, *low])))
}
