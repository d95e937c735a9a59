//! `carpctl init`: the first configuration of a node, as a person would write it.

mod listening;
pub(super) mod machine;
pub(super) mod plan;
mod questions;
pub(super) mod writing;

use super::check;
use super::files::INVALID;
use crate::config::{self, Config, Mistakes, Source, private};
use anyhow::{Context, Result, bail, ensure};
use carp_common::time::Span;
use machine::Machine;
use plan::{NewFile, Plan};
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the first configuration of a node: carp.toml, which both nodes share, node.toml, which is of this one alone,
/// and files with new passwords.
///
/// On a terminal it asks for what is not given. It listens for a while, so that it takes no number that somebody
/// uses. On the other node --secondary writes node.toml alone; the rest is copied there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 written, 1 error, 2 usage, 3 what was asked for is no valid configuration. But for 0, nothing is written.\n\n\
                        Examples:\n  carpctl init --lan eth1 --wan eth0 --vip 10.0.0.1/24 --vip 192.0.2.1/24\n  \
                        carpctl init --lan eth1 --vip lan:10.0.0.1/24 --sync eth2 --peer 10.255.0.2 --listen 0\n  \
                        carpctl init --secondary --lan eth1 --wan eth0   # on the other node"
)]
pub struct Args {
    /// Name of this instance [default: gw1, with --secondary gw2].
    #[arg(long)]
    name: Option<String>,
    /// Interface on the inside.
    #[arg(long, value_name = "IFACE")]
    lan: Option<String>,
    /// Interface on the outside.
    #[arg(long, value_name = "IFACE")]
    wan: Option<String>,
    /// Address that both nodes share; several times for several. It goes where the interface has its network, or
    /// after `lan:` or `wan:` there.
    #[arg(long, value_name = "[ROLE:]ADDRESS/LENGTH")]
    vip: Vec<String>,
    /// Lowest number to take for a virtual host.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    vhid: u8,
    /// Interface to the other node, to replicate connections.
    #[arg(long, value_name = "IFACE", requires = "peer")]
    sync: Option<String>,
    /// The other node's address on that interface.
    #[arg(long, value_name = "ADDRESS", requires = "sync")]
    peer: Option<IpAddr>,
    /// For the node that is not to lead (skew 100): with the files of the other one already in the folder.
    #[arg(long, conflicts_with_all = ["vip", "vhid"])]
    secondary: bool,
    /// Seconds to listen for others, 0 to 600.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = span)]
    listen: Span,
    /// Folder of the files.
    #[arg(long, value_name = "DIR", default_value = "/etc/carp")]
    output: PathBuf,
    /// Replace files that are there, passwords too.
    #[arg(long)]
    force: bool,
}

/// Asks, listens and writes.
///
/// # Errors
/// When something that is needed is neither given nor can be asked for, when an interface is not there, when a file
/// is there already.
pub fn run(mut args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let machine = Machine::look()?;
    if std::io::stdin().is_terminal() {
        questions::ask(&mut args, &machine, std::io::stdin().lock())?;
    }
    let plan = Plan::of(&args, &machine)?;
    let devices = plan.devices();
    machine.has(&devices)?;
    refuse_to_overwrite(&args, &plan)?;
    let heard = if args.secondary || args.listen == Span::ZERO {
        listening::Heard::default()
    } else {
        eprintln!("listening for {} on {} ...", args.listen, devices.join(", "));
        runtime.block_on(listening::listen(&devices, args.listen))?
    };
    let files = plan.files(&heard)?;
    let config = match judge(&args.output, &files) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(INVALID.into());
        }
    };
    writing::write(&args.output, &files, args.force)?;
    super::print(&plan.next_steps(&args.output, &files));
    for warning in check::misfits(&config)? {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Before anybody is listened for; that none has come meanwhile, the writing sees to.
fn refuse_to_overwrite(args: &Args, plan: &Plan) -> Result<()> {
    let there: Vec<String> = plan
        .names()
        .iter()
        .map(|name| args.output.join(name))
        .filter(|path| path.exists())
        .map(shown)
        .collect();
    if !args.force && !there.is_empty() {
        bail!(
            "{} is there already: name another folder (--output), or replace it (--force)",
            there.join(", ")
        );
    }
    let shared = args.output.join(plan::SHARED);
    ensure!(
        !args.secondary || shared.exists(),
        "there is no {}: copy it, and the files with the passwords, from the first node before",
        shared.display()
    );
    Ok(())
}

/// What the files say together with those that are there, before they are written.
pub(super) fn judge(folder: &Path, files: &[NewFile]) -> Result<Config, Mistakes> {
    let new = |name: &Path| files.iter().find(|file| Path::new(&file.name) == name);
    let source = |name: &str| {
        let path = folder.join(name);
        let text = new(Path::new(name)).map(|file| file.text.to_string());
        // One that cannot be read has no virtual hosts, which is then said of it.
        let text = text.unwrap_or_else(|| std::fs::read_to_string(&path).unwrap_or_default());
        Source { name: shown(path), text }
    };
    config::parse(source(plan::SHARED), Some(source(plan::OWN)), |name| match new(name) {
        Some(file) => Ok(file.text.as_bytes().to_vec().into()),
        None => private::read_named(folder, name),
    })
}

fn shown(path: PathBuf) -> String {
    path.display().to_string()
}

fn span(text: &str) -> Result<Span> {
    let seconds: u64 = text.strip_suffix('s').unwrap_or(text).parse().context("expected seconds, like 3s")?;
    ensure!(seconds <= 600, "expected at most 600 seconds");
    Ok(Span::secs(seconds))
}
