//! `carpctl status`: a table for people, JSON for programs.

use super::health::{EXIT_CODES, Health};
use super::table::{columns, nonzero, span};
use super::view::{Source, View};
use crate::api::{ConfigState, Host, MapWindow, Peer, Probed, Status, Track, WakeUps};
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

/// How things are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("{EXIT_CODES}\n\nExamples:\n  carpctl status\n  carpctl --instance gw1 status --json | jq '.hosts[].role'")
)]
pub struct Args {
    /// Print JSON (its `schema` says the version) instead of a table.
    #[arg(long)]
    json: bool,
}

/// Prints the status of an instance. The exit code says how well it is.
///
/// # Errors
/// When neither the daemon nor the pinned maps tell.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    let view = View::look(name, None)?;
    super::print(&if args.json { serde_json::to_string_pretty(&view)? + "\n" } else { render(&view) });
    Ok(view.judgement.health.code().into())
}

/// The table, with what pfSense's users look for: interface@vhid, VIP, status; and why. Nodes whose
/// digests differ are configured differently.
pub fn render(view: &View) -> String {
    let status = &view.status;
    let head = [
        "INTERFACE@VHID",
        "VIP",
        "STATUS",
        "SINCE",
        "LEASE",
        "BASE/SKEW",
        "AUTH",
        "DIGEST",
        "PEER",
        "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for host in &status.hosts {
        rows.push(match view.source {
            Source::Daemon => row(host),
            Source::Maps => row_of_map(host),
        });
        for alias in host.vips.iter().skip(1) {
            rows.push(vec![String::new(), alias.clone()]);
        }
    }
    let mut text = title(view);
    text += &columns(&rows);
    text.extend(groups(status));
    for demotion in &status.demotions {
        let age = span(demotion.since_ms);
        let ends = demotion.expires_ms.map(|left| format!(", ends in {}", span(left))).unwrap_or_default();
        let _ = writeln!(
            text,
            "demoted by {}: {} ({}, {age}{ends})",
            demotion.amount, demotion.name, demotion.reason
        );
    }
    text.extend(status.tracks.iter().map(track).chain(status.wakeups.iter().filter_map(late)));
    if let Some(left) = status.unconfirmed_ms {
        let left = span(left);
        let _ = writeln!(text, "the configuration is taken back in {left} unless you say `carpctl confirm`");
    }
    if let Some(sync) = &status.sync {
        let _ = writeln!(text, "{}", super::sync::line(sync));
    }
    if let Some(config) = &status.config {
        let _ = writeln!(text, "{}", configuration(config));
    }
    for host in &status.hosts {
        if let Some(held) = &host.standing.held {
            let _ = writeln!(text, "{} leaves a worse master alone: {}", host.label(), held.text());
        }
        if let Some(strict) = host.strict_peers {
            let _ = writeln!(text, "{} migrates: {}", host.label(), migration(strict, &host.other_peers));
        }
        for (what, counts) in [("refused", &host.refused), ("suspicious", &host.suspicious)] {
            let counts = nonzero(counts);
            if !counts.is_empty() {
                let _ = writeln!(text, "{} {what}: {counts}", host.label());
            }
        }
    }
    for (what, counts) in [("other adverts refused", &status.stray), ("datapath", &status.counters)] {
        let counts = nonzero(counts);
        if !counts.is_empty() {
            let _ = writeln!(text, "{what}: {counts}");
        }
    }
    if view.judgement.health != Health::Healthy {
        let _ = writeln!(text, "{}: {}", view.judgement.health.name(), view.judgement.why.join("; "));
    }
    text
}

/// How late carpd wakes, once it has.
fn late(WakeUps { count, p50_us, p99_us, max_us, .. }: &WakeUps) -> Option<String> {
    let [half, most, all] =
        [p50_us, p99_us, max_us].map(|us| format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10));
    let text = format!("wake-ups: {count}, late by {half} (half of them), {most} (99 %), {all} (all)\n");
    (*count > 0).then_some(text)
}

/// Whether it fails, and how near it is to be otherwise.
fn track(track: &Track) -> String {
    let Track { name, what, failing, since_ms, last, turning, turns_after, .. } = track;
    let state = if *failing { "fails" } else { "is good" };
    let mut text = format!("track {name} {state}, for {} ({what}): {last}", span(*since_ms));
    if *turning > 0 {
        let other = if *failing { "good" } else { "bad" };
        let _ = write!(text, "; {turning} of {turns_after} {other}");
    }
    text + "\n"
}

/// Revision, origin and hash of both nodes.
fn configuration(config: &ConfigState) -> String {
    let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    let ConfigState { part, hash, revision, origin, peer, amiss } = config;
    let mut text = format!("configuration: {part}, revision {revision} ({origin}), {}", short(hash));
    if let Some(peer) = peer {
        let _ = write!(
            text,
            "; {}: revision {} ({}), {}",
            peer.node,
            peer.revision,
            peer.origin,
            short(&peer.hash)
        );
    }
    for amiss in amiss {
        let _ = write!(text, "\n  {amiss}");
    }
    text
}

/// The line above everything: who says so.
pub(super) fn title(view: &View) -> String {
    let status = &view.status;
    match view.source {
        Source::Daemon => format!("{} (carpd {}, pid {})\n", status.node, status.version, status.pid),
        Source::Maps => {
            format!("{} (carpd does not answer: this is from the pinned maps alone)\n", status.node)
        }
    }
}

/// The virtual hosts that belong together, and the masters that are asked whether they serve.
fn groups(Status { hosts, probed: paths, .. }: &Status) -> impl Iterator<Item = String> {
    let mut groups = BTreeMap::<&str, Vec<String>>::new();
    for host in hosts {
        if let Some(group) = &host.group {
            groups.entry(group).or_default().push(host.label());
        }
    }
    groups
        .into_iter()
        .map(|(group, hosts)| format!("group {group}: {}\n", hosts.join(", ")))
        .chain(paths.iter().map(probed))
}

fn probed(Probed { group, interface, master, interval_ms, silent }: &Probed) -> String {
    let outcome = if *silent { "no answer" } else { "answers" };
    format!("group {group}: {master} on {interface} is asked every {interval_ms} ms: {outcome}\n")
}

fn row(host: &Host) -> Vec<String> {
    let serving = if host.role == "MASTER" && !host.serving { " (not serving)" } else { "" };
    let mut lease = if host.serving { span(host.lease_left_ms) } else { "-".to_owned() };
    match &host.window {
        Some(window) if window.open && !host.serving => lease += " (datapath: open)",
        Some(window) if !window.open && host.serving => lease += " (datapath: closed)",
        Some(MapWindow { opens_in_ms: Some(wait), .. }) => lease = format!("opens in {}", span(*wait)),
        Some(_) | None => {}
    }
    let pace = if host.skew == host.effective_skew {
        format!("{}/{}", host.base, host.skew)
    } else {
        format!("{}/{} (demoted to {})", host.base, host.skew, host.effective_skew)
    };
    vec![
        host.label(),
        host.vips.first().cloned().unwrap_or_default(),
        format!("{}{serving}", host.role),
        span(host.since_ms),
        lease,
        pace,
        host.auth.clone(),
        host.digest.clone(),
        host.peer.as_ref().map_or("-".to_owned(), peer),
        host.reason.clone(),
    ]
}

/// Whether the last step to strict authentication can be taken.
fn migration(strict: usize, others: &[String]) -> String {
    match (strict, others) {
        (0, []) => "no peer heard yet".to_owned(),
        (_, []) => format!("all peers heard sign strictly (addresses: {strict})"),
        (_, others) => format!("not yet strict: {}", others.join(", ")),
    }
}

fn peer(peer: &Peer) -> String {
    format!("{} {}/{} {} ago", peer.address, peer.base, peer.skew, span(peer.age_ms))
}

/// What the datapath does for a virtual host that no daemon tells of.
fn row_of_map(host: &Host) -> Vec<String> {
    let (status, lease) = match &host.window {
        Some(MapWindow { open: true, left_ms, .. }) => ("SERVING", span(*left_ms)),
        Some(MapWindow { opens_in_ms: Some(wait), .. }) => ("ARMED", format!("opens in {}", span(*wait))),
        Some(MapWindow { ended_ms: Some(ended), .. }) => ("FENCED", format!("ended {} ago", span(*ended))),
        Some(MapWindow { .. }) | None => ("NOT SERVING", "-".to_owned()),
    };
    let vip = host.vips.first().cloned().unwrap_or_default();
    let unknown = || "-".to_owned();
    let (label, status, reason) = (host.label(), status.to_owned(), host.reason.clone());
    vec![label, vip, status, unknown(), lease, unknown(), unknown(), unknown(), unknown(), reason]
}

#[cfg(test)]
mod tests {
    use super::super::health::Judgement;
    use super::*;
    use crate::api::{Demotion, SCHEMA, Status};

    #[test]
    fn the_table_of_a_master_in_maintenance() {
        let address = "10.0.0.3".to_owned();
        let peer = Some(Peer { address, base: 1, skew: 100, age_ms: 90_000, confirms: true });
        let host = Host {
            role: "MASTER".to_owned(),
            serving: true,
            lease_left_ms: 2_345,
            skew: 0,
            effective_skew: 240,
            reason: "initialized".to_owned(),
            peer,
            auth: "migrate".to_owned(),
            strict_peers: Some(1),
            other_peers: vec!["10.0.0.3".to_owned()],
            refused: [("badauth".to_owned(), 3), ("loop".to_owned(), 0)].into(),
            suspicious: [("rewritten".to_owned(), 2)].into(),
            window: Some(MapWindow { open: true, left_ms: 2_344, ..MapWindow::default() }),
            ..host()
        };
        let maintenance = "user maintenance".to_owned();
        let demotion = Demotion {
            name: maintenance,
            amount: 240,
            reason: "new memory".to_owned(),
            since_ms: 3_000,
            expires_ms: None,
        };
        let (version, counters) = ("1.2.3".to_owned(), [("arp-answered".to_owned(), 4)].into());
        let wakeups = WakeUps { count: 900, p50_us: 64, p99_us: 1_024, max_us: 8_765, ..WakeUps::default() };
        let more = Status { wakeups: Some(wakeups), ..status(host) };
        let status = Status { pid: 7, version, counters, demotions: vec![demotion], ..more };
        assert_eq!(
            render(&view(status, Source::Daemon)),
            "\
gw1 (carpd 1.2.3, pid 7)
INTERFACE@VHID  VIP       STATUS  SINCE      LEASE  BASE/SKEW             AUTH     DIGEST    PEER                           REASON
lan0@1          10.0.0.1  MASTER  1 min 1 s  2.3 s  1/0 (demoted to 240)  migrate  1a2b3c4d  10.0.0.3 1/100 1 min 30 s ago  initialized
                fd00::1
demoted by 240: user maintenance (new memory, 3.0 s)
wake-ups: 900, late by 0.06 ms (half of them), 1.02 ms (99 %), 8.76 ms (all)
lan0@1 migrates: not yet strict: 10.0.0.3
lan0@1 refused: badauth 3
lan0@1 suspicious: rewritten 2
datapath: arp-answered 4
maintenance: in maintenance: new memory
"
        );
    }

    #[test]
    fn the_table_of_the_maps_alone_says_so() {
        let window = Some(MapWindow { ended_ms: Some(1_500), ..MapWindow::default() });
        let reason = "carpd does not answer".to_owned();
        let status = status(Host { role: "UNKNOWN".to_owned(), reason, window, ..host() });
        assert_eq!(
            render(&view(status, Source::Maps)),
            "\
gw1 (carpd does not answer: this is from the pinned maps alone)
INTERFACE@VHID  VIP       STATUS  SINCE  LEASE            BASE/SKEW  AUTH  DIGEST  PEER  REASON
lan0@1          10.0.0.1  FENCED  -      ended 1.5 s ago  -          -     -       -     carpd does not answer
                fd00::1
silent: carpd does not answer, and its leases have ended: the datapath is fenced
"
        );
    }

    #[test]
    fn a_master_that_the_datapath_does_not_serve_shows_it() {
        let (role, window) = ("MASTER".to_owned(), Some(MapWindow::default()));
        let host = Host { role, serving: true, lease_left_ms: 900, window, ..host() };
        assert_eq!(row(&host).get(4).map(String::as_str), Some("900 ms (datapath: closed)"));
    }

    #[test]
    fn on_the_way_to_strict_it_says_whether_the_last_step_can_be_taken() {
        assert_eq!(migration(0, &[]), "no peer heard yet");
        assert_eq!(migration(2, &[]), "all peers heard sign strictly (addresses: 2)");
        assert_eq!(migration(1, &["10.0.0.3".to_owned()]), "not yet strict: 10.0.0.3");
    }

    #[test]
    fn an_armed_backup_shows_when_it_would_open() {
        let window = Some(MapWindow { opens_in_ms: Some(2_300), ..MapWindow::default() });
        let host = Host { role: "BACKUP".to_owned(), window, ..host() };
        assert_eq!(row(&host).get(4).map(String::as_str), Some("opens in 2.3 s"));
        assert_eq!(
            row_of_map(&host).get(2..5).map(|cells| cells.join(" ")).as_deref(),
            Some("ARMED - opens in 2.3 s")
        );
    }

    fn view(status: Status, source: Source) -> View {
        View { judgement: Judgement::of(&status, source, None), status, source }
    }

    fn status(host: Host) -> Status {
        Status { schema: SCHEMA, node: "gw1".to_owned(), hosts: vec![host], ..Status::default() }
    }

    fn host() -> Host {
        let vips = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let (interface, digest) = ("lan0".to_owned(), "1a2b3c4d".to_owned());
        Host { interface, vhid: 1, base: 1, since_ms: 61_000, vips, digest, ..Host::default() }
    }
}
