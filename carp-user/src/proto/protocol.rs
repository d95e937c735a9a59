//! Protocols of IP that the kernel tracks connections of: their numbers, and their names as `/proc/net/nf_conntrack` has
//! them.

pub use carp_common::wire::ip::{CARP, ICMP, ICMPV6};

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_DCCP`.
pub const DCCP: u8 = 33;
/// `IPPROTO_GRE`.
pub const GRE: u8 = 47;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;
/// `IPPROTO_UDPLITE`.
pub const UDPLITE: u8 = 136;

/// Name and number.
pub const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("udplite", UDPLITE),
    ("sctp", SCTP),
    ("dccp", DCCP),
    ("gre", GRE),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
];

/// By name or number; none when it is neither.
pub fn number(text: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok())
}

/// The name, or the number where there is none.
pub fn name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_go_by_name_or_number() {
        assert_eq!(["udp", "47", "ip"].map(number), [Some(17), Some(47), None]);
        assert_eq!([136, 89].map(name), ["udplite", "89"]);
    }
}
