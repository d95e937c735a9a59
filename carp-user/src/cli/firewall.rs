//! `carpctl firewall`: what a firewall beside ours has to let through.

use super::files::{Files, INVALID};
use crate::ruleset;
use std::process::ExitCode;

/// What another firewall has to let through.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 printed, 3 configuration invalid.\n\nExamples:\n  carpctl firewall print\n  carpctl firewall print new.toml --node /etc/carp/node.toml"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print its rules in nft's words, by chain.
    Print {
        #[command(flatten)]
        files: Files,
    },
}

/// Prints them.
pub fn run(args: &Args) -> ExitCode {
    let Verb::Print { files } = &args.verb;
    match files.load() {
        Ok(config) => {
            super::print(&ruleset::foreign(&config));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            ExitCode::from(INVALID)
        }
    }
}
