//! The CARP daemon: see `carpd --help`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    carp_user::cli::daemon::run(&carp_user::cli::daemon::Args::parse())
}
