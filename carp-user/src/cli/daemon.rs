//! The command line of `carpd`.

use crate::config::{Files, Loaded};
use crate::daemon::{Daemon, Journal, Next, Pending, Signals};
use crate::io::error::chain;
use anyhow::Result;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code of an invalid configuration.
const INVALID: u8 = 3;

/// Shares virtual IP addresses between gateways by CARP.
#[derive(Debug, clap::Parser)]
#[command(
    name = "carpd",
    version = super::VERSION.as_str(),
    after_help = "Examples:\n  carpd --config /etc/carp/carp.toml --check\n  carpd --config /etc/carp/carp.toml --node /etc/carp/node.toml\n\nSignals: SIGTERM hands over and cleans up, SIGHUP reads the configuration again, as carpctl reload does.\nExit codes: 0 stopped, 1 error, 2 usage, 3 configuration invalid."
)]
pub struct Args {
    /// The configuration that both nodes share.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What is of this node alone: its [node] table.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Only check the configuration: every mistake is shown.
    #[arg(long)]
    check: bool,
}

/// Runs the daemon in the foreground; it logs to standard error (`RUST_LOG` sets the levels).
pub fn run(args: &Args) -> ExitCode {
    crate::io::raw::keep_open_files_from_programs();
    if let Err(error) = crate::io::privilege::give_up() {
        eprintln!("carpd: giving up privileges: {error}");
        return ExitCode::FAILURE;
    }
    let files = Files { shared: args.config.clone(), node: args.node.clone() };
    let loaded = match files.load() {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(INVALID);
        }
    };
    if args.check {
        super::print(&format!("{}\n", loaded.config.check_line(&args.config)));
        return ExitCode::SUCCESS;
    }
    let levels = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log =
        tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).with_target(false);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.with_ansi(false).init();
    }
    match serve(&files, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carpd: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// One thread: the election never waits for anything else.
fn serve(files: &Files, Loaded { config, text }: Loaded) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is begun, so that a signal that comes during a start or a reload counts.
        let mut signals = Signals::open()?;
        let mut daemon = Daemon::start(config, Journal::default())?;
        daemon.keep(Pending {
            staged: None,
            text,
            origin: "start".to_owned(),
            confirm: None,
            pushed: None,
        })?;
        while let Some(Next { config, running, pending, journal }) = daemon.run(&mut signals, files).await? {
            daemon = match Daemon::start(config, journal.clone()) {
                Ok(mut daemon) => {
                    if let Err(error) = daemon.keep(pending) {
                        tracing::error!("{}", chain(error.as_ref()));
                    }
                    daemon
                }
                Err(error) => {
                    let error = chain(error.as_ref());
                    tracing::error!("the new configuration cannot be used, the old one stays: {error}");
                    Daemon::start(running, journal)?
                }
            };
        }
        Ok(())
    })
}
