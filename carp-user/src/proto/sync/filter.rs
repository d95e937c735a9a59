//! Which flows are not replicated, as they are of no use on another node.

use crate::proto::flow::{Flow, Ids, Tuple};
use std::net::{IpAddr, SocketAddr};

/// Protocol of CARP (and VRRP).
const CARP: u8 = 112;
const TCP: u8 = 6;

/// What a node keeps to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Addresses that are this node's alone: no virtual ones, which move.
    pub own: Vec<IpAddr>,
    /// The two ends of the sync session.
    pub sync: Option<(SocketAddr, SocketAddr)>,
}

impl Filter {
    /// Whether the peer is told of this flow: not of the loopback, of adverts, of the sync session, nor of what begins or ends at this
    /// node's own addresses. A flow that is only translated to one of them goes on elsewhere, and is told of.
    pub fn replicates(&self, flow: &Flow) -> bool {
        let original = &flow.key.original;
        // Where it really ends, the reply says.
        let ends = [original.source, flow.reply.source];
        original.protocol != CARP
            && ![original.source, original.destination].iter().any(is_local)
            && !ends.iter().any(|end| self.own.contains(end))
            && !self.sync.is_some_and(|ends| is_between(original, ends))
    }
}

fn is_local(address: &IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

fn is_between(tuple: &Tuple, (one, other): (SocketAddr, SocketAddr)) -> bool {
    let Ids::Ports { source, destination } = tuple.ids else { return false };
    let to = |from: SocketAddr, to: SocketAddr| {
        (tuple.source, tuple.destination) == (from.ip(), to.ip())
            && (source == from.port() || destination == to.port())
    };
    tuple.protocol == TCP && (to(one, other) || to(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flow::{Key, ProtocolState};

    fn flow(protocol: u8, [source, destination, reply_source]: [&str; 3], ports: (u16, u16)) -> Flow {
        let address = |text: &str| text.parse().unwrap();
        let tuple = |source: &str, destination: &str, (a, b)| Tuple {
            source: address(source),
            destination: address(destination),
            protocol,
            ids: Ids::Ports { source: a, destination: b },
        };
        Flow {
            key: Key { zone: 0, original: tuple(source, destination, ports) },
            reply: tuple(reply_source, "198.51.100.2", (ports.1, ports.0)),
            status: 0,
            timeout: 1,
            mark: 0,
            state: ProtocolState::None,
            labels: None,
            helper: None,
            sequence: [None; 2],
            master: None,
        }
    }

    #[test]
    fn what_a_node_keeps_to_itself() {
        let end = |text: &str| text.parse().unwrap();
        let filter = Filter {
            own: ["198.51.100.2", "10.9.0.1", "fd00::2"].map(|own| own.parse().unwrap()).to_vec(),
            sync: Some((end("10.9.9.1:7000"), end("10.9.9.2:7000"))),
        };
        let told = |protocol, addresses, ports| filter.replicates(&flow(protocol, addresses, ports));
        let (inside, server, vip) = ("10.0.0.2", "192.0.2.1", "198.51.100.1");
        assert!(
            told(6, [inside, server, server], (40_000, 443)),
            "forwarded, though translated to its own address"
        );
        assert!(
            told(6, [server, "198.51.100.2", inside], (40_000, 443)),
            "forwarded from its own address to an inner server"
        );
        assert!(told(17, [server, vip, inside], (53, 53)), "from a virtual address to an inner server");
        assert!(!told(6, ["198.51.100.2", server, server], (40_000, 443)), "its own");
        assert!(!told(6, [server, "10.9.0.1", "10.9.0.1"], (40_000, 22)), "to itself");
        assert!(!told(6, ["fd00::9", "fd00::2", "fd00::2"], (40_000, 22)), "to itself over IPv6");
        assert!(!told(17, ["127.0.0.1", "127.0.0.53", "127.0.0.53"], (40_000, 53)));
        assert!(!told(17, ["::1", "::1", "::1"], (40_000, 53)));
        assert!(!told(112, [inside, "224.0.0.18", "224.0.0.18"], (0, 0)));
        assert!(!told(6, ["10.9.9.1", "10.9.9.2", "10.9.9.2"], (40_000, 7000)));
        assert!(!told(6, ["10.9.9.2", "10.9.9.1", "10.9.9.1"], (40_000, 7000)));
        assert!(told(6, ["10.9.9.2", "10.9.9.1", "10.9.9.1"], (40_000, 22)), "beside the session");
        assert!(told(17, ["10.9.9.2", "10.9.9.1", "10.9.9.1"], (40_000, 7000)), "beside the session");
    }
}
