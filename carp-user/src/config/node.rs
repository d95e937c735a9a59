//! The table `[node]`, in the shared file or in the node's own.

#[cfg(doc)]
use super::HostConfig;
use super::fields::{At, Fields, nearest};
use super::mistake::{Mistake, Place};
use super::script::{self, Asked, Script, Unfit};
use super::sections::{SECTIONS, Section};
use super::{Document, reference};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::de::DeTable;

const MOST_NAME: usize = 32;
/// The kernel's IFNAMSIZ, without the NUL.
const MOST_DEVICE: usize = 15;
const MINIMAL: &str = "[node] and below it name = \"gw1\"";

/// The table `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Instance name: 1..=32 of a-z, 0-9 and `-`.
    pub name: String,
    /// Added to every skew; already in [`HostConfig::pace`].
    pub skew: u8,
    /// Default for virtual hosts; already in [`HostConfig::preempt`].
    pub preempt: bool,
    /// Default for virtual hosts, seconds; already in [`HostConfig::preempt_delay`].
    pub preempt_delay: u16,
    /// How XDP is attached.
    pub xdp: XdpMode,
    /// Role to device; already in [`HostConfig::device`].
    pub interfaces: BTreeMap<String, String>,
    /// Programs that tracks and hooks may start, by name.
    pub scripts: BTreeMap<String, Script>,
}

/// How the datapath is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, else behind it.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// Behind the driver.
    Generic,
    /// At tc.
    Tcx,
    /// Not at all.
    Off,
}

/// The node from the file that has to have it; unknown tables of both files become mistakes.
pub(super) fn read(
    shared: &Document,
    own: Option<&Document>,
    examine: &dyn Fn(Asked<'_>) -> Result<(), Unfit>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Node> {
    unknown_tables(shared, mistakes);
    let table = shared.table("node", MINIMAL, mistakes);
    let Some(own) = own else {
        missing(shared, "or give --node FILE", mistakes);
        return table.and_then(|table| node(shared, table, examine, mistakes));
    };
    unknown_tables(own, mistakes);
    missing(own, "as --node names this file", mistakes);
    for Section { table, what, .. } in SECTIONS {
        if let Some((key, _)) = own.top.get_key_value(*table) {
            let place = Place { file: own.file, span: key.span() };
            let mistake = Mistake::at(place, format!("{what} in the file of one node"), "not here");
            mistakes.push(mistake.help("move it to the shared file (--config), so that both nodes have it"));
        }
    }
    let own_table = own.table("node", MINIMAL, mistakes);
    if let (Some((_, here)), Some((_, there))) = (&table, &own_table) {
        let here = Place { file: shared.file, span: here.clone() };
        let there = Place { file: own.file, span: there.clone() };
        let mistake =
            Mistake::at(here, "[node] stands in both files", "once here").and(there, "and once here");
        mistakes.push(mistake.help("remove it from the shared file: it is what differs between the nodes"));
    }
    own_table.and_then(|table| node(own, table, examine, mistakes))
}

/// Why a device of this name cannot exist (the kernel's `dev_valid_name`).
pub(super) fn device_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > MOST_DEVICE {
        return Some("a device name has 1 to 15 bytes");
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if name == "." || name == ".." || name.contains(odd) {
        return Some("a device name has no space, / or :");
    }
    None
}

fn node(
    document: &Document,
    table: (&DeTable<'_>, Range<usize>),
    examine: &dyn Fn(Asked<'_>) -> Result<(), Unfit>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Node> {
    let fields = Fields::new((document.file, document.whole), "[node]", table, reference::NODE, mistakes);
    let name = fields.text("name", mistakes).and_then(|name| instance_name(name, mistakes));
    let skew = fields.number("skew", mistakes);
    let preempt = fields.flag("preempt", true, mistakes);
    let preempt_delay = fields.number("preempt_delay", mistakes);
    let xdp = fields.choice("xdp", mistakes).and_then(|mode| XdpMode::from_name(mode.value));
    let mut interfaces = BTreeMap::new();
    for (role, device) in fields.names("interfaces", mistakes) {
        if let Some(problem) = device_problem(device.value) {
            let what = format!("no device can be called \"{}\"", device.value);
            mistakes.push(Mistake::at(device.place, what, problem));
        }
        interfaces.insert(role.to_owned(), device.value.to_owned());
    }
    let scripts = script::read(&fields, examine, mistakes);
    let (preempt, preempt_delay) = (preempt?, preempt_delay?.value);
    Some(Node { name: name?, skew: skew?.value, preempt, preempt_delay, xdp: xdp?, interfaces, scripts })
}

fn instance_name(name: At<&str>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let At { value, place } = name;
    if (1..=MOST_NAME).contains(&value.len()) && value.chars().all(|c| allowed(&c)) {
        return Some(value.to_owned());
    }
    let what = format!("\"{value}\" cannot be an instance name");
    let mistake = Mistake::at(place, what, format!("expected 1 to {MOST_NAME} of a-z, 0-9 and -"));
    let near: String = value.to_lowercase().replace(['_', ' ', '.'], "-").chars().filter(allowed).collect();
    let near: String = near.chars().take(MOST_NAME).collect();
    mistakes.push(match near.as_str() {
        "" => mistake,
        near => mistake.help(format!("the nearest valid name is \"{near}\"")),
    });
    None
}

fn unknown_tables(document: &Document, mistakes: &mut Vec<Mistake>) {
    for (key, _) in document.top.iter().filter(|(key, _)| !reference::TOP.contains(&key.get_ref().as_ref())) {
        let name = key.get_ref().as_ref();
        let place = Place { file: document.file, span: key.span() };
        let mistake = Mistake::at(place, format!("unknown table or key `{name}`"), "not at the top level");
        let owner = |(table, keys): (&'static str, &[reference::Key])| {
            keys.iter().any(|key| key.name == name).then(|| format!("`{name}` belongs below {table}"))
        };
        let owners = [
            ("[node]", reference::NODE),
            ("[sync]", reference::SYNC),
            ("[config_sync]", reference::CONFIG_SYNC),
            ("[[virtual_host]]", reference::VIRTUAL_HOST),
            ("[[nat.outbound]]", reference::OUTBOUND),
            ("[[nat.forward]]", reference::FORWARD),
            ("[[nat.one_to_one]]", reference::ONE_TO_ONE),
            ("[[nat.prefix]]", reference::PREFIX),
            ("[firewall]", reference::FIREWALL),
            ("[kernel]", reference::KERNEL),
            ("[[track]]", reference::TRACK),
            ("[[hook]]", reference::HOOK),
        ];
        let help = owners.into_iter().find_map(owner);
        // The header above it may be what is broken.
        if help.is_some() && !document.whole {
            continue;
        }
        mistakes.push(mistake.help(help.unwrap_or_else(|| nearest(name, reference::TOP))));
    }
}

fn missing(document: &Document, instead: &str, mistakes: &mut Vec<Mistake>) {
    if document.whole && !document.top.contains_key("node") {
        let place = Place { file: document.file, span: 0..0 };
        let mistake = Mistake::at(place, "there is no table [node]", "in this file");
        mistakes.push(mistake.help(format!("write {MINIMAL}, {instead}")));
    }
}
