//! Keys of `[[track]]`.

use super::super::reference::{Key, Kind};

/// Names of what a track can look at.
pub const KINDS: &[&str] = &["script", "gateway", "process", "unit", "file", "interface"];

/// Keys of every table `[[track]]`.
pub const TRACK: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        range: "1 to 32 of a-z 0-9 -; once",
        unit: "",
        default: "",
        example: r#""dns""#,
        meaning: "Its name: the demotion is called `track NAME`.",
    },
    Key {
        name: "kind",
        kind: Kind::Choice(KINDS),
        range: "",
        unit: "",
        default: r#""script""#,
        example: r#""script""#,
        meaning: "What it looks at. `script`: a program ends with exit code 0. `gateway`: a host answers an echo request. \
                  `process`: one runs. `unit`: one of systemd's is active. `file`: it is there. `interface`: it has a \
                  carrier.",
    },
    Key {
        name: "script",
        kind: Kind::Text,
        range: "one of `[node.scripts]`; kind `script`",
        unit: "",
        default: "none",
        example: r#""check-dns""#,
        meaning: "The program. Each node says in its own table `[node.scripts.NAME]` what that is.",
    },
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "kinds `gateway` and `interface`, which need it",
        unit: "",
        default: "none",
        example: r#""wan""#,
        meaning: "Role or device.",
    },
    Key {
        name: "address",
        kind: Kind::Text,
        range: "IPv4 or IPv6, no VIP; kind `gateway`, which needs it",
        unit: "",
        default: "none",
        example: r#""192.0.2.254""#,
        meaning: "Who is asked, by ICMP or ICMPv6, out by `interface` and from the node's own address there, whoever is master.",
    },
    Key {
        name: "process",
        kind: Kind::Text,
        range: "kind `process`, which needs it",
        unit: "",
        default: "none",
        example: r#""/run/unbound.pid""#,
        meaning: "Its name as `/proc/PID/comm` has it, or the absolute path of a file with its number.",
    },
    Key {
        name: "unit",
        kind: Kind::Text,
        range: "kind `unit`, which needs it",
        unit: "",
        default: "none",
        example: r#""unbound.service""#,
        meaning: "The unit, with its ending. `systemctl is-active` is asked.",
    },
    Key {
        name: "file",
        kind: Kind::Text,
        range: "absolute; kind `file`, which needs it",
        unit: "",
        default: "none",
        example: r#""/run/ready""#,
        meaning: "The file.",
    },
    Key {
        name: "exists",
        kind: Kind::Flag,
        range: "kind `file`",
        unit: "",
        default: "true",
        example: "false",
        meaning: "Whether it is to be there, or not to be.",
    },
    Key {
        name: "errors",
        kind: Kind::Number(1, u16::MAX, None),
        range: "kind `interface`",
        unit: "1/s",
        default: "none",
        example: "100",
        meaning: "More errors of receiving a second than this fail it, too.",
    },
    Key {
        name: "demote",
        kind: Kind::Number(1, 254, Some(240)),
        range: "",
        unit: "1/256 s",
        default: "240",
        example: "50",
        meaning: "Added to the skew of every virtual host while it fails. 240 is what a lost link adds, and more than any \
                  difference between two nodes; less only counts where the nodes are closer to each other than that.",
    },
    Key {
        name: "interval",
        kind: Kind::Number(100, 60_000, Some(1_000)),
        range: "",
        unit: "ms",
        default: "1000",
        example: "5000",
        meaning: "From the beginning of one attempt to that of the next. There is one at a time: one that takes longer has \
                  the next wait.",
    },
    Key {
        name: "timeout",
        kind: Kind::Number(10, 60_000, Some(1_000)),
        range: "",
        unit: "ms",
        default: "1000",
        example: "3000",
        meaning: "After so long without an outcome an attempt has failed, and is ended.",
    },
    Key {
        name: "rise",
        kind: Kind::Number(1, 100, Some(2)),
        range: "",
        unit: "",
        default: "2",
        example: "5",
        meaning: "So many good attempts in a row lift the demotion.",
    },
    Key {
        name: "fall",
        kind: Kind::Number(1, 100, Some(3)),
        range: "",
        unit: "",
        default: "3",
        example: "1",
        meaning: "So many failed ones in a row put it in place. Before the first attempts a track counts as good.",
    },
];
