//! The table `inet carp` in the kernel, by the program `nft`. It replaces a table as one transaction of the kernel's: when
//! anything is wrong with the new one, the old one is still there. Other tables are never named.
//!
//! `nft` is started and waited for, some milliseconds, and half a second with thousands of rules: not on a thread that
//! adverts wait for. Where no rules are configured it is not needed.

use super::error::CAP_NET_ADMIN;
use super::instance::{self, Instance, Other, RUN};
use super::{marks, privilege};
use crate::ruleset::{REMOVAL, Ruleset, TABLE};
use serde_json::Value;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Why rules are not loaded, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error(
        "{doing}: there is no program nft: install the package nftables, or take [[nat]] and [firewall] out of the configuration"
    )]
    Missing {
        /// What was tried.
        doing: &'static str,
    },
    /// It said no; nothing has changed.
    #[error("{doing}: nft says: {said}{}", advice(.said))]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// Its first words.
        said: String,
    },
    /// It could not be started, or not be talked to.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// What it printed is not the JSON of a table.
    #[error("reading the rules: nft printed something else than JSON: {0}")]
    NoJson(serde_json::Error),
    /// Another carpd has its rules in the table.
    #[error(transparent)]
    Rival(instance::Error),
}

/// The table of a running daemon, or its right to have one. Dropping it removes the table.
///
/// A note in the instance's directory says that there is one, before there is: so that the next daemon of this name, and
/// `carpctl cleanup`, remove what a killed one left.
#[derive(Debug)]
pub struct Table {
    note: PathBuf,
}

impl Error {
    /// Whether root would have been told more.
    pub fn is_of_privilege(&self) -> bool {
        matches!(self, Self::Refused { said, .. } if said.contains(NOT_PERMITTED))
    }
}

impl Table {
    /// Puts these rules, or none, in the place of those that a killed daemon left.
    ///
    /// # Errors
    /// When another daemon has the table, and as [`apply`]; what was there stays there.
    pub fn raise(instance: &Instance, ruleset: Option<&Ruleset>) -> Result<Self, Error> {
        let note = instance.file(NOTE);
        match (rival(instance.name()), ruleset) {
            (Some(rival), Some(_)) => return Err(Error::Rival(rival.of("the table inet carp of nftables"))),
            // What a killed daemon left, that one has replaced.
            (Some(_), None) => drop(fs::remove_file(&note)),
            (None, _) => replace(&note, ruleset)?,
        }
        Ok(Self { note })
    }

    /// Puts these rules, or none, in the place of its present ones.
    ///
    /// # Errors
    /// As [`apply`]; the present ones stay.
    pub fn replace(&self, ruleset: Option<&Ruleset>) -> Result<(), Error> {
        replace(&self.note, ruleset)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Err(error) = replace(&self.note, None) {
            tracing::warn!(%error, "left behind");
        }
    }
}

/// Loads rules in the place of those in our table.
///
/// # Errors
/// What nft says, with what to do; nothing has changed then.
pub fn apply(ruleset: &Ruleset) -> Result<(), Error> {
    run("loading the rules of nftables", &["-f", "-"], ruleset.text()).map(drop)
}

/// Whether [`apply`] would do it; changes nothing.
///
/// # Errors
/// As [`apply`].
pub fn check(ruleset: &Ruleset) -> Result<(), Error> {
    run("checking the rules of nftables", &["-c", "-f", "-"], ruleset.text()).map(drop)
}

/// Removes our table, if it is there.
///
/// # Errors
/// What nft says.
pub fn remove() -> Result<(), Error> {
    run("removing the table inet carp of nftables", &["-f", "-"], REMOVAL).map(drop)
}

/// How often a rule was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its comment, the same for what belongs together: kind and number, `forward 1: …`.
    pub rule: String,
    /// Packets. A rule of NAT sees the first one of each connection only.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Of each rule in our table, in its order; none when there is no table.
///
/// # Errors
/// What nft says.
pub fn usage() -> Result<Option<Vec<Usage>>, Error> {
    let [family, name] = TABLE;
    match run("reading the rules of nftables", &["-j", "list", "table", family, name], "") {
        Ok(printed) => Ok(Some(usages(&serde_json::from_slice(&printed).map_err(Error::NoJson)?))),
        Err(Error::Refused { said, .. }) if said.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// All rules of this network namespace, as nft prints them.
///
/// # Errors
/// What nft says.
pub fn everything() -> Result<Value, Error> {
    let printed = run("reading the rules of nftables", &["-j", "list", "ruleset"], "")?;
    serde_json::from_slice(&printed).map_err(Error::NoJson)
}

/// Whether a killed daemon of this name left its table here.
pub(super) fn is_left_by(name: &str) -> bool {
    is_here(&Path::new(RUN).join(name).join(NOTE)) && rival(name).is_none()
}

/// Another running daemon that has the table of this network namespace.
fn rival(name: &str) -> Option<Other> {
    instance::others(name).into_iter().find(|other| is_here(&other.file(NOTE)))
}

/// Name of the note; in it, the inode of the network namespace.
const NOTE: &str = "nftables";

fn is_here(note: &Path) -> bool {
    let netns = marks::netns().map(|netns| netns.to_string());
    fs::read_to_string(note).is_ok_and(|noted| netns.is_ok_and(|netns| noted.trim() == netns))
}

fn replace(note: &Path, ruleset: Option<&Ruleset>) -> Result<(), Error> {
    let failed = |source| Error::Io { doing: "noting that there is a table inet carp", source };
    let was_here = is_here(note);
    let Some(ruleset) = ruleset else {
        if was_here {
            remove()?;
            fs::remove_file(note).map_err(failed)?;
        }
        return Ok(());
    };
    let netns = marks::netns().map_err(failed)?;
    fs::write(note, format!("{netns}\n")).map_err(failed)?;
    let applied = apply(ruleset);
    if applied.is_err() && !was_here {
        let _ = fs::remove_file(note);
    }
    applied
}

/// What it prints, if it ends well.
fn run(doing: &'static str, words: &[&str], input: &str) -> Result<Vec<u8>, Error> {
    let start = || -> io::Result<Output> {
        privilege::lend_net_admin()?;
        let piped = Stdio::piped;
        let mut child =
            Command::new("nft").args(words).stdin(piped()).stdout(piped()).stderr(piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not read on it has something to say.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    // Capabilities are a thread's: what this one lends, the others have not.
    let ended = std::thread::scope(|scope| scope.spawn(start).join());
    let output = match ended.unwrap_or_else(|_| Err(io::Error::other("the thread for nft ended early"))) {
        Ok(output) => output,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { doing }),
        Err(source) => return Err(Error::Io { doing, source }),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Where, what, and the line in question; below it are marks, and the same again of other lines.
    let said: Vec<&str> = said.lines().take(2).map(str::trim).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said.join(" in: ") };
    Err(Error::Refused { doing, said })
}

/// What nft says of `EPERM`.
const NOT_PERMITTED: &str = "Operation not permitted";

fn advice(said: &str) -> String {
    if said.contains(NOT_PERMITTED) {
        format!(": {CAP_NET_ADMIN} is missing: run it as root")
    } else if said.contains("No such file or directory") || said.contains("Operation not supported") {
        ": this kernel may lack a part of nftables: CONFIG_NFT_NAT, CONFIG_NFT_FIB_INET, CONFIG_NFT_CT; for \
         flowtable = true CONFIG_NFT_FLOW_OFFLOAD, CONFIG_NF_FLOW_TABLE_INET"
            .to_owned()
    } else {
        String::new()
    }
}

/// Rules with a comment and a counter; those with the same comment together.
fn usages(printed: &Value) -> Vec<Usage> {
    let mut usages: Vec<Usage> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for rule in printed["nftables"].as_array().into_iter().flatten().map(|item| &item["rule"]) {
        let (Some(comment), Some(parts)) = (rule["comment"].as_str(), rule["expr"].as_array()) else {
            continue;
        };
        let Some(counter) = parts.iter().find_map(|part| part.get("counter")) else { continue };
        let count = |name: &str| counter[name].as_u64().unwrap_or(0);
        let place = *places.entry(comment).or_insert(usages.len());
        if let Some(known) = usages.get_mut(place) {
            known.packets = known.packets.saturating_add(count("packets"));
            known.bytes = known.bytes.saturating_add(count("bytes"));
        } else {
            usages.push(Usage { rule: comment.to_owned(), packets: count("packets"), bytes: count("bytes") });
        }
    }
    usages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_the_same_comment_are_counted_together_and_those_without_are_left_out() {
        let rule = |comment: Value, packets: u64| {
            let counter = serde_json::json!({"counter": {"packets": packets, "bytes": packets * 60}});
            serde_json::json!({"rule": {"comment": comment, "expr": [{"match": {}}, counter]}})
        };
        let jump = serde_json::json!({"rule": {"expr": [{"jump": {"target": "x"}}]}});
        let chain = serde_json::json!({"chain": {"name": "x"}});
        let printed = [
            chain,
            rule("a".into(), 1),
            rule(Value::Null, 9),
            jump,
            rule("b".into(), 2),
            rule("a".into(), 3),
        ];
        let usage = |rule: &str, packets| Usage { rule: rule.to_owned(), packets, bytes: packets * 60 };
        assert_eq!(usages(&serde_json::json!({ "nftables": printed })), [usage("a", 4), usage("b", 2)]);
        assert_eq!(usages(&Value::Null), []);
    }

    #[test]
    fn an_error_says_what_to_do() {
        let refused = |said: &str| Error::Refused { doing: "loading", said: said.to_owned() }.to_string();
        assert!(refused("Error: Operation not permitted").contains("CAP_NET_ADMIN"));
        assert!(refused("Error: No such file or directory").contains("CONFIG_NFT_NAT"));
        assert_eq!(refused("Error: syntax error"), "loading: nft says: Error: syntax error");
    }
}
