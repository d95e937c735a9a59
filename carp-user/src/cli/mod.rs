//! `carpctl`: one file per verb family.

pub mod account;
pub mod check;
pub mod cleanup;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod decode;
pub mod demote;
pub mod events;
pub mod explain;
pub mod failover;
pub mod files;
pub mod firewall;
pub mod genkey;
pub mod health;
pub mod init;
pub mod instance;
pub mod join;
pub mod nat;
pub mod pair;
pub mod peer;
pub mod reload;
pub mod states;
pub mod status;
pub mod sync;
pub mod table;
pub mod trace;
pub mod view;
pub mod watch;

use crate::io::bpf::BUILD;
use crate::io::error::chain;
use carp_common::map::ABI;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

/// The release, the version of the BPF maps, and the build of the BPF programs: `0.1.0 (maps 3,
/// programs 1a2b3c4d5e6f)`. `carpctl status --json` has them as `version`, `abi` and `build`.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (maps {ABI}, programs {BUILD})", env!("CARGO_PKG_VERSION")));

/// Talks to carpd, and takes adverts apart.
#[derive(Debug, Parser)]
#[command(
    name = "carpctl",
    version = VERSION.as_str(),
    after_help = format!("{}\n\nExamples:\n  carpctl status\n  carpctl decode --password-file lan.password --vip 10.0.0.1 capture.pcap\n  carpctl maintenance on --for 2h --reason 'new memory'\n\nRoot may do all of this; members of group carp may see status, counters, events and watch, of a carpd that does not answer too (from Linux 5.19 on).", health::EXIT_CODES)
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
    /// Show what was counted: adverts and refusals by virtual host, frames by the datapath.
    Counters(counters::Args),
    /// Show the status every second.
    Watch(watch::Args),
    /// Show what the datapath answers and drops, and why, for a time.
    Trace(trace::Args),
    /// Show what happened, and why; `-f` goes on with what happens.
    Events(events::Args),
    /// Say why each virtual host has its role, and what would change that.
    Explain(explain::Args),
    /// Hand the role over to the other node.
    Failover(failover::FailoverArgs),
    /// Hand everything over and stay out of the way, over restarts and reboots.
    Maintenance(failover::MaintenanceArgs),
    /// Rank this node lower, by a name, until `undemote`.
    Demote(demote::Args),
    /// Lift a demotion of that name.
    Undemote(demote::UndemoteArgs),
    /// Show or repeat the replication of tracked connections.
    Sync(sync::Args),
    /// List or count the connections that this node's kernel tracks, and say who has each.
    States(states::Args),
    /// Have carpd read its configuration again and go on with it, without a move.
    Reload(reload::Args),
    /// Have carpd go on with another shared file, and put it in the place of its own.
    Apply(reload::ApplyArgs),
    /// Keep what was applied with `--confirm`.
    Confirm,
    /// Have carpd go back to a configuration that it had before.
    Rollback(reload::RollbackArgs),
    /// Show the rules of NAT and of the firewall, and how often each was used.
    Nat(nat::Args),
    /// Say what another firewall has to let through.
    Firewall(firewall::Args),
    /// Write the first configuration of a node.
    Init(init::Args),
    /// Say whether a configuration is right; all mistakes at once.
    Check(check::Args),
    /// Show a configuration.
    Config(config::Args),
    /// Make the key that the two nodes of a pair share.
    Genkey(genkey::Args),
    /// Have another node join this one.
    Pair(pair::Args),
    /// Join the node that says `carpctl pair`.
    Join(join::Args),
    /// Say who may call this node by XML-RPC.
    Account(account::Args),
    /// Show this node's certificate, pin the peer's, call the peer.
    Peer(peer::Args),
    /// Remove what a killed carpd left on this machine.
    Cleanup(cleanup::Args),
    /// Take an advertisement apart: does it verify, and why would it be refused?
    Decode(decode::Args),
}

/// Runs what the command line says. Exit codes: see [`health::EXIT_CODES`].
pub fn run(cli: Cli) -> ExitCode {
    let name = cli.instance.as_deref();
    let outcome = match cli.verb {
        Verb::Status(args) => status::run(&args, name),
        Verb::Counters(args) => counters::run(&args, name),
        Verb::Watch(args) => watch::run(&args, name),
        Verb::Trace(args) => trace::run(&args, name),
        Verb::Events(args) => events::run(&args, name),
        Verb::Explain(args) => explain::run(&args, name),
        Verb::Failover(args) => failover::fail_over(args, name),
        Verb::Maintenance(args) => failover::maintain(args, name),
        Verb::Demote(args) => demote::run(args, name).map(|()| ExitCode::SUCCESS),
        Verb::Undemote(args) => demote::undo(args, name).map(|()| ExitCode::SUCCESS),
        Verb::Sync(args) => sync::run(&args, name),
        Verb::States(args) => states::run(&args, name),
        Verb::Reload(args) => reload::run(&args, name).map(|()| ExitCode::SUCCESS),
        Verb::Apply(args) => reload::apply(&args, name).map(|()| ExitCode::SUCCESS),
        Verb::Confirm => reload::confirm(name).map(|()| ExitCode::SUCCESS),
        Verb::Rollback(args) => reload::rollback(&args, name).map(|()| ExitCode::SUCCESS),
        Verb::Nat(args) => nat::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Firewall(args) => return firewall::run(&args),
        Verb::Init(args) => init::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Config(args) => config::run(&args, name),
        Verb::Genkey(args) => genkey::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Pair(args) => pair::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Join(args) => join::run(args),
        Verb::Account(args) => account::run(&args, name).map(|()| ExitCode::SUCCESS),
        Verb::Peer(args) => peer::run(&args, name).map(|()| ExitCode::SUCCESS),
        Verb::Cleanup(args) => cleanup::run(args, name),
        Verb::Decode(args) => return decode::run(args),
    };
    match outcome {
        Ok(code) => code,
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
