//! Which flows go to the peer: those that it could go on with.

use super::rule::Rules;
use crate::proto::flow::{Flow, Ids};
use crate::proto::protocol::{CARP, TCP};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What stays on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// This node's own addresses, VIPs among them while it has them: who begins or ends there speaks with this node,
    /// and not through it.
    pub own: BTreeSet<IpAddr>,
    /// Both ends of the session itself.
    pub session: Option<[SocketAddr; 2]>,
    /// What the configuration says.
    pub rules: Rules,
}

impl Filter {
    /// Whether the peer is told of this flow. By who began it and who answers in truth: what a translation shows to others
    /// does not matter.
    pub fn carries(&self, flow: &Flow) -> bool {
        let (from, to) = (flow.key.original.source, flow.reply.source);
        let is_for_all = |address: IpAddr| address.is_multicast() || is_broadcast(address);
        let is_own = |address: IpAddr| address.is_loopback() || self.own.contains(&address);
        let stays =
            |address: IpAddr| is_for_all(address) || is_own(address) && !self.rules.ask_for(address, flow);
        let is_never_told = flow.key.original.protocol == CARP || self.is_session(flow);
        !(is_never_told || stays(from) || stays(to)) && self.rules.carry(flow)
    }

    /// The node's own addresses may be read later than its first connection begins.
    fn is_session(&self, flow: &Flow) -> bool {
        let Some(ends) = self.session else { return false };
        let original = &flow.key.original;
        let Ids::Ports { destination, .. } = original.ids else { return false };
        let is_end = |address| ends.iter().any(|end| end.ip() == address);
        original.protocol == TCP
            && is_end(original.source)
            && ends.contains(&SocketAddr::new(original.destination, destination))
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flow::Tuple;
    use crate::proto::sync::rule::{Prefix, Rule};

    fn flow(protocol: u8, from: &str, to: &str, port: u16, answers: &str) -> Flow {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let tuple = |source: &str, destination: &str, ids| Tuple {
            source: address(source),
            destination: address(destination),
            protocol,
            ids,
        };
        let (there, back) =
            (Ids::Ports { source: 9, destination: port }, Ids::Ports { source: port, destination: 9 });
        let plain = Flow::untranslated(tuple(from, to, there)).expect("ports are answered");
        Flow { reply: tuple(answers, "192.0.2.1", back), ..plain }
    }

    fn filter() -> Filter {
        let own = ["10.0.0.2", "10.0.0.1", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        let ends = ["10.9.0.1:7112", "10.9.0.2:7112"].map(|text| text.parse().expect("an end"));
        Filter { own: own.into(), session: Some(ends), rules: Rules::default() }
    }

    #[test]
    fn what_goes_through_the_node_is_told_translated_or_not() {
        let filter = filter();
        assert!(filter.carries(&flow(6, "10.0.0.9", "198.51.100.1", 443, "198.51.100.1")), "out, by the VIP");
        assert!(filter.carries(&flow(6, "198.51.100.1", "192.0.2.1", 443, "10.0.0.9")), "in, by the VIP");
        assert!(filter.carries(&flow(17, "10.0.0.9", "198.51.100.1", 53, "198.51.100.1")));
    }

    #[test]
    fn what_ends_at_the_node_or_begins_there_is_not() {
        let filter = filter();
        for (protocol, from, to) in [
            (6, "10.0.0.9", "10.0.0.2"),
            (6, "10.0.0.2", "198.51.100.1"),
            (17, "10.0.0.9", "10.0.0.1"),
            (6, "127.0.0.1", "127.0.0.1"),
            (17, "10.0.0.9", "224.0.0.251"),
            (17, "0.0.0.0", "255.255.255.255"),
            (112, "10.0.0.9", "198.51.100.1"),
        ] {
            assert!(!filter.carries(&flow(protocol, from, to, 443, to)), "{protocol} {from} {to}");
        }
    }

    #[test]
    fn the_session_is_not_told_of_itself_and_others_between_the_same_nodes_are() {
        let filter = filter();
        assert!(!filter.carries(&flow(6, "10.9.0.1", "10.9.0.2", 7112, "10.9.0.2")));
        assert!(!filter.carries(&flow(6, "10.9.0.2", "10.9.0.1", 7112, "10.9.0.1")));
        assert!(filter.carries(&flow(6, "10.9.0.1", "10.9.0.2", 7113, "10.9.0.2")));
        assert!(filter.carries(&flow(17, "10.9.0.1", "10.9.0.2", 7112, "10.9.0.2")));
    }
    #[test]
    fn what_stays_is_told_if_a_rule_names_it_and_the_session_and_adverts_never() {
        let within = |address: &str, len| {
            let prefix = Prefix::new(address.parse().expect("an address"), len);
            Rule { prefix, ..Rule::default() }
        };
        let include = vec![within("0.0.0.0", 0), within("10.0.0.2", 32), within("127.0.0.0", 8)];
        let asked = Filter { rules: Rules { include, exclude: Vec::new() }, ..filter() };
        assert!(asked.carries(&flow(6, "10.0.0.9", "10.0.0.2", 443, "10.0.0.2")), "named");
        assert!(asked.carries(&flow(6, "127.0.0.1", "127.0.0.1", 443, "127.0.0.1")), "named");
        assert!(!asked.carries(&flow(6, "10.0.0.9", "10.0.0.1", 443, "10.0.0.1")), "only in a network");
        assert!(!asked.carries(&flow(17, "10.0.0.9", "224.0.0.251", 5353, "224.0.0.251")));
        assert!(!asked.carries(&flow(112, "10.0.0.9", "198.51.100.1", 443, "198.51.100.1")));
        assert!(!asked.carries(&flow(6, "10.9.0.1", "10.9.0.2", 7112, "10.9.0.2")));
    }

    #[test]
    fn what_is_excluded_is_not_told_even_if_it_is_asked_for() {
        let own = Rule { prefix: Some(Prefix::of([10, 0, 0, 2].into())), ..Rule::default() };
        let https = Rule { ports: Some(443..=443), ..Rule::default() };
        let rules = Rules { include: vec![own], exclude: vec![https] };
        let filter = Filter { rules, ..filter() };
        assert!(filter.carries(&flow(6, "10.0.0.9", "10.0.0.2", 80, "10.0.0.2")));
        assert!(!filter.carries(&flow(6, "10.0.0.9", "10.0.0.2", 443, "10.0.0.2")));
        assert!(!filter.carries(&flow(6, "10.0.0.9", "198.51.100.1", 80, "198.51.100.1")), "not included");
    }
}
