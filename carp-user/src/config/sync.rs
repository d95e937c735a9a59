//! The table `[sync]`: where the other node is, and what proves it.

use super::fields::{At, Fields};
use super::host::device;
use super::mistake::{Mistake, Place};
use super::reference::{Key, Kind};
use super::{Document, Node, SyncKey, SyncKeys, private, rules, sync_key};
use crate::proto::sync::rule::Rules;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// TCP port of the session where none is configured.
pub const DEFAULT_PORT: u16 = 7112;
/// TCP port of XML-RPC where none is configured.
pub const DEFAULT_CONFIG_PORT: u16 = 7113;

/// The sync link, and the node at its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The device.
    pub device: String,
    /// This node's address there.
    pub address: IpAddr,
    /// The other node's.
    pub peer: IpAddr,
    /// TCP port, on both.
    pub port: u16,
    /// TCP port of XML-RPC over HTTPS, on both.
    pub config_port: u16,
    /// The file that the key came from.
    pub key_file: PathBuf,
    /// The file of the next key, if there is one.
    pub next_key_file: Option<PathBuf>,
    /// What both have.
    pub keys: SyncKeys,
    /// Which connections go to the other node.
    pub rules: Rules,
}

/// Keys of the table `[sync]`.
pub const SYNC: &[Key] = &[
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "",
        unit: "",
        default: "",
        example: r#""sync""#,
        meaning: "Role or device of the link to the other node; the session leaves and comes in by no other.",
    },
    Key {
        name: "address",
        kind: Kind::Text,
        range: "IPv4 or IPv6",
        unit: "",
        default: "",
        example: r#""10.255.0.1""#,
        meaning: "This node's own address on that link.",
    },
    Key {
        name: "peer",
        kind: Kind::Text,
        range: "of the same family",
        unit: "",
        default: "",
        example: r#""10.255.0.2""#,
        meaning: "The other node's address there. Nobody else is listened to.",
    },
    Key {
        name: "port",
        kind: Kind::Number(1, 65535, Some(DEFAULT_PORT)),
        range: "the same on both nodes",
        unit: "",
        default: "7112",
        example: "7112",
        meaning: "TCP port of the session.",
    },
    Key {
        name: "config_port",
        kind: Kind::Number(1, 65535, Some(DEFAULT_CONFIG_PORT)),
        range: "the same on both nodes, and not `port`",
        unit: "",
        default: "7113",
        example: "7113",
        meaning: "TCP port of XML-RPC over HTTPS, by which the nodes replicate their configuration; carpd answers there once \
                  there is an account. See [XML-RPC](xmlrpc.md).",
    },
    Key {
        name: "key_file",
        kind: Kind::Text,
        range: "mode 0600; 64 hexadecimal digits",
        unit: "",
        default: "",
        example: r#""/etc/carp/sync.key""#,
        meaning: "File with the key that both nodes have, made by `carpctl genkey`. The session is encrypted with it, \
                  and who does not have it gets nothing. A relative path starts at the directory of the shared file.",
    },
    Key {
        name: "next_key_file",
        kind: Kind::Text,
        range: "as `key_file`",
        unit: "",
        default: "none",
        example: r#""/etc/carp/next.key""#,
        meaning: "File with another key that is as good, for a change of keys during which the session goes on: see \
                  [replication](replication.md).",
    },
    Key {
        name: "exclude",
        kind: Kind::Rules,
        range: "at most 64; the same on both nodes",
        unit: "",
        default: "none",
        example: r#"[{ protocol = "udp", port = 53 }]"#,
        meaning: "Connections that are not replicated: those that match one of these rules.",
    },
    Key {
        name: "include",
        kind: Kind::Rules,
        range: "at most 64; the same on both nodes",
        unit: "",
        default: "all",
        example: r#"[{ prefix = "10.9.0.0/16" }]"#,
        meaning: "Replicate what matches one of these rules, and nothing else; `exclude` wins.",
    },
];

impl Sync {
    /// Whether this is `other` but for its keys.
    pub(super) fn is_but_for_keys(&self, other: &Self) -> bool {
        let Self { keys, key_file, next_key_file, .. } = self.clone();
        Self { keys, key_file, next_key_file, ..other.clone() } == *self
    }
}

/// From the file of this node: what it says is not the same on both.
pub(super) fn read(
    (shared, own): (&Document, Option<&Document>),
    node: Option<&Node>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Sync> {
    if own.is_some()
        && let Some((key, _)) = shared.top.get_key_value("sync")
    {
        let place = Place { file: shared.file, span: key.span() };
        let mistake = Mistake::at(place, "[sync] in the shared file", "not here");
        mistakes
            .push(mistake.help("move it to the node's own file (--node): the two addresses differ there"));
    }
    let document = own.unwrap_or(shared);
    let table = document.table("sync", "[sync]", mistakes)?;
    let fields = Fields::new((document.file, document.whole), "[sync]", table, SYNC, mistakes);
    let interface = fields.text("interface", mistakes);
    let device = interface.as_ref().and_then(|name| device(name, node, mistakes));
    let address = fields.text("address", mistakes).and_then(|text| unicast(&text, mistakes));
    let peer = fields.text("peer", mistakes).and_then(|text| unicast(&text, mistakes));
    if let (Some(address), Some(peer)) = (&address, &peer) {
        check(address, peer, mistakes);
    }
    let [port, config_port] = ["port", "config_port"].map(|key| fields.number(key, mistakes));
    if let (Some(port), Some(config_port)) = (&port, &config_port)
        && port.value == config_port.value
    {
        let place = config_port.place.clone();
        mistakes.push(Mistake::at(place, "`config_port` is the session's `port`", "expected another port"));
    }
    let file = fields.text("key_file", mistakes);
    let first = file.as_ref().and_then(|file| key(file, &read, mistakes));
    let next_file = fields.optional("next_key_file", mistakes);
    let next = next_file.as_ref().and_then(|file| key(file, &read, mistakes));
    let [include, exclude] = ["include", "exclude"].map(|key| rules::read(&fields, key, mistakes));
    Some(Sync {
        device: device?,
        address: address?.value,
        peer: peer?.value,
        port: port?.value,
        config_port: config_port?.value,
        key_file: file?.value.into(),
        next_key_file: next_file.map(|file| file.value.into()),
        keys: SyncKeys { key: first?, next },
        rules: Rules { include: include?, exclude: exclude? },
    })
}

/// An address that a host can have.
pub(super) fn unicast(text: &At<&str>, mistakes: &mut Vec<Mistake>) -> Option<At<IpAddr>> {
    let ip = text.value.parse::<IpAddr>().ok();
    let is_one = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    let Some(value) = ip.filter(is_one) else {
        let what = format!("\"{}\" is no address of a node", text.value);
        let mistake = Mistake::at(text.place.clone(), what, "expected an IPv4 or IPv6 address");
        mistakes.push(mistake.help("without a prefix length, for example \"10.255.0.1\""));
        return None;
    };
    Some(At { value, place: text.place.clone() })
}

fn check(address: &At<IpAddr>, peer: &At<IpAddr>, mistakes: &mut Vec<Mistake>) {
    let problem = if address.value == peer.value {
        "`peer` is this node's own `address`"
    } else if address.value.is_ipv4() != peer.value.is_ipv4() {
        "`address` and `peer` are of different families"
    } else {
        return;
    };
    let mistake = Mistake::at(peer.place.clone(), problem, "expected the other node's address");
    mistakes.push(mistake.and(address.place.clone(), "of this node"));
}

fn key(
    file: &At<&str>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Option<SyncKey> {
    let path = Path::new(file.value);
    let content = read(path).map_err(sync_key::Problem::from);
    match content.and_then(|content| SyncKey::from_content(path, &content)) {
        Ok(key) => Some(key),
        Err(problem) => {
            let mistake = Mistake::at(file.place.clone(), problem.to_string(), "this file");
            mistakes.push(mistake.help(problem.help()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Mistakes, Source, parse};
    use super::*;

    const HOST: &str = "[[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1\"]\npassword_file = \"pw\"\n";
    const GOOD: &str =
        "interface = \"sync\"\naddress = \"10.255.0.1\"\npeer = \"10.255.0.2\"\nkey_file = \"sync.key\"\n";

    fn source(name: &str, text: String) -> Source {
        Source { name: name.into(), text }
    }

    fn content(file: &Path) -> Result<private::Content, private::Problem> {
        match file.to_str() {
            Some("pw") => Ok(b"secret".to_vec().into()),
            Some("sync.key") => Ok("0a".repeat(32).into_bytes().into()),
            Some("next.key") => Ok("0b".repeat(32).into_bytes().into()),
            _ => Err(private::Problem::TooOpen(file.into(), 0o644)),
        }
    }

    fn with(sync: &str) -> Result<Config, Mistakes> {
        let own = format!(
            "[node]\nname = \"gw1\"\n[node.interfaces]\nsync = \"eth2\"\nlan = \"eth1\"\n[sync]\n{sync}"
        );
        parse(source("carp.toml", HOST.into()), Some(source("node.toml", own)), content)
    }

    /// What is said of the only mistake.
    fn only(sync: &str) -> String {
        let found = with(sync).expect_err(sync);
        assert_eq!(found.list().len(), 1, "{}", found.render(false));
        let mistake = &found.list()[0];
        format!("{}; {}", mistake.what, mistake.help.as_deref().unwrap_or("-"))
    }

    #[test]
    fn the_other_node_is_named_by_its_address_on_the_sync_link() {
        let sync = with(GOOD).expect("right").sync.expect("it is there");
        assert_eq!((sync.device.as_str(), sync.port), ("eth2", DEFAULT_PORT));
        assert_eq!(
            (sync.address.to_string(), sync.peer.to_string()),
            ("10.255.0.1".into(), "10.255.0.2".into())
        );
        assert_eq!((sync.keys.key.bytes(), sync.keys.next), (&[10; 32], None));
        assert_eq!(with(&format!("{GOOD}port = 65535\n")).expect("right").sync.expect("there").port, 65535);
    }

    #[test]
    fn a_configuration_with_other_keys_is_told_from_one_with_another_link() {
        let one = with(GOOD).expect("right");
        let keys = with(&format!("{}next_key_file = \"sync.key\"\n", GOOD.replace("sync.key", "next.key")));
        let keys = keys.expect("right");
        let both = keys.sync.as_ref().expect("there").keys.clone();
        assert_eq!(both.iter().map(|key| key.bytes()[0]).collect::<Vec<_>>(), [11, 10]);
        assert!(one != keys && keys.cannot_follow(&one).is_none());
        assert_eq!(keys.difference_beside_hosts(&one), ["keys of the sync link"]);
        let port = with(&format!("{GOOD}port = 1\n")).expect("right");
        let alone = Config { sync: None, ..one.clone() };
        for other in [port, alone] {
            assert_eq!(other.cannot_follow(&one), Some("[sync] is another one"));
        }
    }

    #[test]
    fn without_the_table_the_node_is_alone() {
        let alone = format!("[node]\nname = \"gw1\"\n{HOST}");
        assert_eq!(parse(source("carp.toml", alone), None, content).expect("right").sync, None);
    }

    #[test]
    fn what_cannot_be_the_other_node_is_refused() {
        let peer = |ip: &str| only(&GOOD.replace("10.255.0.2", ip));
        assert_eq!(peer("10.255.0.1"), "`peer` is this node's own `address`; -");
        assert_eq!(peer("fd00::2"), "`address` and `peer` are of different families; -");
        for ip in ["10.255.0.2/24", "127.0.0.1", "224.0.0.1", "gw2", "::"] {
            assert!(peer(ip).contains("is no address of a node; without a prefix length"), "{}", peer(ip));
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused_with_what_to_do() {
        assert_eq!(
            only(&GOOD.replace("sync.key", "k")),
            "key file k is open to others (mode 0644); chmod 0600 k"
        );
        assert!(
            only(&GOOD.replace("sync.key", "pw"))
                .ends_with("make one with carpctl genkey pw, and copy it to the other node")
        );
    }

    #[test]
    fn in_the_shared_file_it_has_no_place_when_the_node_has_its_own() {
        let shared = source("carp.toml", format!("{HOST}[sync]\n{GOOD}"));
        let own = source("node.toml", "[node]\nname = \"gw1\"\n".into());
        let found = parse(shared, Some(own), content).expect_err("misplaced");
        assert!(found.render(false).contains("move it to the node's own file"), "{}", found.render(false));
    }
}
