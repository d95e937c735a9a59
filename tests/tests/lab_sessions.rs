//! Two hundred connections that speak while the role moves away and back, again and again, in every way that it can.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::flows::clear;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::replicating::{in_step, replicating, streams};
use carp_tests::lab::stream::{Load, all_talk, finish_all};
use std::collections::BTreeMap;

const SESSIONS: usize = 200;
/// 80 kB a second each, both ways.
const SPEECH: Load = Load { block: 4096, pause: Span::millis(50) };
/// What each has to say after a move before the next: 80 kB, more than the window that a kernel gives at first. So what a
/// node knew of windows when it gave way is of no use when it returns.
const BLOCKS: u64 = 20;

/// How the role moves away, and back.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The master is asked to rank lower, and then no longer.
    Demoted,
    /// The master is stopped in order, and starts again.
    Stopped,
    /// `kill -9`, and it starts again.
    Killed,
    /// The master is asked to rank lower; then the other one, which serves, is killed.
    HeirKilled,
    /// The master is killed and loses its links, and its kernel knows no connection when it starts again.
    Rebooted,
}

#[test]
fn two_hundred_connections_speak_on_while_the_role_moves_away_and_back_in_every_way() -> Result<()> {
    let mut duo = replicating()?;
    let sessions = streams(&duo.pair, SESSIONS, SPEECH)?;
    let ends = [&duo.pair.client, &duo.pair.server].map(Namespace::clone);
    let before = ends.each_ref().map(resets);
    in_step(&duo)?;
    let ways = [Way::Demoted, Way::Stopped, Way::Killed, Way::HeirKilled, Way::Rebooted];
    for (turn, way) in ways.into_iter().cycle().take(turns()).enumerate() {
        way.away(&mut duo)?;
        duo.wait_moved()?;
        all_talk(&sessions, BLOCKS).with_context(|| format!("turn {turn}, {way:?}, away"))?;
        way.back(&mut duo)?;
        duo.wait_as_configured()?;
        all_talk(&sessions, BLOCKS).with_context(|| format!("turn {turn}, {way:?}, back"))?;
    }
    in_step(&duo)?;
    finish_all(sessions)?;
    for (end, before) in ends.iter().zip(before) {
        let (before, now) = (before?, resets(end)?);
        ensure!(now == before, "resets at {}: {before:?} before, {now:?} now", end.host());
    }
    duo.never_two_masters()
}

impl Way {
    fn away(self, duo: &mut Duo) -> Result<()> {
        match self {
            Self::Demoted | Self::HeirKilled => said(duo, &["demote", "test"]),
            Self::Stopped => duo.gw1.stop().map(drop),
            Self::Killed => duo.gw1.kill().map(drop),
            Self::Rebooted => {
                duo.gw1.kill()?;
                duo.pair.connect(0, false)?;
                clear(duo.pair.gw1())
            }
        }
    }

    fn back(self, duo: &mut Duo) -> Result<()> {
        match self {
            Self::Demoted => said(duo, &["undemote", "test"]),
            Self::Stopped | Self::Killed => duo.gw1.run(),
            Self::Rebooted => {
                duo.pair.connect(0, true)?;
                duo.gw1.run()
            }
            Self::HeirKilled => {
                duo.gw2.kill()?;
                duo.gw1.wait_role("MASTER", PATIENCE)?;
                said(duo, &["undemote", "test"])?;
                duo.gw2.run()
            }
        }
    }
}

fn said(duo: &Duo, words: &[&str]) -> Result<()> {
    let output = duo.gw1.carpctl(words)?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Connections that a host has had reset by its peer, and resets that it has sent: `EstabResets` and `OutRsts`.
fn resets(host: &Namespace) -> Result<[u64; 2]> {
    let text = host.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut rows = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, counts) = rows.next().zip(rows.next()).context("no counters of TCP")?;
    let counts: BTreeMap<_, _> = names.zip(counts).collect();
    let count = |name| -> Result<u64> { Ok(counts.get(name).context("no such counter")?.parse()?) };
    Ok([count("EstabResets")?, count("OutRsts")?])
}

/// One in each way, or with `CARP_LONG` set, twenty.
fn turns() -> usize {
    if std::env::var_os("CARP_LONG").is_some() { 20 } else { 5 }
}
