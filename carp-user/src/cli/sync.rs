//! `carpctl sync`: replication of tracked connections.

use super::instance;
use super::states::{self, Selection};
use super::table::{nonzero, span};
use super::view::View;
use crate::api::{Request, Sync};
use anyhow::{Result, bail};
use std::fmt::Write;
use std::process::ExitCode;

/// Exit code of a node that is not in step with its peer, or has not room for all that it has.
const DEGRADED: u8 = 10;

/// Replication of tracked connections.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes of `status`: 0 in step, 10 not in step or an alarm, 1 not configured or no answer; of `diff`: 0 nothing differs, 10 something does.\n\n\
                        Examples:\n  carpctl sync status\n  carpctl sync diff\n  carpctl sync full"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// How it stands: in step, how many of 4096 parts of the two tables differ, how late the peer is.
    Status {
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Name the connections of this node that the peer may not have, or not so. Those that only the peer has are
    /// named there.
    Diff {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Have both nodes tell each other their whole tables once more.
    Full,
}

/// Does what the command line says.
///
/// # Errors
/// When the daemon does not answer, or replicates nothing.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    match args.verb {
        Verb::Status { json } => status(json, name),
        Verb::Diff { json } => diff(json, name),
        Verb::Full => instance::ask(name, &Request::SyncFull).map(|_done| ExitCode::SUCCESS),
    }
}

fn status(json: bool, name: Option<&str>) -> Result<ExitCode> {
    let view = View::look(name, None)?;
    let Some(sync) = &view.status.sync else {
        bail!("this node replicates nothing, or carpd does not answer: see [sync] in the configuration");
    };
    super::print(&if json { serde_json::to_string_pretty(sync)? + "\n" } else { render(sync) });
    Ok(if sync.state == "in-step" && sync.alarm.is_none() { ExitCode::SUCCESS } else { DEGRADED.into() })
}

fn diff(json: bool, name: Option<&str>) -> Result<ExitCode> {
    let odd = states::list(&Selection::odd(), json, name)?;
    if odd == 0 && !json {
        super::print("nothing differs\n");
    }
    Ok(if odd == 0 { ExitCode::SUCCESS } else { DEGRADED.into() })
}

/// In words.
pub(super) fn render(sync: &Sync) -> String {
    let mut text = line(sync) + "\n";
    let Sync { local, replicated, waiting, .. } = sync;
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "flows: {local} of this node, {replicated} of the peer, {waiting} waiting to be sent");
    let counters = nonzero(&sync.counters);
    if !counters.is_empty() {
        let _ = writeln!(text, "counted: {counters}");
    }
    if let Some(alarm) = &sync.alarm {
        let _ = writeln!(text, "alarm: {alarm}");
    }
    text
}

/// In one line.
pub(super) fn line(sync: &Sync) -> String {
    let since = span(sync.since_ms);
    let peer = sync.peer.as_deref().unwrap_or("the peer");
    match (sync.state.as_str(), sync.bulk) {
        ("alone" | "greeting", _) => format!("sync: no peer since {since}"),
        ("bulk", Some((got, of))) => format!("sync: {got} of {of} flows of {peer} have come"),
        ("bulk", None) => format!("sync: telling {peer} the flows of this node"),
        ("in-step", _) => {
            let Sync { lag_us, buckets, .. } = sync;
            let lag = format!("lag {}.{} ms", lag_us / 1000, lag_us % 1000 / 100);
            match sync.differing {
                Some(differing) => {
                    format!("sync: in step with {peer}, {differing} of {buckets} buckets differ, {lag}")
                }
                None => format!("sync: in step with {peer}, not compared yet, {lag}"),
            }
        }
        _ => format!("sync: ended: {}", sync.error.as_deref().unwrap_or("no reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_in_the_status() {
        let sync = Sync { alarm: Some("table-full: raise it".to_owned()), ..Sync::default() };
        assert!(render(&sync).ends_with("\nalarm: table-full: raise it\n"), "{}", render(&sync));
    }

    #[test]
    fn each_state_has_a_line() {
        let of = |state: &str| Sync {
            state: state.to_owned(),
            since_ms: 61_000,
            buckets: 4096,
            ..Sync::default()
        };
        assert_eq!(line(&of("alone")), "sync: no peer since 1 min 1 s");
        let bulk = Sync { bulk: Some((210, 500)), peer: Some("gw2".to_owned()), ..of("bulk") };
        assert_eq!(line(&bulk), "sync: 210 of 500 flows of gw2 have come");
        let in_step = Sync { differing: Some(0), lag_us: 840, peer: Some("gw2".to_owned()), ..of("in-step") };
        assert_eq!(line(&in_step), "sync: in step with gw2, 0 of 4096 buckets differ, lag 0.8 ms");
        let ended = Sync { error: Some("no memory".to_owned()), ..of("ended") };
        assert_eq!(line(&ended), "sync: ended: no memory");
    }
}
