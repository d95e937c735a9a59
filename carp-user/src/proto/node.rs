//! The node: its virtual hosts, links and demotions behind one door.

use super::demote::{self, Demotions};
use super::event::{Action, Command, Event, HostId, LinkState, Setup};
use super::host::Host;
use super::status::NodeStatus;
use super::tally::Tally;
use super::tenure::SETTLE;
use super::together::Openings;
use carp_common::id::{IfIndex, Vhid};
use carp_common::time::{Instant, Span};
use carp_common::wire::sighting::peek_vhid;
use carp_common::wire::{Heard, Refusal};
use std::collections::BTreeMap;
use std::slice::SliceIndex;

/// A virtual host that was looked at so recently has missed nothing.
const JUST_NOW: Span = Span::millis(1);

/// A whole CARP node as a value. See the module [`super`] for what it does not own.
#[derive(Debug)]
pub struct Node {
    hosts: Vec<Host>,
    by_vhid: BTreeMap<(IfIndex, Vhid), usize>,
    demotions: Demotions,
    /// When all virtual hosts were looked at last.
    looked_at: Instant,
    /// Frames that belong to none of the virtual hosts.
    stray: Tally,
    stopped: bool,
}

impl Node {
    /// All virtual hosts in INIT, until their links are described.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let hosts: Vec<Host> = (0..)
            .zip(setup.hosts)
            .map(|(index, host)| {
                let seed = setup.seed ^ u64::from(index) << 32;
                Host::new(HostId(index), host, (seed, setup.epoch), now)
            })
            .collect();
        let key = |host: &Host| (host.setup().link, host.setup().vhid);
        let by_vhid = hosts.iter().enumerate().map(|(index, host)| (key(host), index)).collect();
        let (demotions, stray) = (Demotions::default(), Tally::default());
        Self { hosts, by_vhid, demotions, looked_at: now, stray, stopped: false }
    }

    /// The one door: something happened, this is to be done, in this order. After `Stop` nothing
    /// is ever done again.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stopped {
            return actions;
        }
        // Of thousands that advertise at once each reports: who has just looked has not slept since.
        if let Event::Sent { host, errand, at, ok } = event
            && now.since(self.looked_at) < JUST_NOW
        {
            let index = self.index(host);
            if let Some((index, host)) = index.and_then(|index| Some((index, self.hosts.get_mut(index)?))) {
                host.lapse(now, &mut actions);
                host.sent(errand, at, ok, now, &mut actions);
                self.watch_sending(index..=index, now, &mut actions);
            }
            return actions;
        }
        self.looked_at = now;
        // Look before you speak: a process that slept first learns what it has lost by that.
        if self.deadline().is_some_and(|deadline| now.since(deadline) > SETTLE) {
            self.hosts.iter_mut().for_each(|host| host.woke_late(now));
        }
        self.hosts.iter_mut().for_each(|host| host.lapse(now, &mut actions));
        match event {
            Event::Frame { link, at, frame } => self.frame(link, at, frame, now, &mut actions),
            Event::Refused { link, refusal, frame } => {
                self.refused(link, refusal, frame, now, &mut actions);
            }
            Event::Link { link, state } => self.link(link, state, now, &mut actions),
            Event::Sent { host, errand, at, ok } => {
                if let Some(host) = self.host(host) {
                    host.sent(errand, at, ok, now, &mut actions);
                }
            }
            Event::Tick => self.tick(now, &mut actions),
            Event::Command(command) => self.command(command, now, &mut actions),
            Event::Stop => {
                self.hosts.iter_mut().for_each(|host| host.stop(now, &mut actions));
                self.stopped = true;
            }
        }
        self.watch_sending(.., now, &mut actions);
        // The datapath of all virtual hosts first, as one change.
        actions.sort_by_key(|action| !matches!(action, Action::Window { .. }));
        actions
    }

    /// When to come back with a `Tick`; `None`: nothing is due before the next event.
    pub fn deadline(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let openings = Openings::of(&self.hosts);
        let openings = self.hosts.iter().filter_map(Host::opening).map(|opening| openings.at(opening));
        self.hosts.iter().filter_map(Host::deadline).chain(openings).min()
    }

    /// What the node is at this moment.
    pub fn status(&self, now: Instant) -> NodeStatus {
        NodeStatus {
            hosts: self.hosts.iter().map(|host| host.status(now)).collect(),
            demotions: self.demotions.status(),
            demotion: self.demotions.sum(),
            stray: self.stray.refused(),
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let openings = Openings::of(&self.hosts);
        for host in &mut self.hosts {
            let opens_at = host.opening().map(|opening| openings.at(opening));
            host.tick(opens_at, now, actions);
        }
    }

    fn host(&mut self, id: HostId) -> Option<&mut Host> {
        self.index(id).and_then(|index| self.hosts.get_mut(index))
    }

    fn index(&self, id: HostId) -> Option<usize> {
        usize::try_from(id.0).ok().filter(|index| *index < self.hosts.len())
    }

    fn frame(&mut self, link: IfIndex, at: Instant, frame: &[u8], now: Instant, actions: &mut Vec<Action>) {
        let Some(heard) = Heard::parse(frame) else { return };
        let vhid = match &heard {
            Ok(heard) => Some(heard.advert.vhid),
            Err(_) => peek_vhid(frame),
        };
        let index = vhid.and_then(|vhid| self.by_vhid.get(&(link, vhid)));
        let host = index.and_then(|index| self.hosts.get_mut(*index));
        match (host, heard) {
            (Some(host), Ok(heard)) => host.heard(&heard, at, now, actions),
            (Some(host), Err(refusal)) => host.refuse(refusal, None, now, actions),
            (None, Ok(_)) => self.stray.refuse(Refusal::BadVhid),
            (None, Err(refusal)) => self.stray.refuse(refusal),
        }
    }

    fn refused(
        &mut self,
        link: IfIndex,
        refusal: Refusal,
        frame: &[u8],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let index = peek_vhid(frame).and_then(|vhid| self.by_vhid.get(&(link, vhid)));
        if let Some(host) = index.and_then(|index| self.hosts.get_mut(*index)) {
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
        let mut obstacle = None;
        let mut interface = None;
        for host in self.hosts.iter_mut().filter(|host| host.setup().link == link) {
            host.link(state, now, actions);
            obstacle = obstacle.or(host.obstacle());
            interface = Some(host.setup().interface.clone());
        }
        let Some(interface) = interface else { return };
        let name = format!("link {interface}");
        let changed = match obstacle {
            Some(obstacle) => self.demotions.set(&name, demote::FACTOR, obstacle.text(), now),
            None => self.demotions.lift(&name),
        };
        self.redemote(changed, now, actions);
    }

    /// A virtual host that cannot send demotes the node, until it can or is no master any more.
    fn watch_sending(
        &mut self,
        hosts: impl SliceIndex<[Host], Output = [Host]>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let mut changed = false;
        for host in self.hosts.get_mut(hosts).into_iter().flatten() {
            let Some(cannot_send) = host.sending_changed() else { continue };
            let name = format!("send errors {}@{}", host.setup().interface, host.setup().vhid);
            changed |= if cannot_send {
                self.demotions.set(&name, demote::FACTOR, "adverts cannot be sent", now)
            } else {
                self.demotions.lift(&name)
            };
        }
        self.redemote(changed, now, actions);
    }

    fn command(&mut self, command: Command, now: Instant, actions: &mut Vec<Action>) {
        match command {
            Command::Demote { name, amount, reason } => {
                let changed = self.demotions.set(&name, amount, &reason, now);
                self.redemote(changed, now, actions);
            }
            Command::Undemote { name } => {
                let changed = self.demotions.lift(&name);
                self.redemote(changed, now, actions);
            }
            Command::Force { host, master } => {
                if let Some(host) = self.host(host) {
                    host.force(master, now, actions);
                }
            }
        }
    }

    /// Demotion holds for every virtual host of the node (item 90).
    fn redemote(&mut self, changed: bool, now: Instant, actions: &mut Vec<Action>) {
        if changed {
            let sum = self.demotions.sum();
            self.hosts.iter_mut().for_each(|host| host.demote(sum, now, actions));
        }
    }
}
