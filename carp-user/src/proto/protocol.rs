//! Names of the protocols of IP that the kernel tracks connections of, as `/proc/net/nf_conntrack` has them.

/// Name and number.
pub const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("sctp", 132),
    ("dccp", 33),
    ("gre", 47),
    ("icmp", 1),
    ("icmpv6", 58),
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
