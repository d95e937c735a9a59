//! A client and a server with two ways between them, and a gateway on each.
//!
//! ```text
//!            ┌─ lan  a  wan ─┐
//!   client ──┤               ├── server
//!            └─ lan  b  wan ─┘
//! ```
//!
//! Client and server have their addresses on the loopback interface, so a route is all that decides about the way.

use anyhow::Result;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::{Lab, Purpose};
use std::net::IpAddr;
use std::process::Command;

/// The client, the server, and what the gateways make of the client's address.
pub const CLIENT: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub const SERVER: [&str; 2] = ["10.9.1.1", "fd09:1::1"];
pub const OUTSIDE: [&str; 2] = ["10.9.200.1", "fd09:c8::1"];

/// What a strict gateway has: nothing invalid, nothing new from outside, and everything new from inside is translated
/// and marked.
pub const STRICT: &str = r#"
table inet filter {
    chain early {
        type filter hook prerouting priority 0;
        ct state new ct mark set 0x55
        ct state new meta l4proto { tcp, udp } ct label set 7
    }
    chain forward {
        type filter hook forward priority 10; policy drop;
        ct state invalid counter drop
        ct state established,related accept
        iifname "lan" ct state new accept
    }
}
table inet nat {
    chain out {
        type nat hook postrouting priority 100;
        meta nfproto ipv4 oifname "wan" meta l4proto { tcp, udp } snat ip to 10.9.200.1:20000-29999
        meta nfproto ipv4 oifname "wan" snat ip to 10.9.200.1
        meta nfproto ipv6 oifname "wan" meta l4proto { tcp, udp } snat ip6 to [fd09:c8::1]:20000-29999
        meta nfproto ipv6 oifname "wan" snat ip6 to fd09:c8::1
    }
}
"#;

pub struct Paths {
    pub client: Namespace,
    pub server: Namespace,
    /// Gateways a and b.
    pub gateways: [Namespace; 2],
    _lab: Lab,
}

impl Paths {
    /// All of it, the way over gateway a, these rules on both gateways, which track nothing from its middle.
    pub fn new(rules: &str) -> Result<Self> {
        let lab = Lab::new(Purpose::Test)?;
        let (client, server) = (lab.namespace("client")?, lab.namespace("server")?);
        let gateways = [lab.namespace("a")?, lab.namespace("b")?];
        for (host, addresses) in [(&client, CLIENT), (&server, SERVER)] {
            for address in addresses {
                host.ip(&format!("address add {address} dev lo"))?;
            }
        }
        let paths = Self { client, server, gateways, _lab: lab };
        for (gateway, number) in paths.gateways.iter().zip(1..) {
            gateway.sysctl("ipv4/ip_forward", "1")?;
            gateway.sysctl("ipv6/conf/all/forwarding", "1")?;
            paths.cable(&paths.client, gateway, "lan", number)?;
            paths.cable(&paths.server, gateway, "wan", 10 + number)?;
            for (link, number, [v4, v6]) in [("lan", number, CLIENT), ("wan", 10 + number, SERVER)] {
                gateway.ip(&format!("route add {v4} via 10.8.{number}.2 dev {link}"))?;
                gateway.ip(&format!("route add {v6} via fd08:{number}::2 dev {link}"))?;
            }
            // The settings are there as soon as a rule has loaded the module.
            gateway.load_rules(rules)?;
            gateway.sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
            gateway.sysctl("netfilter/nf_conntrack_events", "1")?;
        }
        paths.lead_over(0)?;
        Ok(paths)
    }

    /// From now on both sides send over this gateway.
    pub fn lead_over(&self, gateway: usize) -> Result<()> {
        let number = 1 + gateway;
        let [v4, v6] = SERVER;
        self.client.ip(&format!("route replace {v4} via 10.8.{number}.1 src {}", CLIENT[0]))?;
        self.client.ip(&format!("route replace {v6} via fd08:{number}::1 src {}", CLIENT[1]))?;
        let number = 10 + number;
        for family in [0, 1] {
            let via = [format!("10.8.{number}.1"), format!("fd08:{number}::1")];
            for target in [CLIENT[family], OUTSIDE[family]] {
                self.server
                    .ip(&format!("route replace {target} via {} src {}", via[family], SERVER[family]))?;
            }
        }
        Ok(())
    }

    pub fn server_addresses(&self) -> [IpAddr; 2] {
        SERVER.map(|address| address.parse().unwrap())
    }

    fn cable(&self, host: &Namespace, gateway: &Namespace, link: &str, number: i32) -> Result<()> {
        let (there, port) = (gateway.name(), format!("gw{number}"));
        host.ip(&format!("link add {port} type veth peer name {link} netns {there}"))?;
        for (end, name, last) in [(gateway, link, 1), (host, port.as_str(), 2)] {
            end.ip(&format!("address add 10.8.{number}.{last}/24 dev {name}"))?;
            end.ip(&format!("address add fd08:{number}::{last}/64 dev {name} nodad"))?;
            end.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }
}

/// Packets that the rule against invalid ones has dropped.
pub fn invalid(gateway: &Namespace) -> Result<u64> {
    let mut nft = Command::new("nft");
    let listed = gateway.output(nft.args(["list", "chain", "inet", "filter", "forward"]))?.stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let line = listed.lines().find(|line| line.contains("invalid")).unwrap();
    let mut words = line.split_whitespace().skip_while(|word| *word != "packets");
    Ok(words.nth(1).unwrap().parse()?)
}
