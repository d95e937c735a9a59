//! Two gateways with one configuration: gw2 follows gw1.

use super::carpd::Carpd;
use super::pair::Pair;
use super::remote::{account, fingerprint, pin, write_secret};
use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_user::io::disk;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// What gw1's `node.toml` says of that. gw2's accounts are those of [`trust`].
pub const TABLE: &str = "\n[config_sync]\nuser = \"gw1\"\npassword_file = \"config-password\"\n";
/// Longer than it takes to be told on one node what the other one uses.
pub const DRIFT: Span = Span::secs(10);

/// As pairing does it, but for the shared configuration: an account on gw2 for gw1, and each other's certificate. They need
/// not run.
///
/// # Errors
/// When carpctl refuses.
pub fn trust(gw1: &Carpd, gw2: &Carpd) -> Result<()> {
    let password = account(gw2, &["gw1"])?;
    write_secret(&gw1.files().carp.with_file_name("config-password"), &password)?;
    pin(gw1, &fingerprint(gw2)?)?;
    pin(gw2, &fingerprint(gw1)?)
}

/// A link that only gw1 has, with its role there: what is right on gw1 and wrong on gw2.
///
/// # Errors
/// When the kernel refuses.
pub fn dmz(pair: &Pair) -> Result<(&'static str, &'static str)> {
    pair.gw1().ip("link add dmz0 up type veth peer name dmz1")?;
    Ok(("dmz", "dmz0"))
}

/// What a gateway says of its configuration and of the other one's.
///
/// # Errors
/// When it does not answer.
pub fn standing(carpd: &Carpd) -> Result<Value> {
    Ok(carpd.status()?["config"].clone())
}

/// Whether gw1 knows how gw2 stands. Before the first push gw2 does not know that it follows.
pub fn is_met(gw1: &Carpd) -> bool {
    standing(gw1).is_ok_and(|standing| standing["peer"].is_object() && standing["amiss"].is_null())
}

/// Whether both say that they have the same, and nothing else.
pub fn agree(gw1: &Carpd, gw2: &Carpd) -> bool {
    let (Ok(one), Ok(two)) = (standing(gw1), standing(gw2)) else { return false };
    let is_same = one["hash"].is_string() && one["hash"] == two["hash"] && one["hash"] == one["peer"]["hash"];
    is_same && one["amiss"].is_null() && two["amiss"].is_null()
}

/// Writes a new shared file beside that of a gateway.
///
/// # Errors
/// When it cannot be written.
pub fn written(carpd: &Carpd, text: &str) -> Result<PathBuf> {
    let file = carpd.files().carp.with_file_name("new.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// What carpctl answers when this shared file is applied on a gateway, by more words of the command line too.
///
/// # Errors
/// When the file cannot be written, or carpctl not be started.
pub fn apply(carpd: &Carpd, text: &str, more: &[&str]) -> Result<Output> {
    let file = written(carpd, text)?.to_string_lossy().into_owned();
    carpd.carpctl(&[&["apply", file.as_str()], more].concat())
}

/// All that a command has said, good or bad.
pub fn says(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Whether this stands in a gateway's shared file.
///
/// # Errors
/// When that cannot be read.
pub fn has(carpd: &Carpd, text: &str) -> Result<bool> {
    Ok(fs::read_to_string(&carpd.files().carp)?.contains(text))
}

/// Whether a gateway uses an address, be it in its file or not.
pub fn uses(carpd: &Carpd, address: &str) -> bool {
    carpd.status().is_ok_and(|status| status["hosts"].to_string().contains(address))
}

/// What gw1 has written down of the pushes that it is in doubt of, if it is.
pub fn is_in_doubt(gw1: &Carpd) -> bool {
    let book = disk::state_of(gw1.instance()).join("pushing/book.json");
    let text = fs::read(book).context("a book");
    let book: Option<Value> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
    book.is_some_and(|book| book["doubt"].is_number())
}
