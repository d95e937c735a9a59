//! Everything that a gateway's daemon could leave behind, as text that can be compared.

use super::clock;
use super::namespace::Namespace;
use anyhow::Result;
use carp_common::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The state of a host, by subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    subjects: BTreeMap<&'static str, String>,
    /// Kind, id and name. Of the whole machine: the kernel does not say whose they are.
    bpf: BTreeSet<(&'static str, u32, String)>,
}

impl State {
    /// The present one: links with their XDP programs, addresses, routes, qdiscs, filters, bridge
    /// forwarding entries, multicast memberships, nftables, settings of the links; of the whole
    /// machine BPF programs, maps and links; pins and runtime files of this instance.
    ///
    /// # Errors
    /// When one of the tools is missing.
    pub fn of(host: &Namespace, instance: &str) -> Result<Self> {
        let mut state = BTreeMap::new();
        for (subject, words) in QUESTIONS {
            let mut words = words.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            let output = host.output(command.args(words))?;
            state.insert(*subject, settled(&String::from_utf8_lossy(&output.stdout)));
        }
        state.insert("pins", names(files(Path::new("/sys/fs/bpf/carp"), instance)));
        state.insert("runtime files", names(files(Path::new("/run/carp"), instance)));
        Ok(Self { subjects: state, bpf: bpf_objects() })
    }

    /// The subjects in which a later state differs, both texts with each, and the BPF objects that
    /// it has more; empty when there is nothing.
    pub fn difference(&self, later: &Self) -> String {
        let differ =
            self.subjects.iter().filter(|(subject, text)| later.subjects.get(*subject) != Some(text));
        let show = |(subject, text): (&&str, &String)| {
            let after = later.subjects.get(*subject).map_or("", |text| text);
            format!("== {subject}\n-- before\n{text}\n-- after\n{after}\n")
        };
        let more = later.bpf.difference(&self.bpf);
        let more = more.map(|(kind, id, name)| format!("== new BPF {kind} {id} {name}\n"));
        differ.map(show).chain(more).collect()
    }
}

fn bpf_objects() -> BTreeSet<(&'static str, u32, String)> {
    let programs = aya::programs::loaded_programs().flatten();
    let maps = aya::maps::loaded_maps().flatten();
    let links = aya::programs::loaded_links().flatten();
    let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
    programs
        .map(|program| ("program", program.id(), name(program.name_as_str())))
        .chain(maps.map(|map| ("map", map.id(), name(map.name_as_str()))))
        .chain(links.map(|link| ("link", link.id(), String::new())))
        .collect()
}

/// How `host` differs from an earlier state, after giving the kernel two seconds: it frees BPF
/// objects when nobody can be using them any more.
///
/// # Errors
/// As [`State::of`].
pub fn difference_since(before: &State, host: &Namespace, instance: &str) -> Result<String> {
    let end = clock::now() + Span::secs(2);
    loop {
        let difference = before.difference(&State::of(host, instance)?);
        if difference.is_empty() || clock::now() > end {
            return Ok(difference);
        }
        clock::sleep(Span::millis(50));
    }
}

const QUESTIONS: &[(&str, &str)] = &[
    ("links", "ip -details link show"),
    ("addresses", "ip address show"),
    ("routes", "ip route show table all"),
    ("IPv6 routes", "ip -6 route show table all"),
    ("rules", "ip rule show"),
    ("qdiscs", "tc qdisc show"),
    ("filters of lan0", "tc filter show dev lan0 egress"),
    ("filters of wan0", "tc filter show dev wan0 egress"),
    ("forwarding entries", "bridge fdb show"),
    ("multicast memberships", "ip maddress show"),
    ("nftables", "nft list ruleset"),
    ("IPv4 settings", "grep -rs . /proc/sys/net/ipv4/conf"),
    ("IPv6 settings", "grep -rs . /proc/sys/net/ipv6/conf"),
];

/// Without what changes by itself.
fn settled(text: &str) -> String {
    let lines = text.lines().map(str::trim_end);
    // Lifetimes of addresses and routes, and the timestamps of secrets.
    lines.filter(|line| !line.contains("valid_lft") && !line.contains("stable_secret")).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    )
}

fn names(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.join("\n")
}

/// Every path below a folder that has the instance's name in it; none without the folder.
fn files<'a>(folder: &Path, instance: &'a str) -> impl Iterator<Item = String> + 'a {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found.into_iter().filter(move |path: &String| path.contains(instance))
}
