//! Detection in the simulator: probes over the segments, answered by kernels; and the pulse of a daemon, which is there while
//! it runs, and ends a lease after it was paused or killed.

use super::fault::Way;
use super::machine::{Machine, News};
use super::oracle::LATE;
use super::scenario::link;
use super::world::{Happening, World};
use carp_common::map::Window;
use carp_common::time::{Instant, Span};
use carp_user::proto::detect::{Answered, By, Detector, Path, Pulse, Watched};
use carp_user::proto::event::Event;
use std::net::IpAddr;

/// Beats in a lease, as the product's prober makes them.
const BEATS: u64 = 8;

/// What a kernel takes of its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heart {
    /// It runs.
    Beats,
    /// It does not, or has not said so yet: until then its leases last, on the machine's clock.
    Until(Instant),
}

/// A master that is asked.
pub struct Prober {
    watched: Watched,
    detector: Detector,
    answers: Vec<Answered>,
    session: u64,
}

/// A question under way, or its answer.
#[derive(Clone, Copy)]
pub struct Question {
    asker: usize,
    master: usize,
    /// `None`: the link beside.
    segment: Option<usize>,
    path: usize,
    session: u64,
    asked_at: Instant,
    /// In an answer: what is left of the lease.
    remaining: Span,
}

impl Default for Heart {
    fn default() -> Self {
        Self::Until(Instant::ZERO)
    }
}

impl Heart {
    /// A window as far as this lets it last.
    pub const fn limits(self, window: Window) -> Window {
        match self {
            Self::Beats => window,
            Self::Until(until) => window.under(until),
        }
    }
}

impl World {
    /// The node wants this asked from now on.
    pub(super) fn watch_master(&mut self, node: usize, watched: Option<Watched>) {
        let local = self.local(node);
        let session = self.rng.draw();
        self.machines[node].prober = watched.map(|watched| Prober {
            detector: Detector::new(&watched, local),
            answers: vec![Answered::default(); watched.paths.len()],
            session,
            watched,
        });
        self.probe_later(node);
    }

    /// The prober looks, and asks if that is due.
    pub(super) fn probe(&mut self, node: usize, session: u64) {
        let local = self.local(node);
        let machine = &mut self.machines[node];
        if machine.running().is_none() {
            return;
        }
        let Some(prober) = machine.prober.as_mut().filter(|prober| prober.session == session) else { return };
        let sign = prober.detector.look(prober.answers.iter().copied(), local);
        let asks = prober.detector.asks(local);
        let paths: Vec<Path> = if asks { prober.watched.paths.clone() } else { Vec::new() };
        (0..paths.len()).for_each(|path| prober.detector.asked(path, local));
        if let Some(sign) = sign {
            let wait = self.rng.span(Span::ZERO, Span::millis(2));
            self.plan(self.now + wait, Happening::News { node, news: News::Sign(sign, local) });
        }
        for (index, path) in paths.iter().enumerate() {
            self.question(node, session, (index, path), local);
        }
        self.probe_later(node);
    }

    fn probe_later(&mut self, node: usize) {
        let late = self.lateness();
        let machine = &self.machines[node];
        if let Some(Prober { detector, session, .. }) = &machine.prober {
            let (at, session) = (machine.clock.when(detector.deadline()).max(self.now) + late, *session);
            self.plan(at, Happening::Probe { node, session });
        }
    }

    fn question(&mut self, asker: usize, session: u64, (index, path): (usize, &Path), asked_at: Instant) {
        let (segment, master) = match path.by {
            By::Host { link: by, .. } => {
                let segment = (0..self.scenario.segments).find(|segment| link(*segment) == by);
                (segment, segment.and_then(|segment| self.owner(segment, path.master)))
            }
            By::Sync(_) => (None, Some(1 - asker)),
        };
        let Some(master) = master else { return };
        let question =
            Question { asker, master, segment, path: index, session, asked_at, remaining: Span::ZERO };
        if let Some(latency) = self.travels(question, (asker, master)) {
            self.plan(self.now + latency, Happening::Asked(question));
        }
    }

    fn owner(&self, segment: usize, address: IpAddr) -> Option<usize> {
        (0..self.machines.len()).find(|node| {
            let state = self.scenario.link_state(*node, segment, true);
            [state.source_v4.map(IpAddr::V4), state.source_v6.map(IpAddr::V6)].contains(&Some(address))
        })
    }

    /// Whether a machine is on the segment of a question.
    fn is_there(&self, node: usize, segment: Option<usize>) -> bool {
        let machine = &self.machines[node];
        segment.map_or(machine.powered, |segment| machine.is_connected(segment))
    }

    /// A question reaches the master's kernel.
    pub(super) fn asked(&mut self, question: Question) {
        let Question { asker, master, segment, .. } = question;
        let local = self.local(master);
        if !self.is_there(master, segment) {
            return self.spoil(segment, asker, master, Span::ZERO);
        }
        let hosts = 0..self.scenario.hosts.len();
        let asked =
            hosts.filter(|host| segment.is_none_or(|segment| self.scenario.hosts[*host].segment == segment));
        let asked: Vec<usize> = asked.collect();
        let remaining = asked.into_iter().map(|host| self.told(master, host, local)).max();
        let remaining = remaining.unwrap_or(Span::ZERO);
        if remaining == Span::ZERO {
            return;
        }
        if let Some(latency) = self.travels(question, (master, asker)) {
            self.plan(self.now + latency, Happening::Answered(Question { remaining, ..question }));
        }
    }

    /// What a kernel says to be left of the lease.
    fn told(&mut self, node: usize, host: usize, local: Instant) -> Span {
        let age = self.age_of_beat();
        let (machine, lease) = (&self.machines[node], self.lease());
        let window = machine.kernel.windows[host];
        let window = match machine.kernel.heart {
            Heart::Beats => window.under(local + lease - age),
            Heart::Until(until) => window.under(until),
        };
        window.left(local)
    }

    /// An answer reaches the kernel of who asked.
    pub(super) fn answered(&mut self, question: Question) {
        let Question { asker, master, segment, path, session, asked_at, remaining } = question;
        let local = self.local(asker);
        if !self.is_there(asker, segment) {
            return self.spoil(segment, master, asker, Span::ZERO);
        }
        let Some(host) = segment.map_or(Some(0), |segment| self.host_on(segment)) else { return };
        let patience = self.scenario.machines[asker].paces[host].longest_lease();
        let machine = &mut self.machines[asker];
        let Some(prober) = machine.prober.as_mut().filter(|prober| prober.session == session) else { return };
        let known = &mut prober.answers[path];
        if known.asked_at < asked_at {
            *known = Answered { asked_at, until: local + remaining };
            match segment {
                Some(_) => machine.kernel.hear(host, prober.watched.paths[path].master, patience, local),
                None => machine.kernel.hear_of(host, local),
            }
        }
    }

    /// How long it is under way, unless it is lost.
    fn travels(&mut self, question: Question, (from, to): (usize, usize)) -> Option<Span> {
        let Some(segment) = question.segment else { return Some(self.latency()) };
        let way = Way { segment, from, to };
        let weather = *self.weather(way);
        let fails = u64::from(weather.loss).max(u64::from(self.machines[from].send_errors));
        let asks = from == question.asker;
        let fails = if asks { fails } else { u64::from(weather.loss) };
        if weather.blocked || !self.machines[from].is_connected(segment) || self.rng.chance(fails) {
            self.spoil(question.segment, from, to, Span::ZERO);
            return None;
        }
        let latency = self.latency() + self.rng.span(Span::ZERO, weather.delay);
        // Who asks at such intervals says that answers come within them.
        let allowed = self.scenario.detect.map_or(LATE, |detect| Span::nanos(detect.interval.as_nanos() / 2));
        if latency > allowed {
            self.spoil(question.segment, from, to, latency);
        }
        Some(latency)
    }

    fn spoil(&mut self, segment: Option<usize>, from: usize, to: usize, after: Span) {
        if let Some(host) = segment.and_then(|segment| self.host_on(segment)) {
            self.oracle.impair(host, from, to, self.now + after);
        }
    }

    fn host_on(&self, segment: usize) -> Option<usize> {
        self.scenario.hosts.iter().position(|host| host.segment == segment)
    }

    fn lease(&self) -> Span {
        self.scenario.detect.map_or(Span::ZERO, |detect| detect.lease)
    }

    fn age_of_beat(&mut self) -> Span {
        let beat = Span::nanos(self.lease().as_nanos() / BEATS);
        self.rng.span(Span::ZERO, beat)
    }

    /// The daemon does not run from now on.
    pub(super) fn skip_beats(&mut self, node: usize) {
        if self.scenario.detect.is_none() {
            return;
        }
        let age = self.age_of_beat();
        let until = self.local(node) + self.lease() - age;
        let heart = &mut self.machines[node].kernel.heart;
        if *heart == Heart::Beats {
            *heart = Heart::Until(until);
        }
    }

    /// It runs again. Whether its pulse was lost, which its node has to be told before [`World::beat`].
    pub(super) fn beats_again(&mut self, node: usize) -> bool {
        let local = self.local(node);
        let heart = &mut self.machines[node].kernel.heart;
        let lost = match *heart {
            Heart::Beats => false,
            Heart::Until(until) => Pulse::new(until).is_late(local),
        };
        if !lost {
            *heart = Heart::Beats;
        }
        if self.machines[node].prober.is_some() {
            self.probe_later(node);
        }
        lost && self.scenario.detect.is_some()
    }

    /// The pulse begins: no lease is open that is not to be.
    pub(super) fn begin_to_beat(&mut self, node: usize) {
        if self.machines[node].running().is_some() {
            self.machines[node].kernel.heart = Heart::Beats;
        }
    }

    /// The node is told that the pulse was lost; after that it begins anew.
    pub(super) fn lose_pulse(&mut self, node: usize) {
        self.feed(node, Event::PulseLost);
        self.begin_to_beat(node);
    }
}

impl Machine {
    /// Its window for a virtual host, as long as its daemon's pulse lets it last.
    pub fn limited(&self, host: usize) -> Window {
        self.kernel.heart.limits(self.kernel.windows[host])
    }
}
