//! Conversations over UDP that keep their translation when the gateway changes.

use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::process::run_with_input;
use carp_user::io::conntrack::Dump;
use carp_user::proto::flow::Ids;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;

const SERVER: &str = "10.77.2.10";

/// Lets in only answers. The port is drawn by chance: a gateway that does not know the flow gives it another one.
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
    }
}
";

#[test]
fn a_conversation_over_udp_keeps_its_port_through_a_planned_move_and_back() -> Result<()> {
    keeps_its_port(|duo| duo.gw1.stop().map(drop))
}

#[test]
fn a_conversation_over_udp_keeps_its_port_when_the_masters_daemon_is_killed_and_back() -> Result<()> {
    keeps_its_port(|duo| duo.gw1.kill().map(drop))
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

fn keeps_its_port(leave: impl FnOnce(&mut Duo) -> Result<()>) -> Result<()> {
    let mut duo = begun(&Config::gateway().with_sync())?;
    let talk = Conversation::new(&duo)?;
    let before = talk.port()?;
    clock::wait_for("the backup to know the flow", PATIENCE, || {
        talk.port().ok()?;
        knows(duo.pair.gw2(), before).ok()?.then_some(())
    })?;
    leave(&mut duo)?;
    duo.wait_moved()?;
    assert_eq!(talk.port()?, before, "over the other gateway");
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    assert_eq!(talk.port()?, before, "back over the first one");
    duo.never_two_masters()
}

fn begun(config: &Config) -> Result<Duo> {
    let duo = Duo::elected(config)?;
    for gateway in &duo.pair.gateways {
        run_with_input(
            Command::new("ip").args(["netns", "exec", gateway.name(), "nft", "--file", "-"]),
            RULES,
        )?;
    }
    Ok(duo)
}

/// Whether this kernel has a flow to the server that is translated to `port`.
fn knows(gateway: &Namespace, port: u16) -> Result<bool> {
    let server: IpAddr = SERVER.parse()?;
    gateway.enter(|| {
        let (mut dump, mut part, mut found) = (Dump::start(None)?, Vec::new(), false);
        while dump.part(&mut part)? {
            found |= part.iter().any(|flow| {
                let is_port = matches!(flow.reply.ids, Ids::Ports { destination, .. } if destination == port);
                flow.key.original.destination == server && is_port
            });
        }
        Ok(found)
    })
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
