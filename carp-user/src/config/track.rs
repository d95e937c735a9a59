//! The tables `[[track]]`: what is looked at again and again, and has the node rank lower while it fails.

pub(super) mod keys;

use super::fields::{At, Fields};
use super::host::{device, tables};
use super::mistake::{Mistake, Place};
use super::script::Script;
use super::{Document, HostConfig, Node, sync};
use crate::proto::track::{MOST, Setup};
use carp_common::time::Span;
use keys::TRACK;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Keys that only some kinds have: those that a kind needs or may have.
const OF_KINDS: &[(&str, &[&str])] = &[
    ("script", &["script"]),
    ("gateway", &["interface", "address"]),
    ("process", &["process"]),
    ("unit", &["unit"]),
    ("file", &["file", "exists"]),
    ("interface", &["interface", "errors"]),
    ("wake-ups", &["most"]),
];

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
    /// Whether a host answers.
    Gateway {
        /// As written: a role, or a device.
        interface: String,
        /// The device.
        device: String,
        /// The host.
        address: IpAddr,
    },
    /// Whether a process runs.
    Process {
        /// Its name, or the path of a file with its number.
        process: String,
    },
    /// Whether a unit of systemd's is active.
    Unit {
        /// Its name.
        unit: String,
    },
    /// Whether a file is there.
    File {
        /// Absolute.
        file: PathBuf,
        /// Or whether it is not.
        exists: bool,
    },
    /// Whether a link has a carrier, and not too many errors.
    Interface {
        /// As written: a role, or a device.
        interface: String,
        /// The device.
        device: String,
        /// Most errors of receiving a second, if that counts.
        errors: Option<u16>,
    },
    /// How late carpd itself wakes.
    WakeUps {
        /// At most, ms.
        most: u16,
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
            Self::Gateway { device, address, .. } => format!("{address} on {device}"),
            Self::Process { process } => format!("process {process}"),
            Self::Unit { unit } => format!("unit {unit}"),
            Self::File { file, exists: true } => format!("file {}", file.display()),
            Self::File { file, exists: false } => format!("no file {}", file.display()),
            Self::Interface { device, errors: None, .. } => format!("link {device}"),
            Self::Interface { device, errors: Some(errors), .. } => {
                format!("link {device}, at most {errors} errors a second")
            }
            Self::WakeUps { most } => format!("wake-ups at most {most} ms late"),
        }
    }

    /// Its name in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Script { .. } => "script",
            Self::Gateway { .. } => "gateway",
            Self::Process { .. } => "process",
            Self::Unit { .. } => "unit",
            Self::File { .. } => "file",
            Self::Interface { .. } => "interface",
            Self::WakeUps { .. } => "wake-ups",
        }
    }
}

/// All tracks that are in order.
pub(super) fn read(
    document: &Document,
    node: Option<&Node>,
    hosts: &[HostConfig],
    mistakes: &mut Vec<Mistake>,
) -> Vec<Track> {
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
        tracks.extend(track(&fields, (node, hosts), &mut known, mistakes));
    }
    tracks
}

fn track(
    fields: &Fields<'_>,
    around: (Option<&Node>, &[HostConfig]),
    known: &mut BTreeMap<String, Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Track> {
    let name = fields.text("name", mistakes).and_then(|name| unique(&name, "track", known, mistakes));
    let kind = fields.choice("kind", mistakes);
    let probe = kind.as_ref().and_then(|kind| probe(fields, kind, around, mistakes));
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
    (node, hosts): (Option<&Node>, &[HostConfig]),
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
    let text = |key: &str, mistakes: &mut Vec<Mistake>| fields.text(key, mistakes);
    let link = |mistakes: &mut Vec<Mistake>| {
        let interface = text("interface", mistakes)?;
        Some((interface.value.to_owned(), device(&interface, node, mistakes)?))
    };
    Some(match kind.value {
        "gateway" => {
            let link = link(mistakes);
            let address = text("address", mistakes).and_then(|text| sync::unicast(&text, mistakes));
            let (At { value: address, place }, (interface, device)) = (address?, link?);
            if hosts.iter().flat_map(|host| &host.addresses).any(|vip| vip.ip == address) {
                let what = format!("{address} is a VIP: it moves with the role");
                mistakes.push(Mistake::at(place, what, "expected the address of another host"));
            }
            Probe::Gateway { interface, device, address }
        }
        "process" => Probe::Process { process: text("process", mistakes)?.value.to_owned() },
        "unit" => Probe::Unit { unit: unit(&text("unit", mistakes)?, mistakes)? },
        "file" => {
            let (file, exists) = (text("file", mistakes), fields.flag("exists", true, mistakes));
            Probe::File { file: absolute(&file?, mistakes)?, exists: exists? }
        }
        "interface" => {
            let link = link(mistakes);
            let errors = fields.has("errors").then(|| fields.number("errors", mistakes));
            let errors = errors.map(|errors| errors.map(|errors| errors.value));
            let (interface, device) = link?;
            Probe::Interface {
                interface,
                device,
                errors: errors.map_or(Some(None), |errors| errors.map(Some))?,
            }
        }
        "wake-ups" => Probe::WakeUps { most: fields.number("most", mistakes)?.value },
        _script => {
            let name = text("script", mistakes)?;
            let script = of_node(&name, node, mistakes)?;
            Probe::Script { name: name.value.to_owned(), script }
        }
    })
}

fn unit(name: &At<&str>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "@:_.\\-".contains(c);
    let is_one =
        name.value.contains('.') && !name.value.starts_with(['-', '.']) && name.value.chars().all(allowed);
    if !is_one {
        let what = format!("\"{}\" is no name of a unit", name.value);
        let mistake = Mistake::at(name.place.clone(), what, "expected one with its ending");
        mistakes.push(mistake.help("for example \"unbound.service\""));
    }
    is_one.then(|| name.value.to_owned())
}

fn absolute(file: &At<&str>, mistakes: &mut Vec<Mistake>) -> Option<PathBuf> {
    let path = PathBuf::from(file.value);
    if !path.is_absolute() {
        let what = format!("\"{}\" is no absolute path", file.value);
        mistakes.push(Mistake::at(file.place.clone(), what, "expected one that begins with /"));
        return None;
    }
    Some(path)
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
