//! The control tool: see `carpctl --help`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    carp_user::cli::run(carp_user::cli::Cli::parse())
}
