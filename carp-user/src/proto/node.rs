//! The node: its virtual hosts, links and demotions behind one door.

use super::demote::{self, Demoted, Demotions};
use super::detect::Watched;
use super::event::{Action, Changes, Command, Event, HostId, HostSetup, LinkState, Setup};
use super::gate::Gates;
use super::group::Groups;
use super::host::Host;
use super::restraint::Restraint;
use super::standing::Standing;
use super::status::NodeStatus;
use super::tally::Tally;
use super::tenure::SETTLE;
use super::together::Openings;
use carp_common::id::{IfIndex, Vhid};
use carp_common::time::{Instant, Span};
use carp_common::wire::sighting::peek_vhid;
use carp_common::wire::{Frame, Heard, Refusal};
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::ops::RangeBounds;

/// A virtual host that was looked at so recently has missed nothing.
const JUST_NOW: Span = Span::millis(1);

/// A whole CARP node as a value. See the module [`super`] for what it does not own.
#[derive(Debug)]
pub struct Node {
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) groups: Groups,
    pub(super) gates: Gates,
    /// Whose master is asked whether it serves.
    pub(super) watched: BTreeMap<String, Watched>,
    by_vhid: BTreeMap<(IfIndex, Vhid), HostId>,
    /// The links as they were described.
    links: BTreeMap<IfIndex, LinkState>,
    demotions: Demotions,
    /// Starts the counters of virtual hosts: random ones and strict ones.
    seeds: (u64, u32),
    /// Highest strict counter of those that have left: a number that comes back must not count anew.
    spent: u64,
    /// When all virtual hosts were looked at last.
    looked_at: Instant,
    /// Frames that belong to none of the virtual hosts.
    stray: Tally,
    stopped: bool,
}

impl Node {
    /// All virtual hosts in INIT, until their links are described.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let mut node = Self {
            hosts: BTreeMap::new(),
            groups: Groups::default(),
            gates: Gates::default(),
            watched: BTreeMap::new(),
            by_vhid: BTreeMap::new(),
            links: BTreeMap::new(),
            demotions: Demotions::default(),
            seeds: (setup.seed, setup.epoch),
            spent: 0,
            looked_at: now,
            stray: Tally::default(),
            stopped: false,
        };
        (0..).zip(setup.hosts).for_each(|(index, host)| node.add(HostId(index), host, now));
        node.assemble();
        node
    }

    /// The virtual hosts as they are now; see [`Event::Configure`].
    pub fn setups(&self) -> impl Iterator<Item = (HostId, &HostSetup)> + Clone {
        self.hosts.iter().map(|(id, host)| (*id, host.setup()))
    }

    /// Of one virtual host.
    pub fn setup(&self, id: HostId) -> Option<&HostSetup> {
        self.hosts.get(&id).map(Host::setup)
    }

    /// Where one stands.
    pub fn standing(&self, id: HostId, now: Instant) -> Option<Standing> {
        self.hosts.get(&id).map(|host| host.standing(now))
    }

    /// The one door: something happened, this is to be done, in this order. After `Stop` nothing
    /// is ever done again.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stopped {
            return actions;
        }
        // Of thousands that move at once each is heard, and reports: who has just looked has not slept since, and has to
        // look at the one alone.
        let only = self.concerned(&event).filter(|_| now.since(self.looked_at) < JUST_NOW);
        let among = only.map_or((Unbounded, Unbounded), |id| (Included(id), Included(id)));
        if only.is_none() {
            self.look(now);
        }
        self.hosts.range_mut(among).for_each(|(_, host)| host.lapse(now, &mut actions));
        let leaves = matches!(event, Event::Stop | Event::Command(Command::Cede { .. }));
        let is_news = event.is_news(now);
        // A stranger's frame is no reason to look at anything.
        let mut counts = only.is_none() && !matches!(event, Event::Refused { .. });
        match event {
            Event::Frame { link, at, frame } => counts = self.frame(link, at, frame, now, &mut actions),
            Event::Refused { link, refusal, frame } => {
                self.refused(link, refusal, frame, now, &mut actions);
            }
            Event::Link { link, state } => self.link(link, state, now, &mut actions),
            Event::Sent { host, errand, at, ok } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.sent(errand, at, ok, now, &mut actions);
                }
            }
            Event::Sign { group, sign, at } => self.sign(group, (sign, at), now, &mut actions),
            Event::PulseLost => self.pulse_lost(now, &mut actions),
            Event::Configure(changes) => self.configure(changes, now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
            Event::Answered { number, answer } => self.answered(number, answer, now, &mut actions),
            Event::Command(command) => self.command(command, now, &mut actions),
            Event::Stop => {
                self.hosts.values_mut().for_each(|host| host.stop(now, &mut actions));
                self.stopped = true;
            }
        }
        self.watch_sending(among, now, &mut actions);
        if !self.stopped && !self.gates.are_none() {
            self.mind_gates(only, now, &mut actions);
        }
        if counts && !self.stopped && !self.groups.are_none() {
            self.align(only, is_news, now, &mut actions);
            self.watch_sending(.., now, &mut actions);
        }
        // The datapath of all virtual hosts first, as one change, and then all addresses. Who leaves tells the others
        // before its addresses go and what it does is written down, and the heirs before the others: of thousands, the heir
        // of the last one waits for that.
        actions.sort_by_key(|action| match action {
            Action::Window { .. } => 0,
            Action::Serving { .. } | Action::Changed(_) if leaves => 4,
            Action::Send { frame, .. } if leaves && is_to_many(frame) => 3,
            Action::Serving { .. } => 1,
            Action::Advertise { .. }
            | Action::Send { .. }
            | Action::Announce { .. }
            | Action::Challenge { .. }
            | Action::Watch { .. }
            | Action::Changed(_)
            | Action::Ask(_)
            | Action::Tell { .. }
            | Action::Demoted(_)
            | Action::Peer { .. }
            | Action::Warn { .. } => 2,
        });
        actions
    }

    /// Look before you speak: a process that slept first learns what it has lost by that.
    fn look(&mut self, now: Instant) {
        self.looked_at = now;
        if self.deadline().is_some_and(|deadline| now.since(deadline) > SETTLE) {
            self.hosts.values_mut().for_each(|host| host.woke_late(now));
        }
    }

    /// The virtual host that this concerns and no other but those of its group, if there is one.
    fn concerned(&self, event: &Event<'_>) -> Option<HostId> {
        match event {
            Event::Sent { host, .. } => Some(*host),
            Event::Frame { link, frame, .. } | Event::Refused { link, frame, .. } => {
                self.by_vhid.get(&(*link, peek_vhid(*frame)?)).copied()
            }
            Event::Link { .. }
            | Event::Configure(_)
            | Event::Tick
            | Event::Answered { .. }
            | Event::Sign { .. }
            | Event::PulseLost
            | Event::Command(_)
            | Event::Stop => None,
        }
    }

    /// When to come back with a `Tick`; `None`: nothing is due before the next event.
    pub fn deadline(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let openings = Openings::of(self.hosts.values());
        let openings = self.hosts.values().filter_map(Host::opening).map(|opening| openings.at(opening));
        let hosts = self.hosts.values().filter_map(Host::deadline);
        hosts.chain(openings).chain(self.demotions.deadline()).chain(self.gates.deadline()).min()
    }

    /// What the node is at this moment.
    pub fn status(&self, now: Instant) -> NodeStatus {
        NodeStatus {
            hosts: self.hosts.values().map(|host| host.status(now)).collect(),
            demotions: self.demotions.status(),
            demotion: self.demotions.sum(),
            stray: self.stray.refused(),
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let over = self.demotions.expire(now);
        self.redemote(over, now, actions);
        let openings = Openings::of(self.hosts.values());
        for host in self.hosts.values_mut() {
            let opens_at = host.opening().map(|opening| openings.at(opening));
            host.tick(opens_at, now, actions);
        }
    }

    fn add(&mut self, id: HostId, setup: HostSetup, now: Instant) {
        let (seed, epoch) = self.seeds;
        let seed = seed ^ u64::from(id.0) << 32 ^ self.spent;
        let key = (setup.link, setup.vhid);
        let mut host = Host::new(id, setup, (seed, epoch), now);
        host.count_on(self.spent);
        self.by_vhid.insert(key, id);
        self.hosts.insert(id, host);
    }

    /// Who leaves does so as if the node stopped; who comes begins as if it started.
    fn configure(&mut self, changes: Changes, now: Instant, actions: &mut Vec<Action>) {
        for id in changes.removed {
            let Some(mut host) = self.hosts.remove(&id) else { continue };
            host.stop(now, actions);
            self.spent = self.spent.max(host.strict_counter());
            self.by_vhid.remove(&(host.setup().link, host.setup().vhid));
            let mut changed = vec![self.demotions.lift(&cannot_send(&host))];
            if !self.hosts.values().any(|other| other.setup().link == host.setup().link) {
                changed.push(self.demotions.lift(&obstacle_of(&host)));
            }
            self.redemote(changed, now, actions);
        }
        for (id, setup) in changes.changed {
            if let Some(host) = self.hosts.get_mut(&id) {
                host.configure(setup, now, actions);
            }
        }
        let sum = self.demotions.sum();
        for (id, setup) in changes.added {
            let state = self.links.get(&setup.link).copied();
            self.add(id, setup, now);
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            host.demote(sum, now, actions);
            if let Some(state) = state {
                host.link(state, now, actions);
            }
        }
        self.assemble();
        self.forget_masters(actions);
    }

    /// Which virtual hosts belong together.
    fn assemble(&mut self) {
        self.groups = Groups::of(self.hosts.values());
        self.gates = Gates::of(self.hosts.values(), self.gates.asked());
        self.shut_gates();
    }

    /// Whether it counts.
    fn frame(
        &mut self,
        link: IfIndex,
        at: Instant,
        frame: &[u8],
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(heard) = Heard::parse(frame) else { return false };
        let vhid = match &heard {
            Ok(heard) => Some(heard.advert.vhid),
            Err(_) => peek_vhid(frame),
        };
        let id = vhid.and_then(|vhid| self.by_vhid.get(&(link, vhid)));
        let host = id.and_then(|id| self.hosts.get_mut(id));
        match (host, heard) {
            (Some(host), Ok(heard)) => return host.heard(&heard, at, now, actions),
            (Some(host), Err(refusal)) => host.refuse(refusal, None, now, actions),
            (None, Ok(_)) => self.stray.refuse(Refusal::BadVhid),
            (None, Err(refusal)) => self.stray.refuse(refusal),
        }
        false
    }

    fn refused(
        &mut self,
        link: IfIndex,
        refusal: Refusal,
        frame: &[u8],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let id = peek_vhid(frame).and_then(|vhid| self.by_vhid.get(&(link, vhid)));
        if let Some(host) = id.and_then(|id| self.hosts.get_mut(id)) {
            let heard = Heard::parse(frame).and_then(Result::ok);
            host.warn_of(refusal, heard.as_ref().map(|heard| heard.source), now, actions);
            if let (Refusal::Replay, Some(heard)) = (refusal, heard) {
                host.answer_old(&heard, now, actions);
            }
        }
    }

    /// Hosts first, so that a lost link is fenced and in INIT before the others are demoted for it;
    /// a returned one listens before the demotion is lifted.
    fn link(&mut self, link: IfIndex, state: LinkState, now: Instant, actions: &mut Vec<Action>) {
        self.links.insert(link, state);
        let mut obstacle = None;
        let mut name = None;
        for host in self.hosts.values_mut().filter(|host| host.setup().link == link) {
            host.link(state, now, actions);
            obstacle = obstacle.or(host.obstacle());
            name = Some(obstacle_of(host));
        }
        let Some(name) = name else { return };
        let changed = match obstacle {
            Some(obstacle) => self.demotions.set(&name, (demote::FACTOR, obstacle.text()), None, now),
            None => self.demotions.lift(&name),
        };
        self.redemote([changed], now, actions);
    }

    /// A virtual host that cannot send demotes the node, until it can or is no master any more.
    fn watch_sending(&mut self, hosts: impl RangeBounds<HostId>, now: Instant, actions: &mut Vec<Action>) {
        let mut changed = Vec::new();
        for (_, host) in self.hosts.range_mut(hosts) {
            let Some(fails) = host.sending_changed() else { continue };
            let name = cannot_send(host);
            changed.push(if fails {
                self.demotions.set(&name, (demote::FACTOR, "adverts cannot be sent"), None, now)
            } else {
                self.demotions.lift(&name)
            });
        }
        self.redemote(changed, now, actions);
    }

    fn command(&mut self, command: Command, now: Instant, actions: &mut Vec<Action>) {
        match command {
            Command::Demote { name, amount, reason, until } => {
                let changed = self.demotions.set(&name, (amount, &reason), until, now);
                self.redemote([changed], now, actions);
            }
            Command::Undemote { name } => {
                let changed = self.demotions.lift(&name);
                self.redemote([changed], now, actions);
            }
            Command::Cede { hosts, spare } => {
                self.each(&hosts, |host| host.cede(spare, now, actions));
            }
            Command::Reclaim { hosts } => {
                self.each(&hosts, |host| host.restrain(Restraint::reclaim, now, actions));
            }
            Command::Force { host, master } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.force(master, now, actions);
                }
            }
        }
    }

    fn each(&mut self, hosts: &[HostId], mut change: impl FnMut(&mut Host)) {
        self.hosts.iter_mut().filter(|(id, _)| hosts.contains(id)).for_each(|(_, host)| change(host));
    }

    /// Demotion holds for every virtual host of the node (item 90).
    fn redemote(
        &mut self,
        changed: impl IntoIterator<Item = Option<Demoted>>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let before = actions.len();
        actions.extend(changed.into_iter().flatten().map(Action::Demoted));
        if actions.len() > before {
            let sum = self.demotions.sum();
            self.hosts.values_mut().for_each(|host| host.demote(sum, now, actions));
        }
    }
}

fn is_to_many(frame: &Frame) -> bool {
    frame.bytes().first().is_some_and(|first| first & 1 == 1)
}

/// Name of the demotion for a link that does not work.
fn obstacle_of(host: &Host) -> String {
    format!("link {}", host.setup().interface)
}

/// Name of the demotion for adverts that cannot be sent.
fn cannot_send(host: &Host) -> String {
    format!("send errors {}@{}", host.setup().interface, host.setup().vhid)
}
