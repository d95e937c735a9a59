//! `carpctl firewall`: what a firewall beside ours has to let through.

use super::check;
use crate::ruleset;
use std::path::PathBuf;
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
        /// The configuration that both nodes share.
        #[arg(default_value = "/etc/carp/carp.toml")]
        file: PathBuf,
        /// What is of this node alone; without it node.toml beside the other, where there is one.
        #[arg(long, value_name = "FILE")]
        node: Option<PathBuf>,
    },
}

/// Prints them.
pub fn run(args: &Args) -> ExitCode {
    let Verb::Print { file, node } = &args.verb;
    match check::load(file, node.as_deref()) {
        Ok(config) => {
            super::print(&ruleset::foreign(&config));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            ExitCode::from(check::INVALID)
        }
    }
}
