//! Two gateways with one configuration: gw2 follows gw1.

use super::carpd::Carpd;
use super::remote::{account, fingerprint, pin, write_secret};
use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_user::io::disk;
use serde_json::Value;

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

/// What a gateway says of its configuration and of the other one's.
///
/// # Errors
/// When it does not answer.
pub fn standing(carpd: &Carpd) -> Result<Value> {
    Ok(carpd.status()?["config"].clone())
}

/// Whether both say that they have the same, and nothing else.
pub fn agree(gw1: &Carpd, gw2: &Carpd) -> bool {
    let (Ok(one), Ok(two)) = (standing(gw1), standing(gw2)) else { return false };
    let is_same = one["hash"].is_string() && one["hash"] == two["hash"] && one["hash"] == one["peer"]["hash"];
    is_same && one["amiss"].is_null() && two["amiss"].is_null()
}

/// What gw1 has written down of the pushes that it is in doubt of, if it is.
pub fn is_in_doubt(gw1: &Carpd) -> bool {
    let book = disk::state_of(gw1.instance()).join("pushing/book.json");
    let text = std::fs::read(book).context("a book");
    let book: Option<Value> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
    book.is_some_and(|book| book["doubt"].is_number())
}
