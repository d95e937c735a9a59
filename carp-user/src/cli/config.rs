//! `carpctl config`: what a configuration says.

use super::files::{Files, INVALID};
use crate::config::render::{Form, render};
use anyhow::Result;
use std::process::ExitCode;

/// Show a configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 shown, 3 invalid.\n\n\
                        Examples:\n  carpctl config show --effective\n  carpctl config show new.toml --node /etc/carp/node.toml\n  \
                        diff <(carpctl config show) <(carpctl config show new.toml)")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a configuration in one order and one spelling, as one file that is a configuration again. Of secrets it
    /// has the names of their files.
    Show {
        #[command(flatten)]
        files: Files,
        /// With every default.
        #[arg(long)]
        effective: bool,
    },
}

/// Prints it, or every mistake in it.
///
/// # Errors
/// None; the signature is that of all verbs.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Verb::Show { files, effective } = &args.verb;
    match files.load() {
        Ok(config) => {
            super::print(&render(&config, if *effective { Form::Effective } else { Form::Short }));
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            Ok(INVALID.into())
        }
    }
}
