//! Conversations over UDP and ICMP that keep their translation when the gateway changes.

use anyhow::Result;
use carp_common::time::Span;
use carp_common::wire::sum::checksum;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{SERVER, fortify, knows};
use carp_tests::lab::{Purpose, clock};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::{SocketAddrV4, UdpSocket};

/// Lets in only answers. The port, or the identifier of a query, is drawn by chance: a gateway that does not know the flow
/// gives it another one.
const RULES: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 ip protocol udp counter snat to 10.77.2.1:20000-60000 fully-random
        oifname wan0 ip protocol icmp counter snat to 10.77.2.1 fully-random
    }
}
";

#[test]
fn what_the_server_sees_of_a_conversation_stays_through_a_planned_move_and_back() -> Result<()> {
    keeps_its_names(|duo| duo.gw1.stop().map(drop))
}

#[test]
fn what_the_server_sees_of_a_conversation_stays_when_the_masters_daemon_is_killed_and_back() -> Result<()> {
    keeps_its_names(|duo| duo.gw1.kill().map(drop))
}

#[test]
fn a_flow_lives_as_long_as_its_application_wants_on_either_gateway_and_then_ends_on_both() -> Result<()> {
    const SECONDS: u64 = 3;
    let pair = Pair::new(Purpose::Test)?;
    fortify(&pair, RULES)?;
    for gateway in &pair.gateways {
        for key in ["udp_timeout", "udp_timeout_stream"] {
            gateway.sysctl(&format!("netfilter/nf_conntrack_{key}"), &SECONDS.to_string())?;
        }
    }
    let duo = Duo::elected_in(pair, &Config::gateway().with_sync())?;
    let talk = Conversation::new(&duo)?;
    let before = talk.port()?;
    let twice_as_long = || {
        for _ in 0..4 {
            clock::sleep(Span::millis(SECONDS * 1000 / 2));
            assert_eq!(talk.port()?, before);
        }
        Ok::<_, anyhow::Error>(())
    };
    twice_as_long()?;
    assert!(duo.gw1.carpctl(&["demote", "test"])?.status.success());
    duo.wait_moved()?;
    twice_as_long()?;
    assert!(knows(duo.pair.gw1(), before)? && knows(duo.pair.gw2(), before)?);
    clock::wait_for("the flow to end on both gateways", PATIENCE + Span::secs(SECONDS), || {
        let lives = |gateway| knows(gateway, before).ok();
        (!lives(duo.pair.gw1())? && !lives(duo.pair.gw2())?).then_some(())
    })?;
    assert_ne!(talk.port()?, before, "it drew the same of 40,001 ports, or was known");
    Ok(())
}

#[test]
fn without_replication_the_same_conversation_gets_another_port() -> Result<()> {
    let mut duo = begun(&Config::gateway())?;
    let talk = Conversation::new(&duo)?;
    let before = talk.port()?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    assert_ne!(talk.port()?, before, "the other gateway drew the same of 40,001 ports, or knew the flow");
    Ok(())
}

#[test]
fn what_a_rule_excludes_is_not_replicated_and_the_rest_is() -> Result<()> {
    let config = Config::gateway().with_sync();
    for (rule, is_known) in [("{ protocol = \"udp\" }", false), ("{ prefix = \"10.77.3.0/24\" }", true)] {
        let mut duo = begun(&config.clone().excluding(rule))?;
        let talk = Conversation::new(&duo)?;
        let before = talk.port()?;
        // Longer than it takes to tell, and to compare the tables.
        clock::sleep(Span::secs(3));
        assert_eq!(knows(duo.pair.gw2(), before)?, is_known, "{rule}");
        duo.gw1.stop()?;
        duo.wait_moved()?;
        assert_eq!(talk.port()? == before, is_known, "{rule}");
    }
    Ok(())
}

/// The port of a conversation over UDP, and the identifier of an echo session.
fn keeps_its_names(leave: impl FnOnce(&mut Duo) -> Result<()>) -> Result<()> {
    let mut duo = begun(&Config::gateway().with_sync())?;
    let (talk, echoes) = (Conversation::new(&duo)?, Echoes::new(&duo)?);
    let names = || Ok::<_, anyhow::Error>([talk.port()?, echoes.identifier()?]);
    let before = names()?;
    clock::wait_for("the backup to know the flows", PATIENCE, || {
        names().ok()?;
        before.iter().all(|name| knows(duo.pair.gw2(), *name).is_ok_and(|known| known)).then_some(())
    })?;
    leave(&mut duo)?;
    duo.wait_moved()?;
    assert_eq!(names()?, before, "over the other gateway");
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    assert_eq!(names()?, before, "back over the first one");
    duo.never_two_masters()
}

fn begun(config: &Config) -> Result<Duo> {
    let duo = Duo::elected(config)?;
    fortify(&duo.pair, RULES)?;
    Ok(duo)
}

/// Requests of one socket and their answers.
struct Conversation {
    client: UdpSocket,
    server: UdpSocket,
}

impl Conversation {
    fn new(duo: &Duo) -> Result<Self> {
        let server = duo.pair.server.enter(|| Ok(UdpSocket::bind((SERVER, 0))?))?;
        let client = duo.pair.client.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        client.connect(server.local_addr()?)?;
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(Span::millis(200).std()))?;
        }
        Ok(Self { client, server })
    }

    /// The port from which the server sees the next request whose answer comes back.
    fn port(&self) -> Result<u16> {
        clock::wait_for("a request to be answered", PATIENCE, || {
            let request = clock::now().nanos().to_be_bytes();
            let mut bytes = [0; 8];
            self.client.send(&request).ok()?;
            let (_, from) = self.server.recv_from(&mut bytes).ok()?;
            self.server.send_to(&bytes, from).ok()?;
            self.client.recv(&mut bytes).ok()?;
            (bytes == request).then(|| from.port())
        })
    }
}

/// Echo requests of one identifier, as `ping` sends them, and their replies.
struct Echoes {
    client: Socket,
    server: Socket,
}

impl Echoes {
    const IDENTIFIER: u16 = 0x1234;

    fn new(duo: &Duo) -> Result<Self> {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
            socket.set_read_timeout(Some(Span::millis(200).std()))?;
            Ok(socket)
        };
        let (client, server) = (duo.pair.client.enter(open)?, duo.pair.server.enter(open)?);
        client.connect(&SocketAddrV4::new(SERVER.parse()?, 0).into())?;
        Ok(Self { client, server })
    }

    /// The identifier with which the server sees the next request whose reply comes back.
    fn identifier(&self) -> Result<u16> {
        clock::wait_for("an echo request to be answered", PATIENCE, || {
            let moment = clock::now().nanos().to_be_bytes();
            let [high, low] = Self::IDENTIFIER.to_be_bytes();
            let mut request = [[8, 0, 0, 0, high, low, 0, 1], moment].concat();
            let sum = checksum(&request).to_be_bytes();
            request.get_mut(2..4)?.copy_from_slice(&sum);
            self.client.send(&request).ok()?;
            let seen = hear(&self.server, 8, moment)?;
            let back = hear(&self.client, 0, moment)?;
            assert_eq!(back, Self::IDENTIFIER);
            Some(seen)
        })
    }
}

/// The identifier of the message of this kind with this in it.
fn hear(mut socket: &Socket, wanted: u8, moment: [u8; 8]) -> Option<u16> {
    let mut packet = [0; 128];
    loop {
        let len = socket.read(&mut packet).ok()?;
        // It begins with the header of IP.
        if let Some([kind, _, _, _, high, low, _, _, rest @ ..]) = packet.get(20..len)
            && *kind == wanted
            && *rest == moment
        {
            return Some(u16::from_be_bytes([*high, *low]));
        }
    }
}
