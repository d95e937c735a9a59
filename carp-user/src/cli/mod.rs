//! `carpctl`: one file per verb family.

pub mod daemon;
pub mod decode;
pub mod demote;
pub mod instance;
pub mod status;

use crate::io::error::chain;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Talks to carpd, and takes adverts apart.
#[derive(Debug, Parser)]
#[command(
    name = "carpctl",
    version,
    after_help = "Examples:\n  carpctl status\n  carpctl decode --password-file lan.password --vip 10.0.0.1 capture.pcap\n  carpctl demote maintenance --reason 'new memory'"
)]
pub struct Cli {
    /// Name of the daemon's node, when several run on this machine.
    #[arg(long, global = true)]
    instance: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show every virtual host: role, since when, why, lease, peer.
    Status(status::Args),
    /// Rank this node lower, by a name, until `undemote`.
    Demote(demote::Args),
    /// Lift a demotion of that name.
    Undemote(demote::UndemoteArgs),
    /// Take an advertisement apart: does it verify, and why would it be refused?
    Decode(decode::Args),
}

/// Runs what the command line says. Exit codes: 0 done, 1 error, 2 usage.
pub fn run(cli: Cli) -> ExitCode {
    let name = cli.instance.as_deref();
    let outcome = match cli.verb {
        Verb::Status(args) => status::run(&args, name),
        Verb::Demote(args) => demote::run(args, name),
        Verb::Undemote(args) => demote::undo(args, name),
        Verb::Decode(args) => return decode::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carpctl: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Prints, and does not mind that nobody reads on (`carpctl status | head -1`).
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
