//! The keys of `[[nat.…]]`.

use super::super::reference::{Key, Kind};

/// Protocols that have ports to forward.
pub const FORWARDED: &[&str] = &["tcp", "udp"];

/// Keys of the table `[nat]`: its lists.
pub const NAT: &[Key] = &[
    list("outbound", r#"[{ source = ["10.0.0.0/24"], interface = "wan", to = "192.0.2.1" }]"#),
    list("forward", r#"[{ to = "192.0.2.1", port = 443, host = "10.0.0.5" }]"#),
    list("one_to_one", r#"[{ vip = "192.0.2.9", host = "10.0.0.9" }]"#),
    list("prefix", r#"[{ interface = "wan", inside = "fd00::/64", outside = "2001:db8:1::/64" }]"#),
];

/// Keys of every table `[[nat.outbound]]`.
pub const OUTBOUND: &[Key] = &[
    Key {
        name: "source",
        kind: Kind::List,
        range: "at least one; of the family of `to`; no VIP of the interface, no address of the sync link, not everything",
        unit: "",
        default: "",
        example: r#"["10.0.0.0/24"]"#,
        meaning: "Networks behind the gateway whose connections are translated.",
    },
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "one with a virtual host",
        unit: "",
        default: "",
        example: r#""wan""#,
        meaning: "Role or device that the connections leave by.",
    },
    Key {
        name: "to",
        kind: Kind::Text,
        range: "a VIP of that interface",
        unit: "",
        default: "",
        example: r#""192.0.2.1""#,
        meaning: "The source address that the outside sees.",
    },
    Key {
        name: "except",
        kind: Kind::List,
        range: "of the family of `to`",
        unit: "",
        default: "none",
        example: r#"["10.0.0.0/8"]"#,
        meaning: "Destinations to which this rule does not translate.",
    },
    Key {
        name: "protocol",
        kind: Kind::Numbers,
        range: "`tcp`, `udp`, `udplite`, `sctp`, `dccp`, `gre`, `icmp`, `icmpv6`, or 0 to 255",
        unit: "",
        default: "any",
        example: r#""udp""#,
        meaning: "Protocol of IP.",
    },
    Key {
        name: "ports",
        kind: Kind::Numbers,
        range: "first-last, 1 to 65535; not with a protocol without ports",
        unit: "",
        default: "any",
        example: r#""20000-29999""#,
        meaning: "Source ports that the outside sees, of TCP and UDP, or of `protocol`.",
    },
    Key {
        name: "static_port",
        kind: Kind::Flag,
        range: "not with `ports`",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether a source port stays what it is where that is free (IPsec, games); otherwise each \
                  connection gets one by chance.",
    },
];

/// Keys of every table `[[nat.forward]]`.
pub const FORWARD: &[Key] = &[
    Key {
        name: "to",
        kind: Kind::Text,
        range: "a VIP",
        unit: "",
        default: "",
        example: r#""192.0.2.1""#,
        meaning: "The address that the outside connects to, on the interface of its virtual host.",
    },
    Key {
        name: "protocol",
        kind: Kind::Choice(FORWARDED),
        range: "",
        unit: "",
        default: r#""tcp""#,
        example: r#""udp""#,
        meaning: "Protocol of IP.",
    },
    Key {
        name: "port",
        kind: Kind::Numbers,
        range: "one, or first-last, 1 to 65535; no two rules for the same",
        unit: "",
        default: "",
        example: "443",
        meaning: "The port that the outside connects to.",
    },
    Key {
        name: "host",
        kind: Kind::Text,
        range: "of the family of `to`; no VIP",
        unit: "",
        default: "",
        example: r#""10.0.0.5""#,
        meaning: "The host behind the gateway that answers.",
    },
    Key {
        name: "host_port",
        kind: Kind::Number(1, 65535, Some(0)),
        range: "not with a range in `port`",
        unit: "",
        default: "the same port",
        example: "8443",
        meaning: "Its port.",
    },
    Key {
        name: "hairpin",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether who is inside reaches the host by the VIP, too (NAT reflection); the host then sees the \
                  VIP as the source.",
    },
];

/// Keys of every table `[[nat.one_to_one]]`.
pub const ONE_TO_ONE: &[Key] = &[
    Key {
        name: "vip",
        kind: Kind::Text,
        range: "a VIP; each once",
        unit: "",
        default: "",
        example: r#""192.0.2.9""#,
        meaning: "The address that the outside sees, on the interface of its virtual host.",
    },
    Key {
        name: "host",
        kind: Kind::Text,
        range: "of the family of `vip`; no VIP; each once",
        unit: "",
        default: "",
        example: r#""10.0.0.9""#,
        meaning: "The host that has it for itself: what comes for the VIP and is forwarded by no rule above goes to \
                  it, and what it begins leaves as the VIP.",
    },
];

/// Keys of every table `[[nat.prefix]]`.
pub const PREFIX: &[Key] = &[
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "one with a virtual host",
        unit: "",
        default: "",
        example: r#""wan""#,
        meaning: "Role or device of the outside.",
    },
    Key {
        name: "inside",
        kind: Kind::Text,
        range: "IPv6; no VIP of the interface, no address of the sync link, not everything; in one rule",
        unit: "",
        default: "",
        example: r#""fd00::/64""#,
        meaning: "Network behind the gateway.",
    },
    Key {
        name: "outside",
        kind: Kind::Text,
        range: "IPv6; as long as `inside`; without a VIP; in one rule",
        unit: "",
        default: "",
        example: r#""2001:db8:1::/64""#,
        meaning: "What it is to the outside, which routes this network to a VIP: each address for the one with the \
                  same rest, both ways.",
    },
];

/// Keys of the table `[firewall]`.
pub const FIREWALL: &[Key] = &[
    Key {
        name: "enabled",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether the session of `[sync]` is accepted from the peer on the sync link and dropped from anywhere \
              else, and CARP and VRRP are dropped on interfaces without a virtual host.",
    },
    Key {
        name: "flowtable",
        kind: Kind::Flag,
        range: "two interfaces with virtual hosts or more",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether TCP and UDP connections that are established take the short way through the kernel (a flowtable \
                  of nftables, in software), between the interfaces of virtual hosts; see [NAT](nat.md) for what that means \
                  for other firewalls and for a fail-over.",
    },
];

const fn list(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Rules, range: "", unit: "", default: "none", example, meaning: "" }
}
