//! Every key of the configuration in one table: the parser knows and limits keys by it, and
//! `docs/config.md` is printed from it.

pub use super::config_sync::CONFIG_SYNC;
pub use super::group::GROUP;
pub use super::hook::HOOK;
pub use super::host::keys::VIRTUAL_HOST;
pub use super::kernel::KERNEL;
pub use super::nat::keys::{FIREWALL, FORWARD, ONE_TO_ONE, OUTBOUND, PREFIX};
pub use super::route::ROUTE;
pub use super::rules::RULE;
pub use super::script::SCRIPT;
pub use super::sync::SYNC;
pub use super::track::keys::TRACK;

use std::fmt::Write;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number between two others, both included, and what counts when it is absent.
    Number(u16, u16, Option<u16>),
    /// One of these strings; the first counts when the key is absent.
    Choice(&'static [&'static str]),
    /// A list of strings.
    List,
    /// A table of strings under names of the user's choice.
    Names,
    /// A list of tables.
    Rules,
    /// Tables under names of the user's choice.
    Scripts,
    /// A whole number, or a string with one or more.
    Numbers,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// In words, the limits that the kind does not tell.
    pub range: &'static str,
    /// Unit of the value, or nothing.
    pub unit: &'static str,
    /// What counts when it is absent, in words; empty when the key is required.
    pub default: &'static str,
    /// Example, as TOML.
    pub example: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Names of the digest variants, as configured.
pub const DIGESTS: &[&str] =
    &["freebsd", "openbsd-nov6ll", "openbsd-orig", "ucarp", "netbsd", "dragonfly", "fb05"];
/// Names of the modes of authentication.
pub const AUTH_MODES: &[&str] = &["carp", "migrate", "strict"];
/// Names of the ways to attach XDP.
pub const XDP_MODES: &[&str] = &["auto", "native", "generic", "tcx", "off"];

/// Names of the flavours of the election.
pub const FLAVOURS: &[&str] = &["freebsd", "openbsd"];

/// What becomes the source of what leaves.
pub const SNAT: &[&str] = &["none", "vip"];

/// Keys of the table `[node]`.
pub const NODE: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        range: "1 to 32 of a-z 0-9 -",
        unit: "",
        default: "",
        example: r#""gw1""#,
        meaning: "Name of this instance: its directory is `/run/carp/NAME`, `carpctl --instance NAME` finds it.",
    },
    Key {
        name: "skew",
        kind: Kind::Number(0, 254, Some(0)),
        range: "the sum with a virtual host's own skew is at most 254",
        unit: "1/256 s",
        default: "0",
        example: "100",
        meaning: "Added to the skew of every virtual host. The node with the smallest skew leads; pfSense gives its \
                  secondary 100.",
    },
    Key {
        name: "preempt",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "true",
        example: "false",
        meaning: "Whether a backup takes over from a master that is worse than itself. Virtual hosts may say \
                  otherwise.",
    },
    Key {
        name: "preempt_delay",
        kind: Kind::Number(0, 3600, Some(0)),
        range: "",
        unit: "s",
        default: "0",
        example: "60",
        meaning: "How long a node that comes back (start, link up) leaves a worse master alone. One that fails is replaced at once.",
    },
    Key {
        name: "xdp",
        kind: Kind::Choice(XDP_MODES),
        range: "",
        unit: "",
        default: r#""auto""#,
        example: r#""generic""#,
        meaning: "How the datapath is attached: in the driver (`native`), behind it (`generic`: copies large \
                  packets), at tc (`tcx`: also where another's program has the XDP slot), in the driver or else at tc \
                  (`auto`), or not at all (`off`: without the fence, announcing the link's own MAC).",
    },
    Key {
        name: "interfaces",
        kind: Kind::Names,
        range: "device names of 1 to 15 bytes",
        unit: "",
        default: "none",
        example: r#"{ lan = "eth1" }"#,
        meaning: "Which device has which role on this node. A name that is not listed is itself a device name.",
    },
    Key {
        name: "scripts",
        kind: Kind::Scripts,
        range: "at most 64; names of 1 to 32 of a-z 0-9 -",
        unit: "",
        default: "none",
        example: r#"{ check-dns = { command = ["/usr/local/lib/carp/check-dns"] } }"#,
        meaning: "The programs of this node that tracks and hooks may start, by name: see `[node.scripts.NAME]` and \
                  [health](health.md).",
    },
];

/// The top-level tables.
pub const TOP: &[&str] = &[
    "node",
    "sync",
    "config_sync",
    "group",
    "virtual_host",
    "route",
    "nat",
    "firewall",
    "kernel",
    "track",
    "hook",
];

/// The reference of all keys as Markdown: the content of `docs/config.md`.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    table(&mut text, "[node]", NODE_INTRO, NODE);
    table(&mut text, "[node.scripts.NAME]", SCRIPT_INTRO, SCRIPT);
    table(&mut text, "[sync]", SYNC_INTRO, SYNC);
    table(&mut text, "[sync] include, exclude", RULE_INTRO, RULE);
    table(&mut text, "[config_sync]", CONFIG_SYNC_INTRO, CONFIG_SYNC);
    table(&mut text, "[[group]]", GROUP_INTRO, GROUP);
    table(&mut text, "[[virtual_host]]", HOST_INTRO, VIRTUAL_HOST);
    table(&mut text, "[[route]]", ROUTE_INTRO, ROUTE);
    table(&mut text, "[[nat.outbound]]", OUTBOUND_INTRO, OUTBOUND);
    table(&mut text, "[[nat.forward]]", FORWARD_INTRO, FORWARD);
    table(&mut text, "[[nat.one_to_one]]", ONE_TO_ONE_INTRO, ONE_TO_ONE);
    table(&mut text, "[[nat.prefix]]", PREFIX_INTRO, PREFIX);
    table(&mut text, "[firewall]", FIREWALL_INTRO, FIREWALL);
    table(&mut text, "[kernel]", KERNEL_INTRO, KERNEL);
    table(&mut text, "[[track]]", TRACK_INTRO, TRACK);
    table(&mut text, "[[hook]]", HOOK_INTRO, HOOK);
    text.push_str(EXAMPLE_HEAD);
    text.push_str(EXAMPLE);
    text.push_str("```\n");
    text
}

/// The complete example in the reference; a test parses it.
pub const EXAMPLE: &str = r#"[node]
name = "gw1"
skew = 0

[node.interfaces]
lan = "eth1"
wan = "eth0"
sync = "eth2"

[sync]
interface = "sync"
address = "10.255.0.1"
peer = "10.255.0.2"
key_file = "/etc/carp/sync.key"

[[virtual_host]]
interface = "lan"
vhid = 1
addresses = ["10.0.0.1/24", "fd00::1/64"]
password_file = "/etc/carp/lan.password"

[[virtual_host]]
interface = "wan"
vhid = 2
addresses = ["192.0.2.1/24"]
password_file = "/etc/carp/wan.password"

[[route]]
to = "default"
via = "192.0.2.254"
interface = "wan"
source = "192.0.2.1"

[[nat.outbound]]
source = ["10.0.0.0/24"]
interface = "wan"
to = "192.0.2.1"

[[nat.forward]]
to = "192.0.2.1"
port = 443
host = "10.0.0.5"
host_port = 8443

[firewall]
enabled = true

[kernel]
forwarding = true
"#;

const HEAD: &str = "# Configuration reference

Printed from the table that the parser itself uses. The format is TOML 1.1; unknown keys are errors.
`carpctl check FILE` reads everything, lists all mistakes with their places, says what does not fit this machine, and changes nothing (`--json` for programs).

Both nodes of a pair can share one file: what is of one node stands in a second file that contains only
`[node]` (and `[sync]`, `[config_sync]`) and is given as `carpd --config carp.toml --node node.toml`. Without `--node` the table `[node]`
stands in the shared file.

[config.schema.json](config.schema.json) says the same as a JSON schema. Editors that go by it (taplo, and the plug-ins
built on it) complete and check keys while one types, in a file that begins with the line `#:schema ./config.schema.json` and has the
schema beside it.
";
pub(super) const NODE_INTRO: &str = "What is of this node alone.";
pub(super) const SCRIPT_INTRO: &str = "A program of this node. Tracks and hooks call it by its name; the other node has its own of that \
     name, or none, and what a pair shares can name no program. It gets no file, secret or variable of carpd's.";
pub(super) const SYNC_INTRO: &str = "The other node, so that tracked connections are there when it takes over. The table stands where `[node]` does.";
pub(super) const CONFIG_SYNC_INTRO: &str = "The node that has this table is the one that is edited, and the other one follows; see [one configuration on two \
     nodes](config-sync.md). The table stands where `[node]` does, on one of the two.";
pub(super) const RULE_INTRO: &str = "One rule: conditions that all have to hold, at least one.";
pub(super) const GROUP_INTRO: &str = "Virtual hosts that belong together, as the LAN and the WAN side of a gateway do; see [groups](groups.md). The table is repeated.";
pub(super) const HOST_INTRO: &str =
    "One virtual host: addresses that move together. The table is repeated for each.";
pub(super) const ROUTE_INTRO: &str = "A route that is there while this node serves, and only then: a virtual host on its interface with addresses of its \
     family, or with `source` the one that has this VIP. It is in the main table. At most 1000.";
pub(super) const OUTBOUND_INTRO: &str = "Connections from inside get a VIP as their source; see [NAT](nat.md). The table is repeated; the first rule that \
     fits counts. All rules of `[nat]` together are at most 5000.";
pub(super) const FORWARD_INTRO: &str = "What comes for a port of a VIP goes to a host behind the gateway.";
pub(super) const ONE_TO_ONE_INTRO: &str = "A VIP stands for one host behind the gateway.";
pub(super) const PREFIX_INTRO: &str =
    "An IPv6 network is another one to the outside (NPTv6, by connection tracking).";
pub(super) const FIREWALL_INTRO: &str = "Rules that keep strangers out; a firewall that is there already needs what `carpctl firewall print` says.";
pub(super) const KERNEL_INTRO: &str =
    "What carpd sees to in the kernel, on both nodes: the one that takes over has to forward, too.";
pub(super) const TRACK_INTRO: &str = "What is looked at again and again, and has the node rank lower while it fails; see [health](health.md). The table is \
     repeated; at most 64.";
pub(super) const HOOK_INTRO: &str = "A program that is told of what becomes of a virtual host, or asked before the node takes over; see [health](health.md). The table is repeated; at most 16.";
const EXAMPLE_HEAD: &str = "\n## Example\n\n```toml\n";

fn table(text: &mut String, name: &str, intro: &str, keys: &[Key]) {
    // Writing into a string cannot fail.
    let _ = write!(text, "\n## `{name}`\n\n{intro}\n\n");
    text.push_str("| key | meaning | type and range | unit | default | example |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for key in keys {
        let Key { name, unit, default, example, meaning, .. } = key;
        let default = match *default {
            "" => "required".to_owned(),
            "none" | "all" | "the peer of the sync link" | "any" | "that of the node" | "the same port" => {
                (*default).to_owned()
            }
            value => format!("`{value}`"),
        };
        let range = range(key);
        let _ = writeln!(text, "| `{name}` | {meaning} | {range} | {unit} | {default} | `{example}` |");
    }
}

fn range(key: &Key) -> String {
    let kind = match key.kind {
        Kind::Text => "string".to_owned(),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Number(least, most, _) => format!("{least} to {most}"),
        Kind::Choice(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Kind::List => "list of strings".to_owned(),
        Kind::Names => "table of strings".to_owned(),
        Kind::Rules => "list of tables".to_owned(),
        Kind::Scripts => "table of tables".to_owned(),
        Kind::Numbers => "number or string".to_owned(),
    };
    if key.range.is_empty() { kind } else { format!("{kind}; {}", key.range) }
}
