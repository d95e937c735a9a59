//! The tables `[[group]]`: virtual hosts that move together.

use super::Document;
use super::fields::{At, Fields};
use super::host::tables;
use super::mistake::{Mistake, Place};
use super::reference::{Key, Kind};
use crate::proto::detect::Detect;
use crate::proto::event::Group;
use carp_common::time::Span;
use std::collections::BTreeMap;

/// Longest name of a group, in bytes.
const MOST_NAME: usize = 32;
/// Whether a group has one election.
pub const MOVES: &[&str] = &["all", "each"];

/// Keys of every table `[[group]]`.
pub const GROUP: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        range: "1 to 32 of a-z 0-9 -, not `all`; no two groups with the same",
        unit: "",
        default: "",
        example: r#""edge""#,
        meaning: "What its virtual hosts, `carpctl failover` and `carpctl explain` call it.",
    },
    Key {
        name: "move",
        kind: Kind::Choice(MOVES),
        range: "",
        unit: "",
        default: r#""all""#,
        example: r#""each""#,
        meaning: "With `all` the group has one role: a node that takes over takes over all of it, and a master is silent \
                  only when it is so on every interface and in every family. Its virtual hosts have the same `base`, \
                  `skew`, `preempt` and `flavour`. With `each` every virtual host has an election of its own, as CARP \
                  has it: for nodes of another make in the same group.",
    },
    Key {
        name: "detect",
        kind: Kind::Number(0, 10, Some(0)),
        range: "",
        unit: "ms",
        default: "0, not at all",
        example: "5",
        meaning: "The backup asks the master's datapath over every interface of the group whether it serves, once in so long. \
                  Three times without an answer, on all of them, and it takes over. Both nodes need XDP for that.",
    },
    Key {
        name: "lease",
        kind: Kind::Number(50, 1000, Some(100)),
        range: "",
        unit: "ms",
        default: "100",
        example: "200",
        meaning: "With `detect`: how long a master goes on to serve after its daemon has shown last that it runs. The backup \
                  takes over when that is over.",
    },
    Key {
        name: "nodes",
        kind: Kind::Number(2, 8, Some(2)),
        range: "",
        unit: "",
        default: "2",
        example: "3",
        meaning: "How many nodes have it. With two, whatever is heard on any interface of the group is of the one other \
                  node, and one confirmation of it counts for all interfaces.",
    },
];

/// All groups that are in order.
pub(super) fn read(document: &Document, mistakes: &mut Vec<Mistake>) -> Vec<Group> {
    let tables = tables(document, "group", "begin each group with a line [[group]]", mistakes);
    let mut known = BTreeMap::new();
    let fields = tables
        .into_iter()
        .map(|table| Fields::new((document.file, document.whole), "[[group]]", table, GROUP, mistakes));
    let fields: Vec<Fields<'_>> = fields.collect();
    fields.iter().filter_map(|fields| group(fields, &mut known, mistakes)).collect()
}

fn group(
    fields: &Fields<'_>,
    known: &mut BTreeMap<String, Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Group> {
    let name = fields.text("name", mistakes);
    let moves = fields.choice("move", mistakes);
    let nodes = fields.number("nodes", mistakes);
    let [detect, lease] = ["detect", "lease"].map(|key| fields.number::<u16>(key, mistakes));
    let At { value: name, place } = name?;
    let is_one = name != "all"
        && !name.is_empty()
        && name.len() <= MOST_NAME
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_one {
        let what = format!("\"{name}\" cannot be the name of a group");
        mistakes.push(Mistake::at(place, what, "expected 1 to 32 of a-z, 0-9 and -, not `all`"));
        return None;
    }
    if let Some(first) = known.get(name) {
        let mistake = Mistake::at(place, format!("the group {name} twice"), "second time here");
        mistakes.push(mistake.and(first.clone(), "first here").help("give it another name, or remove it"));
        return None;
    }
    known.insert(name.to_owned(), place);
    let (as_one, detect) = (moves?.value == "all", detect?);
    if detect.value != 0 && !as_one {
        let mistake = Mistake::at(
            detect.place.clone(),
            "`detect` in a group that does not move as one",
            "nothing asks",
        );
        mistakes.push(mistake.help("take it out, or write move = \"all\""));
    }
    let [interval, lease] = [detect, lease?].map(|time| Span::millis(time.value.into()));
    let detect = (interval != Span::ZERO).then_some(Detect { interval, lease, aside: None });
    Some(Group { name: name.to_owned(), as_one, nodes: nodes?.value, detect })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Mistakes, Source, parse, private};

    const HOSTS: &str = r#"
[node]
name = "gw1"
[[virtual_host]]
interface = "lan0"
group = "edge"
vhid = 1
addresses = ["10.0.0.1/24"]
password_file = "pw"
[[virtual_host]]
interface = "wan0"
group = "edge"
vhid = 2
addresses = ["192.0.2.1/24"]
password_file = "pw"
"#;

    fn with(groups: &str, last: &str) -> Result<Config, Mistakes> {
        let source = Source { name: "carp.toml".to_owned(), text: format!("{groups}{HOSTS}{last}\n") };
        parse(source, None, |_| Ok(private::Content::from(b"secret".to_vec())))
    }

    fn mistakes(groups: &str, last: &str) -> Vec<String> {
        let found = with(groups, last).expect_err("there is a mistake");
        found.list().iter().map(|mistake| mistake.what.clone()).collect()
    }

    #[test]
    fn its_virtual_hosts_are_told_that_they_move_as_one_of_two_nodes_unless_it_says_otherwise() {
        for (keys, expected) in
            [("", (true, true)), ("nodes = 3", (true, false)), ("move = \"each\"", (false, false))]
        {
            let config = with(&format!("[[group]]\nname = \"edge\"\n{keys}\n"), "").expect("right");
            let setup = config.setup(|_| Some(carp_common::id::IfIndex(3)), 9).expect("links are there");
            for host in setup.hosts {
                assert_eq!(
                    (
                        host.group.as_ref().map(|group| &*group.name),
                        (host.grouped().is_some(), host.is_of_pair())
                    ),
                    (Some("edge"), expected),
                    "{keys}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_group_is_told() {
        let group = "[[group]]\nname = \"edge\"\n";
        let ranks = ["the group edge moves as one, and this one ranks otherwise"];
        for last in ["skew = 9", "base = 2", "preempt = false", "flavour = \"openbsd\""] {
            assert_eq!(mistakes(group, last), ranks, "{last}");
        }
        assert!(with(&format!("{group}move = \"each\"\n"), "skew = 9").is_ok());
        assert_eq!(mistakes("", ""), ["there is no group \"edge\""; 2]);
        assert_eq!(mistakes(&group.repeat(2), ""), ["the group edge twice"]);
        let each = format!("{group}move = \"each\"\ndetect = 5\n");
        assert_eq!(mistakes(&each, ""), ["`detect` in a group that does not move as one"]);
        assert_eq!(
            mistakes(&format!("{group}[[group]]\nname = \"all\"\n"), ""),
            ["\"all\" cannot be the name of a group"]
        );
    }
}
