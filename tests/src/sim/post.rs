//! Frames on their way: what the segments do to them, and what attackers do with them.

use super::fault::{Way, Weather};
use super::machine::{Arrival, Daemon, QUEUE};
use super::mutant::Mutant;
use super::oracle::{LATE, Rule};
use super::scenario::{KEY, Manners, link};
use super::story::What;
use super::world::{Happening, World};
use carp_common::admission::{Addressee, Mode};
use carp_common::auth::{Midstate, Variant};
use carp_common::id::{IfIndex, Vhid};
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Advert, Envelope, Frame, Heard, Refusal};
use carp_user::proto::event::{Action, Event, Family};
use core::fmt;
use std::net::IpAddr;

/// Adverts that an attacker remembers. Policy when full: the oldest is forgotten.
const RECORDED: usize = 256;

/// Whom a frame is really from, which no machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A machine, while it had its so-manieth daemon.
    Machine {
        /// Its index.
        node: usize,
        /// Which daemon.
        life: u32,
    },
    /// Somebody without the key.
    Forger,
    /// Somebody who sends again what was sent.
    Replayer,
}

/// Whom a frame is from, for the timeline.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine { node, life: _ } => write!(f, "n{node}"),
            Self::Forger => f.write_str("a forger"),
            Self::Replayer => f.write_str("a replayer"),
        }
    }
}

/// A frame under way to one machine.
#[derive(Clone)]
pub(super) struct Flight {
    segment: usize,
    to: usize,
    origin: Origin,
    frame: Frame,
}

/// An advertisement as an attacker remembers it.
pub(super) struct Recording {
    segment: usize,
    frame: Frame,
}

impl World {
    /// Sends a frame to everybody else on the segment; whether the kernel took it.
    pub(super) fn transmit(&mut self, node: usize, on: IfIndex, frame: Frame) -> bool {
        let Some(segment) = (0..self.scenario.segments).find(|segment| link(*segment) == on) else {
            return false;
        };
        let heard = Heard::parse(frame.bytes()).and_then(Result::ok);
        let errors = u64::from(self.machines[node].send_errors);
        let port = &self.machines[node].ports[segment];
        let (up, refuses) = (port.up, port.refuses);
        let ok = if up { !self.rng.chance(errors) } else { !refuses };
        if let Some(heard) = &heard {
            self.tell_advert(node, segment, heard, ok);
        }
        // What is not sent shortens a lease, and is no excuse; but the path carries nothing, and a group goes by the others.
        if !up || (!ok && self.scenario.grouped) {
            self.impair_all(segment, node, heard.map(|heard| heard.advert.vhid));
        } else if ok {
            self.spread(node, segment, frame, heard.map(|heard| heard.advert.vhid));
        }
        ok
    }

    /// The kernel has refused a frame and the node does not learn of it: as good as lost on the way.
    pub(super) fn lose(&mut self, node: usize, on: IfIndex, frame: Frame) {
        let heard = Heard::parse(frame.bytes()).and_then(Result::ok);
        for segment in (0..self.scenario.segments).filter(|segment| link(*segment) == on) {
            self.impair_all(segment, node, heard.map(|heard| heard.advert.vhid));
        }
    }

    /// A frame reaches a machine's port.
    pub(super) fn arrive(&mut self, flight: Flight) {
        let Flight { segment, to, origin, frame } = flight;
        let machine = &self.machines[to];
        if !machine.powered {
            return;
        }
        if !machine.ports[segment].up {
            if let Origin::Machine { node: from, .. } = origin {
                let heard = Heard::parse(frame.bytes()).and_then(Result::ok);
                self.impair(segment, from, to, heard.map(|heard| heard.advert.vhid), Span::ZERO);
            }
            return;
        }
        if self.mutant != Some(Mutant::DeafShield) {
            self.shield(segment, to, origin, frame);
        }
        let arrival = Arrival { segment, at: self.local(to), frame, origin };
        match &self.machines[to].daemon {
            Daemon::Running(_) => self.hear(to, &arrival),
            Daemon::Absent | Daemon::Paused(..) => {
                let queue = &mut self.machines[to].kernel.queue;
                if queue.len() < QUEUE {
                    queue.push_back(arrival);
                }
            }
        }
    }

    /// What XDP makes of a frame before anybody else sees it: an advert to the group that is
    /// authenticated, and not the machine's own, moves an armed window.
    fn shield(&mut self, segment: usize, to: usize, origin: Origin, frame: Frame) {
        let Some(Ok(heard)) = Heard::parse(frame.bytes()) else { return };
        let state = self.scenario.link_state(to, segment, true);
        let own = [state.source_v4.map(IpAddr::V4), state.source_v6.map(IpAddr::V6)];
        if origin == Origin::Forger || own.contains(&Some(heard.source)) {
            return;
        }
        if let Some(host) = self.host_of(link(segment), heard.advert.vhid) {
            let mut patience = self.scenario.machines[to].paces[host].longest_lease();
            let local = self.local(to);
            if self.scenario.auth == Mode::Strict {
                let addressee = addressee(&heard, &own);
                let kernel = &mut self.machines[to].kernel;
                if addressee == Addressee::Another {
                    return;
                }
                match kernel.recall(host, &heard, addressee, patience, local) {
                    Ok(()) => {}
                    Err(Refusal::Unproven) => patience = Span::ZERO,
                    Err(_) => return,
                }
            }
            if heard.advert.pace.is_word() {
                return;
            }
            self.machines[to].kernel.hear(host, heard.source, patience, local);
        }
    }

    /// The daemon gets a frame. Rule 3: what nobody with the key sent, and what it sent itself, may
    /// lead to warnings and to nothing else, unless something else is due at this moment.
    pub(super) fn hear(&mut self, node: usize, arrival: &Arrival) {
        let Arrival { segment, at, ref frame, origin } = *arrival;
        let local = self.local(node);
        let life = self.machines[node].life;
        let Some(running) = self.machines[node].running() else { return };
        let idle = running.deadline().is_none_or(|deadline| deadline > local);
        let is_hollow = origin == Origin::Forger || origin == Origin::Machine { node, life };
        if let Some(Ok(heard)) = Heard::parse(frame.bytes()) {
            self.tell(What::Heard { node, segment, origin, pace: heard.advert.pace });
        }
        let host = |vhid| self.host_of(link(segment), vhid);
        let frame = match self.mutant {
            Some(mutant) => mutant.hears(*frame, host, &self.scenario),
            None => Some(*frame),
        };
        let Some(frame) = frame else { return };
        let event = Event::Frame { link: link(segment), at, frame: frame.bytes() };
        let actions = self.ask(node, event);
        let warns = |action: &Action| matches!(action, Action::Warn { .. });
        if is_hollow && idle && !actions.iter().all(warns) {
            let text = format!("n{node} takes an advert of {origin} seriously: {actions:?}");
            self.oracle.fail(self.now, Rule::Fooled, text);
        }
        self.perform(node, actions.into_iter().map(super::machine::Todo::Act).collect());
    }

    /// An advertisement with a digest of random bytes.
    pub(super) fn forge(&mut self, node: usize, host: usize, farewell: bool, unicast: bool) {
        let spec = &self.scenario.hosts[host];
        let (segment, vhid) = (spec.segment, spec.vhid);
        let alleged = self.rng.index(self.machines.len());
        let state = |node| self.scenario.link_state(node, segment, true);
        let (victim, alleged) = (state(node), state(alleged));
        let v6 = spec.vips().iter().all(IpAddr::is_ipv6);
        let address = |state: carp_user::proto::event::LinkState| {
            let v4 = state.source_v4.map(IpAddr::V4);
            if v6 { state.source_v6.map(IpAddr::V6) } else { v4 }
        };
        let (Some(source), Some(target)) = (address(alleged), address(victim)) else { return };
        let mut digest = [0; 20];
        digest.iter_mut().for_each(|byte| *byte = self.rng.draw().to_le_bytes()[0]);
        let pace = if farewell { Pace::BOW_OUT } else { Pace { base: 1, skew: 0 } };
        let advert = Advert { vhid, pace, demote: 0, counter: self.rng.draw(), digest };
        let envelope = if unicast { Envelope::to_node(source, target, 0xe0) } else { None };
        let frame = envelope.unwrap_or_else(|| Envelope::to_group(source, 0xe0)).seal(&advert);
        self.arrive(Flight { segment, to: node, origin: Origin::Forger, frame });
    }

    /// A recorded advertisement, to everybody on the segment.
    pub(super) fn replay(&mut self, segment: usize, back: usize) {
        let on_segment = |recording: &&Recording| recording.segment == segment;
        let Some(frame) = self.recorded.iter().rev().filter(on_segment).nth(back).map(|it| it.frame) else {
            return;
        };
        for to in 0..self.machines.len() {
            let flight = Flight { segment, to, origin: Origin::Replayer, frame };
            let latency = self.latency();
            self.plan(self.now + latency, Happening::Arrive(flight));
        }
    }

    pub(super) fn weather(&mut self, way: Way) -> &mut Weather {
        let machines = self.machines.len();
        &mut self.weather[(way.segment * machines + way.from) * machines + way.to]
    }

    fn spread(&mut self, node: usize, segment: usize, frame: Frame, vhid: Option<Vhid>) {
        let origin = Origin::Machine { node, life: self.machines[node].life };
        for to in 0..self.machines.len() {
            let flight = Flight { segment, to, origin, frame };
            if to == node {
                if self.rng.chance(u64::from(self.machines[node].reflect)) {
                    let latency = self.latency();
                    self.plan(self.now + latency, Happening::Arrive(flight));
                }
            } else {
                self.carry(node, flight, vhid);
            }
        }
        if vhid.is_some() {
            if self.recorded.len() >= RECORDED {
                self.recorded.remove(0);
            }
            self.recorded.push(Recording { segment, frame });
        }
    }

    fn carry(&mut self, from: usize, flight: Flight, vhid: Option<Vhid>) {
        let (segment, to) = (flight.segment, flight.to);
        let weather = *self.weather(Way { segment, from, to });
        if weather.blocked || self.rng.chance(u64::from(weather.loss)) {
            self.tell(What::Lost { segment, from, to });
            return self.impair(segment, from, to, vhid, Span::ZERO);
        }
        let copies = if self.rng.chance(u64::from(weather.duplicate)) { 2 } else { 1 };
        for _ in 0..copies {
            let latency = self.latency() + self.rng.span(Span::ZERO, weather.delay);
            if latency > LATE {
                self.impair(segment, from, to, vhid, latency);
            }
            self.plan(self.now + latency, Happening::Arrive(flight.clone()));
        }
    }

    /// An advertisement does not come as it should, or only after this time.
    fn impair(&mut self, segment: usize, from: usize, to: usize, vhid: Option<Vhid>, after: Span) {
        if let Some(host) = vhid.and_then(|vhid| self.host_of(link(segment), vhid)) {
            self.oracle.impair(host, from, to, self.now + after);
        }
    }

    fn impair_all(&mut self, segment: usize, from: usize, vhid: Option<Vhid>) {
        for to in 0..self.machines.len() {
            self.impair(segment, from, to, vhid, Span::ZERO);
        }
    }

    pub(super) fn latency(&mut self) -> Span {
        match self.manners {
            Manners::Exact => Span::micros(100),
            Manners::Prompt | Manners::Sloppy => self.rng.span(Span::micros(50), Span::millis(1)),
        }
    }

    fn tell_advert(&mut self, node: usize, segment: usize, heard: &Heard, ok: bool) {
        let family = Family::of(heard.source);
        let to = Some(heard.destination).filter(|to| !to.is_multicast() || heard.is_announcement());
        self.tell(What::Advert { node, segment, pace: heard.advert.pace, family, to, ok });
    }
}

/// As [`Auth::admit`](carp_common::admission::Auth::admit) finds it.
fn addressee(heard: &Heard, own: &[Option<IpAddr>]) -> Addressee {
    if heard.is_announcement() {
        Addressee::Ours
    } else if heard.seen().is_to_group() {
        Addressee::Group
    } else if own.contains(&Some(heard.destination)) {
        Addressee::Us
    } else {
        Addressee::Another
    }
}

/// The advertisement in a frame as if it came from another address, or with another digest.
pub(super) fn reseal(frame: Frame, change: impl Fn(&mut Heard)) -> Frame {
    let Some(Ok(mut heard)) = Heard::parse(frame.bytes()) else { return frame };
    change(&mut heard);
    let to_node = Envelope::to_node(heard.source, heard.destination, 0xe0);
    to_node.unwrap_or_else(|| Envelope::to_group(heard.source, 0xe0)).seal(&heard.advert)
}

/// The digest that somebody with the key would have sent.
pub(super) fn sign(advert: &mut Advert, vips: &[IpAddr]) {
    let midstate = Midstate::new(&KEY, Variant::Freebsd, None, advert.vhid, vips);
    advert.digest = midstate.digest(advert.counter.to_be_bytes());
}
