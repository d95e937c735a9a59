//! The tables `[[track]]`: what is looked at again and again, and has the node rank lower while it fails.

use super::fields::{At, Fields};
use super::host::tables;
use super::mistake::{Mistake, Place};
use super::reference::{Key, Kind};
use super::script::Script;
use super::{Document, Node};
use crate::proto::track::{MOST, Setup};
use carp_common::time::Span;
use std::collections::BTreeMap;

/// Names of what a track can look at.
pub const KINDS: &[&str] = &["script"];

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
        meaning: "What it looks at. `script`: a program ends with exit code 0.",
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

/// Keys that only some kinds have: those that a kind needs or may have.
const OF_KINDS: &[(&str, &[&str])] = &[("script", &["script"])];

/// One `[[track]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// 1..=32 of a-z, 0-9 and `-`.
    pub name: String,
    /// What it looks at.
    pub probe: Probe,
    /// Added to every skew while it fails, 1..=254.
    pub demote: u8,
    /// Between the beginnings of two attempts, ms.
    pub interval: u16,
    /// Longest attempt, ms.
    pub timeout: u16,
    /// Good attempts in a row that end a failure.
    pub rise: u8,
    /// Bad ones that begin one.
    pub fall: u8,
}

/// What a track looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// How a program of this node ends.
    Script {
        /// Its name in `[node.scripts]`.
        name: String,
        /// What that is here.
        script: Script,
    },
}

impl Track {
    /// As it is counted.
    pub fn setup(&self) -> Setup {
        Setup {
            name: self.name.clone(),
            what: self.probe.text(),
            amount: self.demote,
            interval: Span::millis(self.interval.into()),
            timeout: Span::millis(self.timeout.into()),
            rise: self.rise,
            fall: self.fall,
        }
    }
}

impl Probe {
    /// In words: what it looks at, and all of that.
    pub fn text(&self) -> String {
        match self {
            Self::Script { name, script: Script { command, user } } => {
                format!("script {name}: {} as {user}", command.join(" "))
            }
        }
    }

    /// Its name in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Script { .. } => "script",
        }
    }
}

/// All tracks that are in order.
pub(super) fn read(document: &Document, node: Option<&Node>, mistakes: &mut Vec<Mistake>) -> Vec<Track> {
    let tables = tables(document, "track", "begin each track with a line [[track]]", mistakes);
    if let (true, Some((_, span))) = (tables.len() > MOST, tables.last()) {
        let place = Place { file: document.file, span: span.clone() };
        mistakes.push(Mistake::at(
            place,
            format!("{} tracks", tables.len()),
            format!("expected at most {MOST}"),
        ));
    }
    let mut known = BTreeMap::new();
    let mut tracks = Vec::new();
    for table in tables {
        let fields = Fields::new((document.file, document.whole), "[[track]]", table, TRACK, mistakes);
        tracks.extend(track(&fields, node, &mut known, mistakes));
    }
    tracks
}

fn track(
    fields: &Fields<'_>,
    node: Option<&Node>,
    known: &mut BTreeMap<String, Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Track> {
    let name = fields.text("name", mistakes).and_then(|name| unique(&name, "track", known, mistakes));
    let kind = fields.choice("kind", mistakes);
    let probe = kind.as_ref().and_then(|kind| probe(fields, kind, node, mistakes));
    let demote = fields.number("demote", mistakes);
    let [interval, timeout] = ["interval", "timeout"].map(|key| fields.number(key, mistakes));
    let [rise, fall] = ["rise", "fall"].map(|key| fields.number(key, mistakes));
    Some(Track {
        name: name?,
        probe: probe?,
        demote: demote?.value,
        interval: interval?.value,
        timeout: timeout?.value,
        rise: rise?.value,
        fall: fall?.value,
    })
}

fn probe(
    fields: &Fields<'_>,
    kind: &At<&str>,
    node: Option<&Node>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Probe> {
    let own = OF_KINDS.iter().find(|(name, _)| *name == kind.value).map_or(&[][..], |(_, keys)| keys);
    let others = OF_KINDS.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key));
    for key in others.filter(|key| fields.has(key)) {
        let what = format!("`{key}` is nothing for a track of kind \"{}\"", kind.value);
        mistakes.push(Mistake::at(fields.place_of(key), what, "not with this kind").help(format!(
            "take it out, or write the kind that it belongs to: {}",
            kinds_with(key).join(", ")
        )));
    }
    let name = fields.text("script", mistakes)?;
    let script = of_node(&name, node, mistakes)?;
    Some(Probe::Script { name: name.value.to_owned(), script })
}

/// The kinds that this key belongs to.
fn kinds_with(key: &str) -> Vec<&'static str> {
    OF_KINDS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name).collect()
}

/// The script of this name that the node has.
pub(super) fn of_node(name: &At<&str>, node: Option<&Node>, mistakes: &mut Vec<Mistake>) -> Option<Script> {
    let node = node?;
    if let Some(script) = node.scripts.get(name.value) {
        return Some(script.clone());
    }
    let what = format!("there is no script \"{}\" on this node", name.value);
    let known: Vec<&str> = node.scripts.keys().map(String::as_str).collect();
    let known = if known.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    let mistake = Mistake::at(name.place.clone(), what, "expected one of [node.scripts]");
    mistakes.push(mistake.help(format!(
        "{known}; write [node.scripts.{}] and below it command = [\"/path/of/the/program\"], beside [node]",
        name.value
    )));
    None
}

/// A name that stands once.
pub(super) fn unique(
    name: &At<&str>,
    what: &str,
    known: &mut BTreeMap<String, Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<String> {
    if !is_name(name.value) {
        let mistake = Mistake::at(name.place.clone(), format!("\"{}\" cannot be a name", name.value), NAME);
        mistakes.push(mistake);
        return None;
    }
    if let Some(first) = known.get(name.value) {
        let mistake =
            Mistake::at(name.place.clone(), format!("two {what}s called {}", name.value), "second time here");
        mistakes.push(mistake.and(first.clone(), "first here").help("give one of them another name"));
        return None;
    }
    known.insert(name.value.to_owned(), name.place.clone());
    Some(name.value.to_owned())
}

/// What a name can be, in words.
pub(super) const NAME: &str = "expected 1 to 32 of a-z, 0-9 and -";

/// Whether it can be a name.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests;
