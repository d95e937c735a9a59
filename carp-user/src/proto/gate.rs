//! Who is asked before this node takes over: the gate of a virtual host, or of all that move as one. While it is asked, and
//! after it has refused, the node stays the backup that it is: it advertises nothing, announces no claim, opens no window,
//! and its datapath is not armed. A master is never asked, and never waits: what it serves, and when it is fenced, is none of
//! the gate's business.
//!
//! One question at a time. It is answered by an event; without an answer in time the configuration says what follows. Nobody
//! is asked of a lease that is resumed, of a role that a person forces, and of the rest of a group that already leads.

use super::event::{Action, HostId, Reason, Role};
use super::host::Host;
use super::input::Input;
use super::intent::Intent;
use super::node::Node;
use super::tenure::LATENCY;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use std::collections::{BTreeMap, BTreeSet};

/// After so long a time a gate that has refused may be asked again. A node that would take over from a silent master listens
/// for a dead time of its own then, as if it had just come.
pub const AGAIN: Span = Span::secs(5);

/// What the configuration says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Longest time until it has answered.
    pub patience: Span,
    /// Whether the node takes over without an answer.
    pub passes_unanswered: bool,
}

/// May this node take over?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The answer bears the same; later questions have higher ones.
    pub number: u64,
    /// The virtual host that wants to, or the first of its group.
    pub host: HostId,
    /// Why it wants to.
    pub reason: Reason,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Pass,
    /// Stay a backup, for this reason.
    Veto(String),
}

/// How a virtual host stands with its gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bar {
    /// There is none, or it lets pass.
    #[default]
    Open,
    /// It will be asked.
    Shut,
    /// It is being asked since then.
    Asked(Instant),
    /// It refused for this reason, and is not asked before that moment.
    Vetoed(String, Instant),
}

/// What a backup would have done but for its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    reason: Reason,
    at: Instant,
    /// What made it had just happened.
    is_news: bool,
}

/// The gates of a node.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// One for each virtual host or group that has one.
    gates: Vec<Gate>,
    /// Of the last question.
    asked: u64,
}

#[derive(Clone, Debug)]
struct Gate {
    hosts: BTreeSet<HostId>,
    setup: Setup,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Asking { number: u64, until: Instant },
    Passed { until: Instant },
    Vetoed { until: Instant },
}

impl Bar {
    /// Whether it keeps a backup from taking over.
    pub const fn bars(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Shut | Self::Asked(_) | Self::Vetoed(..) => true,
        }
    }

    /// Whether the backup does not even want to.
    pub const fn silences(&self) -> bool {
        match self {
            Self::Open | Self::Shut => false,
            Self::Asked(_) | Self::Vetoed(..) => true,
        }
    }
}

impl Gates {
    /// Of these virtual hosts. What was asked before is asked anew.
    pub fn of<'a>(hosts: impl Iterator<Item = &'a Host>, asked: u64) -> Self {
        let mut gates = BTreeMap::<String, Gate>::new();
        for host in hosts {
            let Some(setup) = host.setup().gate else { continue };
            let name = host.setup().grouped().map_or_else(|| host.setup().name(), |group| group.name.clone());
            let gate = || Gate { hosts: BTreeSet::new(), setup, stage: Stage::Idle };
            gates.entry(name).or_insert_with(gate).hosts.insert(host.id);
        }
        Self { gates: gates.into_values().collect(), asked }
    }

    /// Number of the last question.
    pub const fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether there is none.
    pub const fn are_none(&self) -> bool {
        self.gates.is_empty()
    }

    /// When to come back with a tick.
    pub fn deadline(&self) -> Option<Instant> {
        self.gates.iter().filter_map(|gate| gate.stage.until()).min()
    }
}

impl Stage {
    const fn until(&self) -> Option<Instant> {
        match self {
            Self::Idle => None,
            Self::Asking { until, .. } | Self::Passed { until } | Self::Vetoed { until } => Some(*until),
        }
    }
}

impl Node {
    /// What came of a question. One that is not waited for any more is of no meaning.
    pub(super) fn answered(&mut self, number: u64, answer: Answer, now: Instant, actions: &mut Vec<Action>) {
        let Self { gates: Gates { gates, .. }, hosts, .. } = self;
        let is_it =
            |gate: &&mut Gate| matches!(gate.stage, Stage::Asking { number: asked, .. } if asked == number);
        if let Some(gate) = gates.iter_mut().find(is_it) {
            gate.settle(answer, hosts, now, actions);
        }
    }

    /// They are those of the configuration, and nobody has been asked.
    pub(super) fn shut_gates(&mut self) {
        let Self { gates: Gates { gates, .. }, hosts, .. } = self;
        hosts.values_mut().for_each(|host| host.bar(&Bar::Open));
        gates.iter_mut().for_each(|gate| gate.rest(hosts));
    }

    /// After everything that happened, to these or to one alone: who wants to take over is asked for, and what is over is
    /// over.
    pub(super) fn mind_gates(&mut self, only: Option<HostId>, now: Instant, actions: &mut Vec<Action>) {
        let Self { gates: Gates { gates, asked }, hosts, .. } = self;
        let concerned = |gate: &&mut Gate| only.is_none_or(|host| gate.hosts.contains(&host));
        for gate in gates.iter_mut().filter(concerned) {
            let is_over = gate.stage.until().is_some_and(|until| until <= now);
            match gate.stage {
                Stage::Asking { .. } if is_over => {
                    let late = || Answer::Veto(format!("no answer within {}", gate.setup.patience));
                    let answer = if gate.setup.passes_unanswered { Answer::Pass } else { late() };
                    gate.settle(answer, hosts, now, actions);
                }
                Stage::Passed { .. } if is_over || !gate.listens(hosts) => gate.rest(hosts),
                Stage::Vetoed { .. } if is_over => gate.rest(hosts),
                Stage::Idle | Stage::Asking { .. } | Stage::Passed { .. } | Stage::Vetoed { .. } => {}
            }
            let Stage::Idle = gate.stage else { continue };
            let wish = gate.hosts.iter().find_map(|id| Some((*id, hosts.get(id)?.wish?)));
            if let Some((host, wish)) = wish {
                *asked += 1;
                gate.stage = Stage::Asking { number: *asked, until: now + gate.setup.patience };
                gate.bar(hosts, &Bar::Asked(now));
                actions.push(Action::Ask(Question { number: *asked, host, reason: wish.reason }));
            }
        }
    }
}

impl Gate {
    fn bar(&self, hosts: &mut BTreeMap<HostId, Host>, bar: &Bar) {
        hosts.iter_mut().filter(|(id, _)| self.hosts.contains(id)).for_each(|(_, host)| host.bar(bar));
    }

    /// Whether one of them is a backup.
    fn listens(&self, hosts: &BTreeMap<HostId, Host>) -> bool {
        let mut hosts = self.hosts.iter().filter_map(|id| hosts.get(id));
        hosts.any(|host| host.election.role() == Role::Backup)
    }

    /// Whoever wants to take over next is asked for.
    fn rest(&mut self, hosts: &mut BTreeMap<HostId, Host>) {
        self.stage = Stage::Idle;
        self.bar(hosts, &Bar::Shut);
    }

    fn settle(
        &mut self,
        answer: Answer,
        hosts: &mut BTreeMap<HostId, Host>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let wishes: Vec<(HostId, Wish)> =
            self.hosts.iter().filter_map(|id| Some((*id, hosts.get(id)?.wish?))).collect();
        match answer {
            Answer::Pass => {
                // As long as a worse master may take until it advertises again.
                let dead = hosts
                    .values()
                    .find(|host| self.hosts.contains(&host.id))
                    .map(|host| host.election.dead());
                self.stage = Stage::Passed { until: now + dead.unwrap_or_default() };
                self.bar(hosts, &Bar::Open);
                for (id, wish) in wishes {
                    if let Some(host) = hosts.get_mut(&id) {
                        host.grant(wish, now, actions);
                    }
                }
            }
            Answer::Veto(why) => {
                let until = now + AGAIN;
                self.stage = Stage::Vetoed { until };
                self.bar(hosts, &Bar::Vetoed(why, until));
                for (id, wish) in wishes {
                    if let Some(host) = hosts.get_mut(&id) {
                        host.hand_back(wish, now, actions);
                    }
                }
            }
        }
    }
}

impl Host {
    /// It stands so with its gate from now on.
    fn bar(&mut self, bar: &Bar) {
        self.bar = bar.clone();
        self.election.bar(bar.bars());
        match bar {
            Bar::Asked(_) => {}
            Bar::Open | Bar::Shut | Bar::Vetoed(..) => self.wish = None,
        }
        if let Bar::Vetoed(..) = bar {
            self.intent = Intent::None;
        }
    }

    /// It would have taken over.
    pub(super) fn wish(&mut self, reason: Reason, is_news: bool, now: Instant) {
        // What cannot be seen again goes on to count.
        if self.wish.is_none_or(|wish| !wish.is_edge()) {
            self.wish = Some(Wish { reason, at: now, is_news });
        }
    }

    /// The gate lets pass what this backup wanted to do, if it still wants to. One that preempts may have to wait for the
    /// next advert of its master.
    fn grant(&mut self, wish: Wish, now: Instant, actions: &mut Vec<Action>) {
        let is_silent = self.election.dead_at().is_some_and(|at| at <= now);
        if is_silent || (wish.is_edge() && self.is_orphan_since(wish.at)) {
            let is_news = wish.is_news && now.since(wish.at) <= LATENCY;
            self.elect(Input::Granted { reason: wish.reason, is_news }, now, actions);
        } else if self.preempt_at().is_some_and(|at| at <= now) {
            self.elect(Input::Preempt, now, actions);
        }
    }

    /// It was handed a role that it is not to have: its former master takes it back, if it is there.
    fn hand_back(&mut self, wish: Wish, now: Instant, actions: &mut Vec<Action>) {
        if let (Reason::HandedOver, Some((master, ..))) = (wish.reason, self.master)
            && self.is_orphan_since(wish.at)
        {
            self.send_to(master, Pace::BOW_OUT, actions);
        }
        self.arm(now, actions);
    }

    /// No master has advertised since.
    fn is_orphan_since(&self, at: Instant) -> bool {
        let master = self.master.and_then(|(address, ..)| self.peers.advertised_at(address));
        self.election.role() == Role::Backup && master.is_none_or(|heard_at| heard_at <= at)
    }
}

impl Wish {
    /// Made by a word that is said once.
    fn is_edge(self) -> bool {
        matches!(self.reason, Reason::HandedOver | Reason::MasterWillTimeOut)
    }
}
