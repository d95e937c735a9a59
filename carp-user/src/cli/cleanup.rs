//! `carpctl cleanup`: takes back what a killed daemon left.

use crate::io::error::chain;
use crate::io::leftovers::{Leftovers, instances};
use anyhow::{Result, bail};
use std::process::ExitCode;

/// Remove what a killed carpd left: its VIPs, virtual MACs, programs, maps, rules of nftables and files; and put
/// forwarding back as it was.
///
/// Not needed when it is started again, which goes on with all of it. Refused while it runs. VIPs go
/// first, since the datapath is what keeps them silent. The number of its starts (/var/lib/carp) stays:
/// without it peers with strict authentication refuse what the next carpd of this name says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is left (or it was only asked for), 1 it runs, or something could not be removed, 2 usage.\n\nExamples:\n  carpctl cleanup --dry-run\n  carpctl cleanup gw1"
)]
pub struct Args {
    /// Name of the node; not needed when only one has left something.
    instance: Option<String>,
    /// Only list it.
    #[arg(long)]
    dry_run: bool,
}

/// Lists what is there, and removes it.
///
/// # Errors
/// When the daemon runs, when it is unclear which is meant, when something stays.
pub fn run(args: Args, name: Option<&str>) -> Result<ExitCode> {
    let Some(name) = args.instance.or(name.map(str::to_owned)).map_or_else(only, |name| Ok(Some(name)))?
    else {
        super::print("no killed carpd has left anything here\n");
        return Ok(ExitCode::SUCCESS);
    };
    let left = Leftovers::of(&name)?;
    let lines = left.list();
    if lines.is_empty() {
        super::print(&format!("{name} has left nothing here\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let head = if args.dry_run { "left by" } else { "removing what was left by" };
    super::print(&format!("{head} {name}:\n  {}\n", lines.join("\n  ")));
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let errors = left.remove()?;
    errors.iter().for_each(|error| eprintln!("carpctl: {}", chain(error)));
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The only instance that left something, if any did.
fn only() -> Result<Option<String>> {
    let mut names = instances();
    if names.len() > 1 {
        bail!("several instances have left something ({}): name one", names.join(", "));
    }
    Ok(names.pop())
}
