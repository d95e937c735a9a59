//! Take-overs with a full table: what is left to do once a node has decided.

use super::couple::Couple;
use super::traffic::firewall;
use super::{Effort, TABLE};
use crate::cpu;
use crate::report::{Must, Row, Unit};
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::echo::Echo;
use carp_tests::lab::windows::Watch;
use std::net::{IpAddr, Ipv4Addr};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
/// Longest that a move may take.
const PATIENCE: Span = Span::secs(15);
/// For so long the CPU of a daemon that has taken over is counted.
const AFTER: Span = Span::secs(5);

/// Microseconds of each move, and nanoseconds of CPU.
#[derive(Default)]
struct Moves {
    planned: Vec<u64>,
    gap: Vec<u64>,
    killed: Vec<u64>,
    after: Vec<u64>,
}

/// Away from gw1 and back again: stopped, and killed.
pub fn measure(effort: &Effort, couple: &mut Couple) -> Result<Vec<Row>> {
    couple.pair.gateways.iter().try_for_each(firewall)?;
    let echo = Echo::start(&couple.pair.client, &couple.pair.server, SERVER)?;
    let mut moves = Moves::default();
    for _ in 0..effort.moves {
        couple.settle(effort)?;
        let watch = Watch::start([couple.gw1.windows(), couple.gw2.windows()]);
        let at = couple.gw1.stop()?;
        moves.planned.push(traffic(&echo, &watch, 1, at)?);
        moves.gap.push(echo.report(at, clock::now()).longest_gap.as_micros());
        moves.after.push(couple.aftermath()?);
        couple.gw1.run()?;
        let back = traffic(&echo, &watch, 0, clock::now())?;
        moves.planned.push(back);
        couple.settle(effort)?;
        let at = couple.gw1.kill()?;
        moves.killed.push(traffic(&echo, &watch, 1, at)?);
        couple.gw1.run()?;
        moves.planned.push(traffic(&echo, &watch, 0, clock::now())?);
    }
    let limit = Must::AtMost(10_000);
    Ok(vec![
        Row::new(TABLE, "planned move: from the decision until traffic flows", Unit::Millis, moves.planned)
            .must(limit),
        Row::new(TABLE, "dead master: from the decision until traffic flows", Unit::Millis, moves.killed)
            .must(limit),
        Row::new(TABLE, "planned move: longest gap in a millisecond's beat", Unit::Millis, moves.gap),
        Row::new(TABLE, "CPU of the new master in the five seconds after", Unit::Millis, moves.after),
    ])
}

impl Couple {
    /// gw1 serves, gw2 is its heir, and both have the same.
    fn settle(&self, effort: &Effort) -> Result<()> {
        self.wait_in_step()?;
        self.gw1.wait_role("MASTER", PATIENCE)?;
        self.gw2.wait_role("BACKUP", PATIENCE)?;
        self.gw2.wait_since(effort.rest, PATIENCE)
    }

    /// Microseconds of CPU of gw2 after it has taken over.
    fn aftermath(&mut self) -> Result<u64> {
        let id = self.gw2.process()?.id();
        let before = cpu::of_process(id)?;
        clock::sleep(AFTER);
        Ok(cpu::of_process(id)?.less(before).as_micros())
    }
}

/// Microseconds from the moment at which a node's last window was seen to open until the next packet had been through and
/// back. The windows are looked at once in a millisecond.
fn traffic(echo: &Echo, watch: &Watch, node: usize, since: Instant) -> Result<u64> {
    let serves = || {
        let changes = watch.changes(since, Instant::MAX);
        let mut opened = changes.iter().filter(|change| change.node == node && change.serves);
        let (first, last) = (opened.next()?, opened.next_back()?);
        Some(first.at.max(last.at))
    };
    let decided = clock::wait_for("the windows to open", PATIENCE.times(2), serves)?;
    let back = clock::wait_for("a packet to come back", PATIENCE, || echo.returned_after(decided))
        .context("through the node that has taken over")?;
    Ok(back.since(decided).as_micros())
}
