//! The tables `[[hook]]`: the programs that are told of what becomes of a virtual host.

use super::fields::Fields;
use super::host::tables;
use super::mistake::{Mistake, Place};
use super::reference::{Key, Kind};
use super::script::Script;
use super::track::of_node;
use super::{Document, Node};
use std::collections::BTreeMap;

/// When hooks run.
pub const WHEN: &[&str] = &["notify"];

/// Keys of every table `[[hook]]`.
pub const HOOK: &[Key] = &[
    Key {
        name: "script",
        kind: Kind::Text,
        range: "one of `[node.scripts]`; once",
        unit: "",
        default: "",
        example: r#""tell""#,
        meaning: "The program. Each node says in its own table `[node.scripts.NAME]` what that is.",
    },
    Key {
        name: "when",
        kind: Kind::Choice(WHEN),
        range: "",
        unit: "",
        default: r#""notify""#,
        example: r#""notify""#,
        meaning: "`notify`: after a virtual host has another role, or begins or ends to serve. Nothing waits for it.",
    },
    Key {
        name: "timeout",
        kind: Kind::Number(10, 60_000, Some(10_000)),
        range: "",
        unit: "ms",
        default: "10000",
        example: "2000",
        meaning: "After so long it is ended.",
    },
];

/// One `[[hook]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name in `[node.scripts]`.
    pub name: String,
    /// What that is here.
    pub script: Script,
    /// Longest run, ms.
    pub timeout: u16,
}

impl Hook {
    /// Most hooks. Policy: more are a mistake in the configuration.
    pub const MOST: usize = 16;
}

/// All hooks that are in order.
pub(super) fn read(document: &Document, node: Option<&Node>, mistakes: &mut Vec<Mistake>) -> Vec<Hook> {
    let tables = tables(document, "hook", "begin each hook with a line [[hook]]", mistakes);
    if let (true, Some((_, span))) = (tables.len() > Hook::MOST, tables.last()) {
        let place = Place { file: document.file, span: span.clone() };
        let what = format!("{} hooks", tables.len());
        mistakes.push(Mistake::at(place, what, format!("expected at most {}", Hook::MOST)));
    }
    let mut known = BTreeMap::new();
    let mut hooks = Vec::new();
    for table in tables {
        let fields = Fields::new((document.file, document.whole), "[[hook]]", table, HOOK, mistakes);
        hooks.extend(hook(&fields, node, &mut known, mistakes));
    }
    hooks
}

fn hook(
    fields: &Fields<'_>,
    node: Option<&Node>,
    known: &mut BTreeMap<String, Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Hook> {
    let name = fields.text("script", mistakes);
    let script = name.as_ref().and_then(|name| of_node(name, node, mistakes));
    let when = fields.choice("when", mistakes);
    let timeout = fields.number("timeout", mistakes);
    let name = name?;
    if let Some(first) = known.get(name.value) {
        let mistake = Mistake::at(name.place, format!("two hooks of {}", name.value), "second time here");
        mistakes.push(mistake.and(first.clone(), "first here").help("keep one of the two"));
        return None;
    }
    known.insert(name.value.to_owned(), name.place);
    when?;
    Some(Hook { name: name.value.to_owned(), script: script?, timeout: timeout?.value })
}
