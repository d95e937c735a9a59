//! `carpctl reload`: the daemon reads its configuration again and goes on with it.

use super::instance;
use crate::api::{Request, Response};
use anyhow::{Result, bail};
use std::fmt::Write;

/// Have carpd read its configuration again. What is not changed goes on: roles, leases, counters. Where that is not
/// possible (another name, other interfaces, another sync link, another way to attach the datapath) the node hands over
/// and starts anew. When something is wrong with the configuration the old one stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carpctl reload --dry-run\n  carpctl reload")]
pub struct Args {
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON instead of words.
    #[arg(long)]
    json: bool,
}

/// Reloads.
///
/// # Errors
/// When the daemon does not answer; every mistake in its configuration; why it cannot be used.
pub fn run(args: &Args, name: Option<&str>) -> Result<()> {
    let response = instance::ask(name, &Request::Reload { dry_run: args.dry_run })?;
    let Response::Reloaded { changes, new_start } = &response else {
        bail!("carpd answered something else: is it of another version?");
    };
    let text = if args.json {
        serde_json::to_string_pretty(&response)? + "\n"
    } else {
        render(changes, new_start.as_deref(), args.dry_run)
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
}
