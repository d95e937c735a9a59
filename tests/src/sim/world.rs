//! The world: machines on one clock, and what happens next. Follows from scenario and seed alone.

use super::fault::{Fault, Weather};
use super::machine::{Machine, News};
use super::mutant::Mutant;
use super::oracle::{Failure, Oracle, Rule, Spell};
use super::post::{Flight, Recording};
use super::probing::Question;
use super::rng::Rng;
use super::scenario::{Manners, Scenario, link};
use super::story::{Line, What};
use carp_common::id::IfIndex;
use carp_common::time::{Instant, Span};
use carp_user::proto::event::{Event, Role};
use carp_user::proto::status::NodeStatus;
use std::collections::BTreeMap;

/// Events of a run; more means that a node never comes to rest.
const MOST_STEPS: u64 = 1_000_000;
/// Times that a node may want to be woken for nothing.
const MOST_IDLE: u8 = 10;
/// Time that the system gets on top of its settling time, for timers and frames.
const GRACE: Span = Span::millis(100);
/// For so long nothing may change after it has settled.
const CALM: Span = Span::secs(10);

/// Everything that there is.
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) mutant: Option<Mutant>,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) machines: Vec<Machine>,
    /// By segment, sender, receiver.
    pub(super) weather: Vec<Weather>,
    /// What an attacker on the segments has seen.
    pub(super) recorded: Vec<Recording>,
    pub(super) manners: Manners,
    pub(super) oracle: Oracle,
    agenda: BTreeMap<(Instant, u64), Happening>,
    /// Scratch: who may serve when, by virtual host, then machine.
    windows: Vec<Option<Spell>>,
    spells: Vec<Option<Spell>>,
    steps: u64,
    log: Vec<Line>,
    is_logging: bool,
    is_over: bool,
}

/// Something that will happen.
pub(super) enum Happening {
    Fault(Fault),
    Tick { node: usize, number: u64 },
    Resume { node: usize, number: u64 },
    Arrive(Flight),
    Probe { node: usize, session: u64 },
    Asked(Question),
    Answered(Question),
    News { node: usize, news: News },
    Settled,
    End,
}

impl World {
    /// At time zero, nobody has power yet.
    pub fn new(mut scenario: Scenario, seed: u64, mutant: Option<Mutant>) -> Self {
        if let Some(mutant) = mutant {
            mutant.distort(&mut scenario);
        }
        let (segments, hosts, count) = (scenario.segments, scenario.hosts.len(), scenario.machines.len());
        let machine = |spec: &super::scenario::MachineSpec| Machine::new(spec.clock, segments, hosts);
        let mut world = Self {
            mutant,
            now: Instant::ZERO,
            rng: Rng::new(seed),
            machines: scenario.machines.iter().map(machine).collect(),
            weather: vec![Weather::default(); segments * count * count],
            recorded: Vec::new(),
            manners: scenario.manners,
            oracle: Oracle::new(&scenario),
            agenda: BTreeMap::new(),
            windows: Vec::new(),
            spells: Vec::new(),
            steps: 0,
            log: Vec::new(),
            is_logging: true,
            is_over: false,
            scenario,
        };
        for (at, fault) in std::mem::take(&mut world.scenario.script) {
            world.plan(at, Happening::Fault(fault));
        }
        world
    }

    /// Without a timeline, which is faster.
    #[must_use]
    pub const fn silent(mut self) -> Self {
        self.is_logging = false;
        self
    }

    /// Does everything that happens until `end`, or until a rule is broken.
    pub fn run_until(&mut self, end: Instant) {
        while self.oracle.failure().is_none() && !self.is_over {
            let next = self.agenda.first_key_value().map_or(end, |((at, _), _)| end.min(*at));
            self.watch(next);
            if next >= end {
                break;
            }
            let Some(((at, _), happening)) = self.agenda.pop_first() else { break };
            self.now = at;
            self.happen(happening);
            self.steps += 1;
            if self.steps > MOST_STEPS {
                self.oracle.fail(self.now, Rule::Confused, "too many events: it never rests".into());
            }
        }
        if end != Instant::MAX {
            self.now = end.max(self.now);
        }
    }

    /// Runs the whole script; a [`Fault::Heal`] in it is followed by the checks of convergence.
    pub fn run(&mut self) {
        self.run_until(Instant::MAX);
    }

    /// The first broken rule.
    pub const fn failure(&self) -> Option<&Failure> {
        self.oracle.failure()
    }

    /// What happened so far.
    pub fn story(&self) -> &[Line] {
        &self.log
    }

    /// Who takes part, in one line.
    pub fn cast(&self) -> String {
        let Scenario { machines, hosts, promise, auth, .. } = &self.scenario;
        let of = |machine: &super::scenario::MachineSpec| {
            let paces: Vec<_> =
                machine.paces.iter().map(|pace| format!("{}/{}", pace.base, pace.skew)).collect();
            let preempt = if machine.preempt { " preempt" } else { "" };
            format!("n (.{}) {}{preempt}", machine.address, paces.join(" "))
        };
        let machines: Vec<_> = machines.iter().map(of).collect();
        let families: Vec<_> = hosts.iter().map(|host| format!("{:?}", host.families)).collect();
        let (machines, families, auth) = (machines.join(", "), families.join(" "), auth.name());
        format!("{machines}; hosts {families}; auth {auth}; promise {promise:?}")
    }

    /// World time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A machine's role for a virtual host.
    pub fn role(&self, node: usize, host: usize) -> Role {
        self.oracle.role(node, host)
    }

    /// Whether a machine serves a virtual host now.
    pub fn serves(&self, node: usize, host: usize) -> bool {
        let now = self.now;
        self.service(node, host).is_some_and(|(from, until)| from <= now && now < until)
    }

    /// What a machine's daemon tells of itself; `None` when it has none.
    pub fn status(&self, node: usize) -> Option<NodeStatus> {
        let machine = &self.machines[node];
        machine.node().map(|node| node.status(machine.clock.read(self.now)))
    }

    pub(super) fn plan(&mut self, at: Instant, happening: Happening) {
        let number = self.next_number();
        self.agenda.insert((at.max(self.now), number), happening);
    }

    pub(super) fn tell(&mut self, what: What) {
        if self.is_logging {
            self.log.push(Line { at: self.now, what });
        }
    }

    pub(super) fn local(&self, node: usize) -> Instant {
        self.machines[node].clock.read(self.now)
    }

    pub(super) fn service(&self, node: usize, host: usize) -> Option<Spell> {
        self.window(node, host).filter(|_| self.is_connected(node, host))
    }

    fn is_connected(&self, node: usize, host: usize) -> bool {
        self.machines[node].is_connected(self.scenario.hosts[host].segment)
    }

    /// As [`World::service`], whether anybody can notice or not.
    fn window(&self, node: usize, host: usize) -> Option<Spell> {
        let spell = self.machines[node].service(host, self.now);
        let endless = self.mutant == Some(Mutant::LeaseIgnored);
        spell.map(|(from, until)| (from, if endless { Instant::MAX } else { until }))
    }

    /// All faults have ended: the rules of convergence begin.
    pub(super) fn expect_peace(&mut self) {
        let settled = self.now + self.scenario.settling() + GRACE;
        self.plan(settled, Happening::Settled);
        self.plan(settled + CALM, Happening::End);
    }

    /// The deadline has come. Rule 8: a node that is due again at once, and again, turns in circles.
    fn tick(&mut self, node: usize) {
        let due = self.machines[node].deadline.take();
        self.feed(node, Event::Tick);
        let machine = &mut self.machines[node];
        let is_idle = due.is_some() && machine.deadline == due;
        machine.idle = if is_idle { machine.idle + 1 } else { 0 };
        if machine.idle > MOST_IDLE {
            let text = format!("n{node} wants to be woken at once, again and again, for nothing");
            self.oracle.fail(self.now, Rule::Confused, text);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fault(fault) => self.inflict(fault),
            Happening::Tick { node, number } => {
                if self.machines[node].tick == number && self.machines[node].running().is_some() {
                    self.tick(node);
                }
            }
            Happening::Resume { node, number } => {
                if self.machines[node].pause == number {
                    self.resume(node);
                }
            }
            Happening::Arrive(flight) => self.arrive(flight),
            Happening::Probe { node, session } => self.probe(node, session),
            Happening::Asked(question) => self.asked(question),
            Happening::Answered(question) => self.answered(question),
            Happening::News { node, news } => self.notify(node, news),
            Happening::Settled => self.settle(),
            Happening::End => self.is_over = true,
        }
    }

    pub(super) fn host_of(&self, on: IfIndex, vhid: carp_common::id::Vhid) -> Option<usize> {
        self.scenario.hosts.iter().position(|host| host.vhid == vhid && link(host.segment) == on)
    }

    fn watch(&mut self, next: Instant) {
        self.survey();
        if self.scenario.grouped {
            self.note_lost_paths();
        }
        self.oracle.watch(self.now, next, &self.windows, &self.spells);
    }

    /// A group of which one path is gone goes by the others. Nothing is sent there that could be lost.
    fn note_lost_paths(&mut self) {
        for host in 0..self.scenario.hosts.len() {
            let gone = (0..self.machines.len()).filter(|node| !self.is_connected(*node, host));
            for node in gone.collect::<Vec<_>>() {
                (0..self.machines.len()).for_each(|other| self.oracle.impair(host, node, other, self.now));
            }
        }
    }

    fn settle(&mut self) {
        self.survey();
        self.oracle.settle(self.now, &self.scenario, &self.spells);
    }

    fn survey(&mut self) {
        let (mut windows, mut spells) = (std::mem::take(&mut self.windows), std::mem::take(&mut self.spells));
        windows.clear();
        spells.clear();
        for host in 0..self.scenario.hosts.len() {
            for node in 0..self.machines.len() {
                let window = self.window(node, host);
                windows.push(window);
                spells.push(window.filter(|_| self.is_connected(node, host)));
            }
        }
        (self.windows, self.spells) = (windows, spells);
    }
}
