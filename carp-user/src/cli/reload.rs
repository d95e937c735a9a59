//! `carpctl reload`, `apply`, `confirm`, `rollback`: the daemon goes on with another configuration.

use super::instance;
use crate::api::{Authority, Request, Response};
use crate::io::revisions::Revisions;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Have carpd read its configuration again. What is not changed goes on: roles, leases, counters. Where that is not
/// possible (another name, other interfaces, another sync link, another way to attach the datapath) the node hands over
/// and starts anew. When something is wrong with the configuration the old one stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carpctl reload --dry-run\n  carpctl reload")]
pub struct Args {
    #[command(flatten)]
    how: How,
}

/// Have carpd go on with another shared file, and put it in the place of its own, as `reload` does it. Files with secrets
/// are those beside its own.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl apply new.toml --dry-run\n  carpctl apply new.toml --confirm 60s && ping -c 3 192.0.2.1 && carpctl confirm"
)]
pub struct ApplyArgs {
    /// The new configuration that both nodes share.
    file: PathBuf,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    confirm: Confirm,
}

/// Have carpd go back to a revision: see `carpctl config log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carpctl rollback --dry-run\n  carpctl rollback 7")]
pub struct RollbackArgs {
    /// Its number; the one before the newest if there is none.
    revision: Option<u32>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// On a node that follows another one: change it here all the same. `carpctl status` then shows that they differ,
    /// until the other node's configuration is pushed again.
    #[arg(long)]
    local: bool,
    /// Print JSON instead of words.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Confirm {
    /// Go back unless `carpctl confirm` is said within this time: 60s, 5m. Until then it is in no file.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm: Option<u32>,
}

impl How {
    const fn by(&self) -> Authority {
        if self.local { Authority::Local } else { Authority::Here }
    }
}

/// Reloads.
///
/// # Errors
/// When the daemon does not answer; every mistake in its configuration; why it cannot be used.
pub fn run(args: &Args, name: Option<&str>) -> Result<()> {
    ask(name, &Request::Reload { dry_run: args.how.dry_run, by: args.how.by() }, &args.how)
}

/// Applies a file.
///
/// # Errors
/// The same; that there is no such file.
pub fn apply(args: &ApplyArgs, name: Option<&str>) -> Result<()> {
    let origin = format!("apply {}", args.file.display());
    apply_file(&args.file, origin, (&args.how, &args.confirm), name)
}

/// Applies a revision.
///
/// # Errors
/// The same; that there is no such revision.
pub fn rollback(args: &RollbackArgs, name: Option<&str>) -> Result<()> {
    let name = instance::resolve(name)?;
    let revisions = Revisions::of(&name);
    let known = revisions.list().context("reading the revisions")?;
    let number = match (args.revision, &known[..]) {
        (Some(number), _) => number,
        (None, [.., before, _newest]) => before.number,
        (None, _) => bail!("there is no revision before the present one: see `carpctl config log`"),
    };
    if !known.iter().any(|revision| revision.number == number) {
        bail!("there is no revision {number}: see `carpctl config log`");
    }
    let origin = format!("rollback to {number}");
    apply_file(&revisions.file(number), origin, (&args.how, &args.confirm), Some(&name))
}

/// Confirms.
///
/// # Errors
/// When the daemon does not answer, or there is nothing to confirm.
pub fn confirm(name: Option<&str>) -> Result<()> {
    instance::ask(name, &Request::Confirm).map(drop)
}

fn apply_file(
    file: &Path,
    origin: String,
    (how, confirm): (&How, &Confirm),
    name: Option<&str>,
) -> Result<()> {
    let file = std::fs::canonicalize(file).with_context(|| file.display().to_string())?;
    let (dry_run, confirm_s) = (how.dry_run, confirm.confirm);
    ask(name, &Request::Apply { file, dry_run, confirm_s, origin, by: how.by() }, how)?;
    if let (Some(seconds), false, false) = (confirm_s, dry_run, how.json) {
        super::print(&format!("within {seconds} s say `carpctl confirm`, or the one before is back\n"));
    }
    Ok(())
}

fn ask(name: Option<&str>, request: &Request, how: &How) -> Result<()> {
    let response = instance::ask(name, request)?;
    let Response::Reloaded { changes, new_start } = &response else {
        return Err(instance::something_else());
    };
    let text = if how.json {
        serde_json::to_string_pretty(&response)? + "\n"
    } else {
        render(changes, new_start.as_deref(), how.dry_run)
    };
    super::print(&text);
    Ok(())
}

fn render(changes: &[String], new_start: Option<&str>, dry_run: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for line in changes {
        let _ = writeln!(text, "{line}");
    }
    if changes.is_empty() {
        text.push_str("nothing changes\n");
    } else if new_start.is_some() {
        let does = if dry_run { "would hand over and start anew" } else { "hands over and starts anew" };
        let _ = writeln!(text, "the node {does} for that");
    }
    text
}

/// `60`, `60s`, `5m`, `1h`, as seconds; at least one.
fn seconds(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(_) | None => (text, 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| "write it as 60s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_start_is_announced() {
        let changes = ["[sync] is another one".to_owned()];
        let says = render(&changes, Some("[sync] is another one"), true);
        assert_eq!(says, "[sync] is another one\nthe node would hand over and start anew for that\n");
        assert_eq!(render(&[], None, false), "nothing changes\n");
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, expected) in [("60s", 60), ("5m", 300), ("1h", 3600), ("7", 7)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "s", "0s", "-1s", "1d", "99999999h", "ß"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
