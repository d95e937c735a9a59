//! The tables `[[hook]]`: the programs that are told of what becomes of a virtual host.

use super::fields::Fields;
use super::host::tables;
use super::mistake::{Mistake, Place};
use super::reference::{Key, Kind};
use super::script::Script;
use super::track::of_node;
use super::{Document, Node};
use crate::proto::gate;
use carp_common::time::Span;
use std::collections::BTreeMap;

/// When hooks run.
pub const WHEN: &[&str] = &["notify", "gate"];
/// What follows when a gate does not end in time.
pub const ON_TIMEOUT: &[&str] = &["pass", "veto"];
/// What the end of a gate, and telling of it, may take beyond its own time.
const SLACK: Span = Span::secs(1);

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
        meaning: "`notify`: after a virtual host has another role, or begins or ends to serve. Nothing waits for it. `gate`: before \
                  the node takes over, which waits for it; with exit code 0 it goes on, with any other the node stays a backup. \
                  See [health](health.md).",
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
    Key {
        name: "on_timeout",
        kind: Kind::Choice(ON_TIMEOUT),
        range: "only with `when = \"gate\"`",
        unit: "",
        default: r#""pass""#,
        example: r#""veto""#,
        meaning: "What follows when a gate has not ended by then: the node goes on to take over (`pass`), or stays a backup (`veto`).",
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
    /// When it runs.
    pub when: When,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After something has become of a virtual host.
    Notify,
    /// Before the node takes over.
    Gate {
        /// Whether it goes on when the hook has not ended in time.
        passes_late: bool,
    },
}

impl Hook {
    /// Most hooks. Policy: more are a mistake in the configuration.
    pub const MOST: usize = 16;

    /// What all gates together mean for a virtual host.
    pub(super) fn gate_of(hooks: &[Self]) -> Option<gate::Setup> {
        let gates = || hooks.iter().filter_map(|hook| Some((hook, hook.when.passes_late()?)));
        let first = gates().next();
        let patience =
            gates().map(|(hook, _)| Span::millis(hook.timeout.into())).fold(SLACK, |sum, one| sum + one);
        first.map(|_| gate::Setup { patience, passes_unanswered: gates().all(|(_, passes)| passes) })
    }
}

impl When {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Gate { .. } => "gate",
        }
    }

    /// Of a gate: whether the node goes on when it has not ended in time.
    pub const fn passes_late(self) -> Option<bool> {
        match self {
            Self::Notify => None,
            Self::Gate { passes_late } => Some(passes_late),
        }
    }
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
    let late = fields.choice("on_timeout", mistakes);
    let timeout = fields.number("timeout", mistakes);
    let name = name?;
    if let Some(first) = known.get(name.value) {
        let mistake = Mistake::at(name.place, format!("two hooks of {}", name.value), "second time here");
        mistakes.push(mistake.and(first.clone(), "first here").help("keep one of the two"));
        return None;
    }
    known.insert(name.value.to_owned(), name.place);
    let when = match (when?.value, late?.value) {
        ("gate", late) => When::Gate { passes_late: late == "pass" },
        (_, _) if fields.has("on_timeout") => {
            let what = "`on_timeout` is nothing for a hook that nothing waits for";
            let mistake = Mistake::at(fields.place_of("on_timeout"), what, "only with when = \"gate\"");
            mistakes.push(mistake.help("take it out, or write when = \"gate\""));
            return None;
        }
        (_, _) => When::Notify,
    };
    Some(Hook { name: name.value.to_owned(), script: script?, timeout: timeout?.value, when })
}
