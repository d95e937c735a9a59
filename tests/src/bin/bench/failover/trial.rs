//! One fault, there and back, and what a client saw of it.

use super::contender::Couple;
use super::fault::Fault;
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::echo::Echo;
use carp_tests::lab::owners::{Look, Owners};
use carp_tests::lab::replicating::{SERVER, streams};
use carp_tests::lab::stream::{Load, Stream, talking};

/// Connections of a trial.
pub const STREAMS: usize = 4;
/// Longest that a move may take; CARP's own dead time is 3.4 s.
const PATIENCE: Span = Span::secs(15);
/// What is looked at before each fault, for the noise of the machine.
const CALM: Span = Span::millis(500);
/// How long one node alone has to have owned the addresses for the other one's fault.
const SETTLED: Span = Span::secs(1);
/// Time that replies get before probes count as lost.
const RETURN: Span = Span::millis(100);
/// A connection that is silent for so long, and for twice the time that nothing got through, is broken.
const SPEECHLESS: Span = Span::secs(3);
/// After gw1 is back.
const AFTERMATH: Span = Span::secs(1);

/// A fault and its end.
pub struct Trial {
    /// From gw1 to gw2.
    pub there: Phase,
    /// And back.
    pub back: Phase,
}

/// One move.
pub struct Phase {
    /// The moment of what was done.
    pub at: Instant,
    /// Probes that no reply came to.
    pub lost: u64,
    /// First and last probe of each run of lost ones.
    pub outages: Vec<(Instant, Instant)>,
    /// By how much the longest time without a reply is longer than the one just before.
    pub extra_gap: Span,
    /// Both nodes owned an address.
    pub two_masters: Span,
    /// The datapaths of both served one, as far as the network is concerned or not; nothing where there are none.
    pub two_windows: Span,
    /// Nobody owned one.
    pub nobody: Span,
    /// Connections that fell silent.
    pub broken: u64,
    /// Whether it came to what it should.
    pub done: bool,
    /// Who owned the addresses of LAN and WAN, from a little before it on.
    pub looks: Vec<Vec<Look>>,
}

/// The instruments of a trial.
struct Stage<'a> {
    owners: &'a Owners,
    echo: Echo,
    streams: Vec<Stream>,
}

/// Has gw1 suffer it and recover.
pub fn run(couple: &mut Couple, owners: &Owners, fault: Fault) -> Result<Trial> {
    settle(couple, owners, 0)?;
    let echo = Echo::start(&couple.pair.client, &couple.pair.server, SERVER.parse()?)?;
    let begun = clock::now();
    clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
    let mut stage = Stage { owners, echo, streams: streams(&couple.pair, STREAMS, Load::default())? };
    let serves = |owners: &Owners, at| owners.begun(1, at);
    let there = stage.phase(couple, |couple| fault.inflict(couple), serves, fault.aftermath())?;
    if there.done {
        // Somebody who is only frozen, or was killed, may own the addresses as well.
        couple.ready_to_return(fault)?;
    }
    stage.renew(couple)?;
    let alone = |owners: &Owners, at: Instant| {
        let now = clock::now() - RETURN;
        (at + RETURN < now && owners.is_only(0, now - RETURN, now)).then_some(now)
    };
    let back = stage.phase(couple, |couple| fault.repair(couple), alone, AFTERMATH)?;
    stage.streams.into_iter().for_each(Stream::abandon);
    if fault == Fault::Sigstop {
        couple.refresh()?;
    }
    Ok(Trial { there, back })
}

/// Until one node (0 or 1) alone has owned the addresses for a while, and the other one is ready.
fn settle(couple: &mut Couple, owners: &Owners, node: usize) -> Result<()> {
    couple.ready(1 - node)?;
    let alone = || {
        let now = clock::now() - RETURN;
        owners.is_only(node, now - SETTLED, now).then_some(())
    };
    clock::wait_for("gw1 alone to own the addresses", PATIENCE.times(2), alone)
}

impl Couple {
    /// Waits until gw1 stands by, where its daemon runs and hears the other one.
    fn ready_to_return(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Planned | Fault::Maintenance => self.ready(0),
            Fault::Sigterm | Fault::Sigkill | Fault::Sigstop | Fault::LinksDown | Fault::CutOff => Ok(()),
        }
    }
}

impl Stage<'_> {
    /// Acts, and looks on until it is `done` and a little longer.
    fn phase(
        &mut self,
        couple: &mut Couple,
        act: impl FnOnce(&mut Couple) -> Result<Instant>,
        done: impl Fn(&Owners, Instant) -> Option<Instant>,
        aftermath: Span,
    ) -> Result<Phase> {
        let from = clock::now();
        clock::sleep(CALM);
        let at = act(couple)?;
        let done = clock::wait_for("it", PATIENCE, || done(self.owners, at)).is_ok();
        clock::sleep(aftermath + RETURN);
        let end = clock::now() - RETURN;
        let report = self.echo.report(at, end);
        let [calm, then] = [(from, at), (at, end)].map(|(from, to)| self.echo.longest_silence(from, to));
        // One that was silent for a time retransmits after as long again, at most.
        let patience = then.times(2) + SPEECHLESS;
        let broken = talking(&self.streams, patience).iter().filter(|talks| !**talks).count();
        Ok(Phase {
            at,

            lost: report.lost,
            outages: report.outages,
            extra_gap: then.less(calm),
            two_masters: self.owners.two(at, end),
            two_windows: couple.both_serve(at, end),
            nobody: self.owners.nobody(at, end),
            broken: broken as u64,
            done,
            looks: self.owners.looks(at - Span::millis(100), end),
        })
    }

    /// Others take the place of connections that are silent.
    fn renew(&mut self, couple: &Couple) -> Result<()> {
        let talk = talking(&self.streams, Span::millis(500));
        let all = std::mem::take(&mut self.streams).into_iter().zip(talk);
        let (alive, silent): (Vec<_>, Vec<_>) = all.partition(|(_, talks)| *talks);
        self.streams = alive.into_iter().map(|(stream, _)| stream).collect();
        let missing = silent.len();
        silent.into_iter().for_each(|(stream, _)| stream.abandon());
        self.streams.extend(streams(&couple.pair, missing, Load::default()).context("through gw2")?);
        Ok(())
    }
}
