//! The three ways of moving, and what is measured while it happens.

use crate::report::{Calm, Outcome, Phase};
use crate::screen::Screen;
use anyhow::{Context, Result, bail};
use carp_common::time::{Instant, Span};
use carp_tests::decimal::thousandth;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::echo::Echo;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::roles::Roles;
use carp_tests::lab::windows::Watch;

/// Where the probes go.
pub const SERVER: &str = "10.77.2.10";
/// Longest wait for a take-over; the protocol's own is 3.4 s.
const PATIENCE: Span = Span::secs(10);
/// Probes before the fault, and after the other gateway serves.
const AROUND: Span = Span::millis(500);
/// Time that replies get before probes count as lost.
const RETURN: Span = Span::millis(100);
const NAMES: [&str; 2] = ["gw1", "gw2"];

/// What happens to gw1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// SIGTERM: the daemon hands over; then it is started again.
    PlannedStop,
    /// SIGKILL: the daemon is gone at once; then it is started again.
    Kill,
    /// Its LAN cable is out; then it is put back.
    LinkDown,
}

/// The instruments, running for the whole demonstration.
pub struct Stage<'a> {
    pair: &'a Pair,
    echo: Echo,
    watch: Watch,
    roles: Roles,
    begun: Instant,
}

impl Move {
    /// In the table and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlannedStop => "planned stop",
            Self::Kill => "kill -9",
            Self::LinkDown => "link down",
        }
    }

    /// What is going to happen.
    pub const fn title(self) -> &'static str {
        match self {
            Self::PlannedStop => "planned stop: SIGTERM to carpd on gw1, then it is started again",
            Self::Kill => "kill -9 of carpd on gw1, then it is started again",
            Self::LinkDown => "link down: the LAN cable of gw1 is pulled, then plugged in again",
        }
    }

    /// Does it to gw1; gives the moment.
    fn fault(self, pair: &Pair, gw1: &mut Carpd) -> Result<(Instant, &'static str)> {
        match self {
            Self::PlannedStop => Ok((gw1.begin_stop()?, "gw1  SIGTERM")),
            Self::Kill => Ok((gw1.kill()?, "gw1  SIGKILL")),
            Self::LinkDown => {
                let at = clock::now();
                pair.plug("lan-gw1", false)?;
                Ok((at, "gw1  LAN cable out"))
            }
        }
    }

    /// Undoes it; gives the moment from which gw1 could do its work again.
    fn repair(self, pair: &Pair, gw1: &mut Carpd) -> Result<(Instant, &'static str)> {
        let at = clock::now();
        match self {
            Self::PlannedStop => {
                gw1.finish_stop()?;
                gw1.run()?;
                Ok((at, "gw1  carpd started"))
            }
            Self::Kill => {
                gw1.run()?;
                Ok((at, "gw1  carpd started"))
            }
            Self::LinkDown => {
                pair.plug("lan-gw1", true)?;
                Ok((at, "gw1  LAN cable in"))
            }
        }
    }
}

impl<'a> Stage<'a> {
    /// Starts the instruments.
    pub fn set(pair: &'a Pair, [first, second]: &[Carpd; 2]) -> Result<Self> {
        let server = SERVER.parse().context("the server's address")?;
        Ok(Self {
            pair,
            echo: Echo::start(&pair.client, &pair.server, server)?,
            watch: Watch::start([first.windows(), second.windows()]),
            roles: Roles::start([first.instance().to_owned(), second.instance().to_owned()]),
            begun: clock::now(),
        })
    }

    /// Whether probes have begun to come back.
    pub fn probes_return(&self) -> bool {
        self.echo.answered_since(self.begun)
    }

    /// Does something that is to move nothing, lets half a second pass before and after it, and tells what was to be seen in all
    /// that time; with it how long it took.
    ///
    /// # Errors
    /// What it cannot do.
    pub fn calm<T>(
        &self,
        nodes: &[Carpd; 2],
        screen: &mut Screen,
        act: impl FnOnce(&[Carpd; 2], &mut Screen) -> Result<T>,
    ) -> Result<(T, Calm)> {
        let from = clock::now();
        screen.pass("probes before it", AROUND);
        let done = act(nodes, screen)?;
        screen.pass("probes after it", AROUND + RETURN);
        self.watch.catch_up()?;
        let end = clock::now() - RETURN;
        let moved = self.watch.changes(from, end).len() + self.roles.changes(from, end).len();
        let (probes, two_masters) = (self.echo.report(from, end), self.watch.two_masters(from, end));
        Ok((done, Calm { probes, two_masters, moved }))
    }

    /// One move, there and back.
    pub fn perform(&self, movement: Move, nodes: &mut [Carpd; 2], screen: &mut Screen) -> Result<Outcome> {
        let there = self.phase(1, nodes, screen, |pair, gw1| movement.fault(pair, gw1))?;
        let back = self.phase(0, nodes, screen, |pair, gw1| movement.repair(pair, gw1))?;
        Ok(Outcome { name: movement.name(), there, back })
    }

    /// Does something to gw1 and watches until node `to` serves everything.
    fn phase(
        &self,
        to: usize,
        nodes: &mut [Carpd; 2],
        screen: &mut Screen,
        act: impl FnOnce(&Pair, &mut Carpd) -> Result<(Instant, &'static str)>,
    ) -> Result<Phase> {
        let from = clock::now();
        screen.pass("probes before it", AROUND);
        let [first, _] = nodes;
        let (at, what) = act(self.pair, first)?;
        let [mut here, mut other] = [nodes[to].windows(), nodes[1 - to].windows()];
        let wanted = format!("{} to serve", NAMES[to]);
        let served = screen.watch(&wanted, PATIENCE, || here.serves_all() && other.serves_none());
        let serving = clock::now();
        screen.watch("a probe through it", PATIENCE, || self.echo.answered_since(serving));
        screen.pass("probes after it", AROUND + RETURN);
        let end = clock::now() - RETURN;
        let begun =
            self.watch.changes(at, end).into_iter().filter(|change| change.node == to && change.serves);
        let takeover = begun.map(|change| change.at.since(at)).max().filter(|_| served);
        let phase = Phase {
            probes: self.echo.report(from, end),
            two_masters: self.watch.two_masters(from, end),
            blind: self.watch.blind(from, end),
            takeover,
            answered: self.echo.answered_after(serving).map(|moment| moment.since(at)).filter(|_| served),
        };
        self.tell(at, what, end, screen);
        screen.line(&format!("       {}", phase.summary()));
        if phase.takeover.is_none() || phase.answered.is_none() {
            bail!("{} did not carry the probes on within {PATIENCE}\n{}", NAMES[to], logs(nodes));
        }
        Ok(phase)
    }

    /// The time line: roles as the daemons tell them, serving as the datapath does it.
    fn tell(&self, at: Instant, what: &str, end: Instant, screen: &mut Screen) {
        let mut lines = vec![(at, what.to_owned())];
        for change in self.watch.changes(at, end) {
            let verb = if change.serves { "serves" } else { "serves no longer" };
            let net = ["LAN", "WAN"].get(usize::try_from(change.slot).unwrap_or(0)).unwrap_or(&"?");
            lines.push((change.at, format!("{}  {verb} the {net} addresses", NAMES[change.node])));
        }
        for change in self.roles.changes(at, end) {
            let (name, reason) = (NAMES[change.node], &change.reason);
            let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            lines.push((change.at, format!("{name}  {:<11}  {}{why}", change.host, change.role)));
        }
        lines.sort();
        for (moment, text) in lines {
            let micros = moment.since(at).as_micros();
            screen.line(&format!("  +{:>9} ms  {text}", thousandth(micros, 1)));
        }
    }
}

fn logs(nodes: &mut [Carpd; 2]) -> String {
    let logs = nodes.iter_mut().map(|node| {
        let host = node.namespace().host().to_owned();
        let log = node.process().map_or_else(|error| error.to_string(), |process| process.log());
        format!("--- log of carpd on {host} ---\n{log}")
    });
    logs.collect::<Vec<_>>().join("\n")
}
