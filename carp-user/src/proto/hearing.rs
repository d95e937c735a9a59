//! What a virtual host makes of an advert: judges it, answers it, puts it to the election.

use super::election::{Input, LATE, Tie};
use super::event::{Action, Family, Role, Warning};
use super::host::Host;
use super::intent::Intent;
use super::outgoing;
use super::tenure::SETTLE;
use carp_common::admission::Addressee;
use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::wire::{Heard, Refusal};
use std::cmp::Ordering;
use std::net::IpAddr;

impl Host {
    /// A well-formed advert for this link and vhid. `at`: arrival in the kernel.
    /// Whether it counts.
    pub fn heard(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) -> bool {
        let addressee = match self.keys.admit(heard, at) {
            Ok(addressee) => addressee,
            Err(refusal) => {
                self.turn_away(heard, refusal, (at, now), actions);
                return false;
            }
        };
        if self.keys.trusts(heard.source, at) {
            self.peers.proved(heard.source);
        }
        self.tally.accepted += 1;
        self.learn_of_addresses(heard, addressee, now, actions);
        self.watch(heard, at, now, actions);
        let pace = heard.advert.pace;
        let fresh = now.since(at) <= LATE;
        match (pace, addressee) {
            (_, Addressee::Ours) => self.claim_announced(heard, now, actions),
            (Pace::GREETING, Addressee::Us) => self.greeted(heard, at, now, actions),
            (Pace::ANSWER | Pace::PROMISE, Addressee::Us) => self.answered(heard, at),
            (Pace::CONFIRMATION, Addressee::Us) => {
                if self.peers.released(heard.source, &heard.advert, at) {
                    self.confirmed_at = at.max(self.confirmed_at);
                }
            }
            (Pace::GREETING | Pace::ANSWER | Pace::PROMISE | Pace::CONFIRMATION, Addressee::Group) => {}
            (Pace::BOW_OUT, Addressee::Us) => {
                if self.peers.released(heard.source, &heard.advert, at) && fresh {
                    self.elect(Input::HandedOver { at }, now, actions);
                }
            }
            (Pace::BOW_OUT, Addressee::Group) => {
                self.peers.released(heard.source, &heard.advert, at);
                self.compete(heard, at, now, actions);
            }
            _ => {
                self.peers.heard(heard.source, &heard.advert, at);
                self.expectation.heard(heard.source, self.setup.pace, self.election.dead(), at);
                self.warn_of_rank(heard, now, actions);
                if fresh && self.election.role() == Role::Backup {
                    self.acquaint(heard.source, now, actions);
                    self.ask_ahead(heard.source, now, actions);
                }
                self.master = Some((heard.source, pace, heard.advert.demote));
                self.heed(heard, now, actions);
                self.compete(heard, at, now, actions);
                if fresh && self.tenure.is_serving() {
                    self.warn(Warning::SecondMaster(heard.source), now, actions);
                }
            }
        }
        self.tell_of_peers(now, actions);
        self.arm(now, actions);
        true
    }

    /// Who is heard from now on, or not any more.
    pub(super) fn tell_of_peers(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let host = self.id;
        let changed = self.peers.changed(self.setup.pace, now);
        actions.extend(changed.map(|(address, heard)| Action::Peer { host, address, heard }));
    }

    /// Another backup will claim. One that is better, and will claim too, objects by saying so; one that
    /// is worse waits for it.
    fn claim_announced(&mut self, heard: &Heard, now: Instant, actions: &mut Vec<Action>) {
        let pace = self.setup.pace;
        self.expectation.contest(heard.source, now + SETTLE + pace.interval().times(3), now);
        if self.election.role() == Role::Init {
            return;
        }
        let theirs = self.election.compare(heard.advert.pace, heard.advert.demote);
        let they_lead =
            theirs == Ordering::Less || (theirs == Ordering::Equal && self.tie(heard.source) == Tie::Theirs);
        if they_lead || self.bar.silences() {
            self.intent = Intent::Void(now);
        } else if self.election.role() == Role::Master {
            // It has not heard this master.
            self.advertise(actions);
        } else if self.will_claim(now) {
            self.intent.plan(pace, now);
        }
    }

    /// Greets a master that is not known yet, and asks the one that may make this node its heir.
    pub(super) fn acquaint(&mut self, master: IpAddr, now: Instant, actions: &mut Vec<Action>) {
        let asks = self.is_courted(master) && self.expectation.is_due(master, self.setup.pace, now);
        // Both are told by one greeting, so neither question may keep the other from being put.
        let greets = self.peers.greet(master, self.keys.mode(), now);
        if greets || asks {
            self.greet(master, now, actions);
        }
        if self.is_courted(master) {
            if greets || asks {
                self.expectation.asked(master, now);
            }
            if self.peers.is_alone_under(master) {
                self.expectation.presume(master, self.setup.pace, now);
            }
        }
    }

    /// Promises are given and asked for in one family only, so that a node is one node.
    pub(super) fn is_courted(&self, peer: IpAddr) -> bool {
        self.families.list().next() == Some(Family::of(peer))
    }

    /// Counts a refused frame, and warns where a person should look.
    pub fn refuse(
        &mut self,
        refusal: Refusal,
        source: Option<IpAddr>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.tally.refuse(refusal);
        self.warn_of(refusal, source, now, actions);
    }

    /// Warns of a refused frame that was counted, here or by the datapath.
    pub fn warn_of(
        &mut self,
        refusal: Refusal,
        source: Option<IpAddr>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let warning = match (refusal, source) {
            (Refusal::BadAuth, Some(source)) => Warning::BadAuth(source),
            (Refusal::Loop, _) => Warning::Loop,
            (Refusal::Vrrp, _) => Warning::Vrrp,
            (Refusal::BadMode, Some(source)) => Warning::BadMode(source),
            (Refusal::Replay, Some(source)) => Warning::Replay(source, self.keys.counter_of(source)),
            _ => return,
        };
        self.warn(warning, now, actions);
    }

    /// Puts a heard advert to the election, and confirms to the sender when this master gave way.
    fn compete(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        let was_master = self.election.role() == Role::Master;
        let may_preempt = self.may_preempt(heard, at, now);
        let input = Input::Heard {
            family: Family::of(heard.source),
            at,
            pace: heard.advert.pace,
            demote: heard.advert.demote,
            tie: self.tie(heard.source),
            may_preempt,
        };
        self.elect(input, now, actions);
        if was_master && self.election.role() == Role::Backup && !self.keeps_the_rest() {
            self.confirms_until = now + self.setup.pace.longest_lease();
        }
        // Again for every advert, as a confirmation may be lost; the new master waits no longer than
        // this node's lease could have lasted.
        if now < self.confirms_until && self.election.role() == Role::Backup {
            self.send_to(heard.source, Pace::CONFIRMATION, actions);
        }
    }

    /// Whether this backup may preempt that master now: it knows everybody, and is the heir or has
    /// announced its claim. It does that now, if it will want to.
    fn may_preempt(&mut self, heard: &Heard, at: Instant, now: Instant) -> bool {
        let Heard { source, advert, .. } = heard;
        if self.election.yields_to(advert.pace, advert.demote) {
            // Whatever claim was announced, the master is alive.
            self.intent = Intent::None;
            return false;
        }
        if self.bar.silences() {
            return false;
        }
        let is_fresh = now.since(at) <= LATE;
        let knows_all_at = self.knows_all_at().max(self.fellows.know_all_at);
        // The one other node of a pair has just said what it competes with.
        let are_led = self.fellows.are_led && !self.fellows.pair;
        if !is_fresh || are_led || now < knows_all_at || !self.peers.is_acquainted(*source, now) {
            return false;
        }
        if self.expectation.promised(now).is_some() {
            return true;
        }
        let pace = self.setup.pace;
        self.intent.plan(pace, now);
        self.intent.settled_at(pace, now).is_some_and(|settled_at| settled_at <= now)
    }

    /// A node of ours asks: it confirms. A master tells it that it does so, too, and that it is the
    /// heir if there is no other.
    fn greeted(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        self.peers.confirms(heard.source, &heard.advert, at);
        let is_master = self.election.role() == Role::Master;
        // With strict authentication whoever is asked answers, as a sign of life.
        if !is_master && !self.keys.mode().signs_strictly() {
            return;
        }
        let promises = is_master
            && self.is_courted(heard.source)
            && self.tenure.is_serving()
            && self.keys.trusts(heard.source, now)
            && self.promise.ask(heard.source, self.setup.pace, now);
        self.answer(heard, if promises { Pace::PROMISE } else { Pace::ANSWER }, now, actions);
    }

    /// A master of ours answers. A promise that is not newer than its last advert is late, or a replay.
    fn answered(&mut self, heard: &Heard, at: Instant) {
        let promises =
            heard.advert.pace == Pace::PROMISE && self.peers.is_news(heard.source, heard.advert.counter);
        self.peers.confirms(heard.source, &heard.advert, at);
        self.expectation.answered(heard.source, promises, self.setup.pace);
        if promises {
            self.farewell.promised(heard.source);
        }
    }

    /// Between two masters of equal rank the lower address leads. With both families in use only
    /// IPv4 decides: the IPv6 addresses may be ordered the other way round.
    pub(super) fn tie(&self, peer: IpAddr) -> Tie {
        let family = Family::of(peer);
        let own = self.link.and_then(|link| outgoing::source(&link, family));
        let decides = family == Family::V4 || !self.families.v4;
        match own {
            Some(own) if decides && peer < own => Tie::Theirs,
            Some(_) | None => Tie::Ours,
        }
    }

    fn warn_of_rank(&mut self, heard: &Heard, now: Instant, actions: &mut Vec<Action>) {
        let (own, peer) = (self.setup.pace, heard.advert.pace);
        let demoted = self.demotion != 0 || heard.advert.demote != 0;
        if !demoted && peer == self.election.effective() {
            self.warn(Warning::EqualRank(heard.source), now, actions);
        }
        let (low, high) = (own.base.min(peer.base), own.base.max(peer.base));
        if u16::from(high) > 3 * u16::from(low) {
            self.warn(Warning::BaseMismatch(heard.source, peer.base), now, actions);
        }
    }

    pub(super) fn warn(&mut self, warning: Warning, now: Instant, actions: &mut Vec<Action>) {
        if self.warned.is_news(&warning, now) {
            actions.push(Action::Warn { host: self.id, warning });
        }
    }
}
