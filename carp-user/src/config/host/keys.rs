//! The keys of `[[virtual_host]]`.

use crate::config::reference::{AUTH_MODES, DIGESTS, FLAVOURS, Key, Kind, SNAT};

/// Keys of every table `[[virtual_host]]`.
pub const VIRTUAL_HOST: &[Key] = &[
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "",
        unit: "",
        default: "",
        example: r#""lan""#,
        meaning: "Role or device that the virtual host lives on.",
    },
    Key {
        name: "vhid",
        kind: Kind::Number(1, 255, None),
        range: "unique on its interface, and among CARP and VRRP on the segment",
        unit: "",
        default: "",
        example: "1",
        meaning: "Number of the virtual host; the virtual MAC is 00:00:5e:00:01:VHID.",
    },
    Key {
        name: "addresses",
        kind: Kind::List,
        range: "at least one; unicast; each once",
        unit: "",
        default: "",
        example: r#"["10.0.0.1/24", "fd00::1/64"]"#,
        meaning: "The VIPs. All nodes must list the same ones: they are part of the digest. Without a prefix length \
                  it is the whole address, /32 or /128.",
    },
    Key {
        name: "password_file",
        kind: Kind::Text,
        range: "mode 0600; first line of 1 to 19 bytes, or `hex:` and 40 hexadecimal digits",
        unit: "",
        default: "",
        example: r#""/etc/carp/lan.password""#,
        meaning: "File with the password that all nodes share. A relative path starts at the directory of the file \
                  that names it; `credential:NAME` is a credential of systemd's (`LoadCredential=`), see \
                  [operations](operations.md), here and for the other files with secrets.",
    },
    Key {
        name: "next_password_file",
        kind: Kind::Text,
        range: "as `password_file`",
        unit: "",
        default: "none",
        example: r#""/etc/carp/lan.next""#,
        meaning: "File with another password that is accepted and not sent, for a change of passwords without an \
                  outage: first the new one here on all nodes, then the two swapped, then this key removed.",
    },
    Key {
        name: "auth",
        kind: Kind::Choice(AUTH_MODES),
        range: "see [authentication](authentication.md)",
        unit: "",
        default: r#""carp""#,
        example: r#""strict""#,
        meaning: "How advertisements are signed and judged: as CARP does it (`carp`, for groups with other \
                  implementations), so that nothing can be changed or replayed (`strict`, for groups whose members are \
                  all ours), or both at once on the way from one to the other (`migrate`).",
    },
    Key {
        name: "base",
        kind: Kind::Number(1, 254, Some(1)),
        range: "the same on all nodes",
        unit: "s",
        default: "1",
        example: "1",
        meaning: "Seconds between two advertisements, before the skew. A backup takes over after three of them.",
    },
    Key {
        name: "skew",
        kind: Kind::Number(0, 254, Some(0)),
        range: "the sum with the node's skew is at most 254",
        unit: "1/256 s",
        default: "0",
        example: "0",
        meaning: "Added to the base; the smaller interval leads.",
    },
    Key {
        name: "preempt",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "that of the node",
        example: "true",
        meaning: "Whether a backup takes over from a master that is worse than itself.",
    },
    Key {
        name: "preempt_delay",
        kind: Kind::Number(0, 3600, Some(0)),
        range: "",
        unit: "s",
        default: "that of the node",
        example: "60",
        meaning: "How long it waits with that after it has come back.",
    },
    Key {
        name: "flavour",
        kind: Kind::Choice(FLAVOURS),
        range: "",
        unit: "",
        default: r#""freebsd""#,
        example: r#""openbsd""#,
        meaning: "Whose timers and rules the election follows. `freebsd` (pfSense, OPNsense, ucarp): a demotion is \
                  added to the skew. `openbsd`, for groups with OpenBSD: it is told apart from the skew and compares \
                  first, and the dead time is three whole intervals. All nodes of a group should have the same.",
    },
    Key {
        name: "digest",
        kind: Kind::Choice(DIGESTS),
        range: "`ucarp` needs exactly one IPv4 address",
        unit: "",
        default: r#""freebsd""#,
        example: r#""openbsd-nov6ll""#,
        meaning: "Digest variant that is sent. `freebsd` (pfSense, OPNsense), `openbsd-nov6ll` and the one sent are \
                  accepted.",
    },
    Key {
        name: "answer_ping",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether the datapath itself answers pings to the addresses, before the firewall sees them: health \
                  checks at line rate. With `xdp = \"off\"`, and otherwise, the kernel answers.",
    },
    Key {
        name: "tos",
        kind: Kind::Number(0, 255, Some(0xe0)),
        range: "",
        unit: "",
        default: "0xe0",
        example: "0x10",
        meaning: "Type of service (IPv4) and traffic class (IPv6) of the advertisements; 0xe0 is network control.",
    },
    Key {
        name: "group",
        kind: Kind::Text,
        range: "the name of a `[[group]]`",
        unit: "",
        default: "none",
        example: r#""edge""#,
        meaning: "The group that it moves with.",
    },
    Key {
        name: "snat",
        kind: Kind::Choice(SNAT),
        range: "`vip` needs an IPv4 address; once on an interface",
        unit: "",
        default: r#""none""#,
        example: r#""vip""#,
        meaning: "With `vip`, what comes from inside and leaves by this interface gets the virtual host's first IPv4 \
                  address as its source, after all rules of `[[nat.outbound]]`: private networks, and those of the \
                  VIPs on interfaces without this key. What the nodes send themselves never does. See [NAT](nat.md).",
    },
];
