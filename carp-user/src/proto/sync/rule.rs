//! Rules of the configuration that say which flows are replicated.

use crate::proto::flow::{Flow, Ids, Tuple};
use crate::proto::protocol::GRE;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Which flows are replicated, by rules; without any rule, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// If there are any, only what matches one of them is replicated. At most [`Rules::MOST`].
    pub include: Vec<Rule>,
    /// What matches one of them is not, whatever the others say. At most [`Rules::MOST`].
    pub exclude: Vec<Rule>,
}

/// Conditions that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who began it, whom it was for, or who answers in truth, is in here.
    pub prefix: Option<Prefix>,
    /// Its protocol of IP.
    pub protocol: Option<u8>,
    /// The port that it was for is one of these.
    pub ports: Option<RangeInclusive<u16>>,
    /// Its mark has this value, of the bits of the mask.
    pub mark: Option<Mark>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// Some bits of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What they are.
    pub value: u32,
    /// Which they are.
    pub mask: u32,
}

impl Rules {
    /// Most rules of a kind: every event is compared with them. Policy: more are a mistake in the configuration.
    pub const MOST: usize = 64;

    /// Whether they let this flow be replicated.
    pub fn carry(&self, flow: &Flow) -> bool {
        !self.exclude.iter().any(|rule| rule.matches(flow))
            && (self.include.is_empty() || self.include.iter().any(|rule| rule.matches(flow)))
    }

    /// Whether a flow of an address that is this node's own, or loopback, is asked for: by the rule that it
    /// matches, and that speaks of such an address and not only of a network that it happens to be in.
    pub fn ask_for(&self, address: IpAddr, flow: &Flow) -> bool {
        self.include.iter().any(|rule| rule.names(address) && rule.matches(flow))
    }
}

impl Rule {
    /// Whether all conditions hold.
    pub fn matches(&self, flow: &Flow) -> bool {
        let original = &flow.key.original;
        let [from, to, answers] = [original.source, original.destination, flow.reply.source];
        self.prefix.is_none_or(|prefix| [from, to, answers].iter().any(|address| prefix.contains(*address)))
            && self.protocol.is_none_or(|protocol| protocol == original.protocol)
            && self
                .ports
                .as_ref()
                .is_none_or(|ports| port(original).is_some_and(|port| ports.contains(&port)))
            && self.mark.is_none_or(|mark| flow.mark & mark.mask == mark.value & mark.mask)
    }

    fn names(&self, address: IpAddr) -> bool {
        self.prefix.is_some_and(|prefix| {
            prefix.contains(address) && (prefix.is_one_address() || prefix.is_loopback())
        })
    }
}

/// The port that these packets are for; what stands in its place with GRE is a key.
fn port(tuple: &Tuple) -> Option<u16> {
    match tuple.ids {
        Ids::Ports { destination, .. } if tuple.protocol != GRE => Some(destination),
        Ids::Ports { .. } | Ids::Icmp { .. } | Ids::None => None,
    }
}

impl Prefix {
    /// None when the length is more than the address has. Bits behind the prefix do not matter.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (address, most) = match address {
            IpAddr::V4(v4) => (Ipv4Addr::from_bits(v4.to_bits() & high_bits_of_4(len)).into(), 32),
            IpAddr::V6(v6) => (Ipv6Addr::from_bits(v6.to_bits() & high_bits_of_16(len)).into(), 128),
        };
        (len <= most).then_some(Self { address, len })
    }

    /// This address alone.
    pub const fn of(address: IpAddr) -> Self {
        Self { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether this address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.len).is_some_and(|prefix| prefix == self)
    }

    /// Its first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    pub const fn length(self) -> u8 {
        self.len
    }

    /// Whether it is the whole address.
    pub fn is_one_address(self) -> bool {
        self == Self::of(self.address)
    }

    /// Whether all of it is loopback.
    pub fn is_loopback(self) -> bool {
        self.address.is_loopback() && (self.len >= 8 && self.address.is_ipv4() || self.is_one_address())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

fn high_bits_of_4(len: u8) -> u32 {
    !u32::MAX.checked_shr(len.into()).unwrap_or(0)
}

fn high_bits_of_16(len: u8) -> u128 {
    !u128::MAX.checked_shr(len.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    fn flow(protocol: u8, from: &str, to: &str, port: u16) -> Flow {
        let ids = Ids::Ports { source: 40_000, destination: port };
        let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
        let tuple = Tuple { source, destination, protocol, ids };
        let mut flow = Flow::untranslated(tuple).unwrap();
        flow.mark = 0x1234;
        flow
    }

    #[test]
    fn a_prefix_has_the_addresses_that_begin_like_it() {
        for (text, inside, outside) in [
            ("10.9.0.0/16", "10.9.255.255", "10.10.0.0"),
            ("10.9.0.128/25", "10.9.0.200", "10.9.0.127"),
            ("10.9.0.1/32", "10.9.0.1", "10.9.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("fd00:1::/33", "fd00:1:7fff::", "fd00:1:8000::"),
            ("::/0", "ffff::", "10.0.0.1"),
            ("fd00::1/128", "fd00::1", "fd00::2"),
        ] {
            assert!(prefix(text).contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!prefix(text).contains(outside.parse().unwrap()), "{outside} in {text}");
        }
        assert_eq!(prefix("10.9.7.7/16"), prefix("10.9.0.0/16"));
        assert_eq!(Prefix::new([10, 0, 0, 0].into(), 33), None);
        assert!(prefix("127.0.0.0/8").is_loopback() && prefix("::1/128").is_loopback());
        assert!(!prefix("127.0.0.0/7").is_loopback() && !prefix("::/0").is_loopback());
    }

    #[test]
    fn all_conditions_of_a_rule_have_to_hold() {
        let flow = flow(17, "10.9.0.1", "198.51.100.1", 53);
        let rule = Rule {
            prefix: Some(prefix("10.9.0.0/16")),
            protocol: Some(17),
            ports: Some(50..=53),
            mark: Some(Mark { value: 0x30, mask: 0xf0 }),
        };
        assert!(rule.matches(&flow));
        assert!(Rule::default().matches(&flow), "no condition, no objection");
        for (what, other) in [
            ("prefix", Rule { prefix: Some(prefix("10.10.0.0/16")), ..rule.clone() }),
            ("protocol", Rule { protocol: Some(6), ..rule.clone() }),
            ("ports", Rule { ports: Some(54..=60), ..rule.clone() }),
            ("mark", Rule { mark: Some(Mark { value: 0x30, mask: u32::MAX }), ..rule.clone() }),
        ] {
            assert!(!other.matches(&flow), "{what}");
        }
    }

    #[test]
    fn a_prefix_is_looked_for_at_both_ends_and_at_who_answers() {
        let mut flow = flow(6, "10.9.0.1", "198.51.100.1", 443);
        flow.reply.source = [172, 16, 0, 1].into();
        flow.reply.destination = [192, 0, 2, 1].into();
        let found = |text| Rule { prefix: Some(prefix(text)), ..Rule::default() }.matches(&flow);
        assert!(found("10.9.0.1/32") && found("198.51.100.0/24") && found("172.16.0.0/12"));
        assert!(!found("192.0.2.1/32"), "what a translation shows to others does not matter");
    }

    #[test]
    fn what_has_no_ports_is_in_no_rule_of_ports() {
        let any = Rule { ports: Some(0..=u16::MAX), ..Rule::default() };
        assert!(any.matches(&flow(132, "10.9.0.1", "10.9.1.1", 1)));
        assert!(!any.matches(&flow(47, "10.9.0.1", "10.9.1.1", 1)), "keys of GRE");
        let mut echo = flow(1, "10.9.0.1", "10.9.1.1", 1);
        echo.key.original.ids = Ids::Icmp { kind: 8, code: 0, id: 1 };
        assert!(!any.matches(&echo));
    }

    #[test]
    fn excluded_is_excluded_and_with_an_include_the_rest_is_too() {
        let udp = Rule { protocol: Some(17), ..Rule::default() };
        let dns = Rule { ports: Some(53..=53), ..Rule::default() };
        let flows = [(17, 53), (17, 123), (6, 53), (6, 443)]
            .map(|(protocol, port)| flow(protocol, "10.9.0.1", "198.51.100.1", port));
        for (include, exclude, carried) in [
            (vec![], vec![], [true, true, true, true]),
            (vec![], vec![dns.clone()], [false, true, false, true]),
            (vec![udp.clone()], vec![], [true, true, false, false]),
            (vec![udp.clone(), dns.clone()], vec![], [true, true, true, false]),
            (vec![udp], vec![dns], [false, true, false, false]),
        ] {
            let rules = Rules { include, exclude };
            assert_eq!(flows.map(|flow| rules.carry(&flow)), carried, "{rules:?}");
        }
    }
}
