//! `carpctl status`: a table for people, JSON for programs.

use super::instance;
use crate::api::{Host, Peer, Request, Response, Status};
use anyhow::{Result, bail};
use std::fmt::Write;

/// How things are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl status\n  carpctl --instance gw1 status --json | jq '.hosts[].role'"
)]
pub struct Args {
    /// Print JSON (its `schema` says the version) instead of a table.
    #[arg(long)]
    json: bool,
}

/// Prints the status of an instance.
///
/// # Errors
/// When it does not answer.
pub fn run(args: &Args, name: Option<&str>) -> Result<()> {
    let Response::Status(status) = instance::ask(name, &Request::Status)? else {
        bail!("carpd answered something else: is it of another version?")
    };
    let text = if args.json { serde_json::to_string_pretty(&*status)? + "\n" } else { render(&status) };
    super::print(&text);
    Ok(())
}

/// The table, with what pfSense's users look for: interface@vhid, VIP, status; and why.
pub fn render(status: &Status) -> String {
    let head = ["INTERFACE@VHID", "VIP", "STATUS", "SINCE", "LEASE", "BASE/SKEW", "PEER", "REASON"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for host in &status.hosts {
        rows.push(row(host));
        for alias in host.vips.iter().skip(1) {
            rows.push(vec![String::new(), alias.clone()]);
        }
    }
    let mut text = format!("{} (carpd {}, pid {})\n", status.node, status.version, status.pid);
    text += &columns(&rows);
    for demotion in &status.demotions {
        let age = span(demotion.since_ms);
        let _ =
            writeln!(text, "demoted by {}: {} ({}, {age})", demotion.amount, demotion.name, demotion.reason);
    }
    for host in &status.hosts {
        let refused = nonzero(&host.refused);
        if !refused.is_empty() {
            let _ = writeln!(text, "{}@{} refused: {refused}", host.interface, host.vhid);
        }
    }
    for (what, counts) in [("other adverts refused", &status.stray), ("datapath", &status.counters)] {
        let counts = nonzero(counts);
        if !counts.is_empty() {
            let _ = writeln!(text, "{what}: {counts}");
        }
    }
    text
}

fn row(host: &Host) -> Vec<String> {
    let serving = if host.role == "MASTER" && !host.serving { " (not serving)" } else { "" };
    let lease = if host.serving { span(host.lease_left_ms) } else { "-".to_owned() };
    let pace = if host.skew == host.effective_skew {
        format!("{}/{}", host.base, host.skew)
    } else {
        format!("{}/{} (demoted to {})", host.base, host.skew, host.effective_skew)
    };
    vec![
        format!("{}@{}", host.interface, host.vhid),
        host.vips.first().cloned().unwrap_or_default(),
        format!("{}{serving}", host.role),
        span(host.since_ms),
        lease,
        pace,
        host.peer.as_ref().map_or("-".to_owned(), peer),
        host.reason.clone(),
    ]
}

fn peer(peer: &Peer) -> String {
    format!("{} {}/{} {} ago", peer.address, peer.base, peer.skew, span(peer.age_ms))
}

fn nonzero(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let counts = counts.iter().filter(|(_, count)| **count > 0);
    counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Milliseconds, in the two largest units.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

fn columns(rows: &[Vec<String>]) -> String {
    let wide =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(wide).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
