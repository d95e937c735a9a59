//! What a virtual host makes of an advert: judges it, answers it, puts it to the election.

use super::election::{Input, LATE, Tie};
use super::event::{Action, Family, Role, Warning};
use super::host::Host;
use super::outgoing;
use carp_common::admission::Addressee;
use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::wire::{Heard, Refusal};
use std::net::IpAddr;

impl Host {
    /// A well-formed advert for this link and vhid. `at`: arrival in the kernel.
    pub fn heard(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        let to_us = match self.keys.admit(heard) {
            Ok(addressee) => addressee == Addressee::Us,
            Err(refusal) => return self.refuse(refusal, Some(heard.source), now, actions),
        };
        self.tally.accepted += 1;
        let pace = heard.advert.pace;
        let fresh = now.since(at) <= LATE;
        match (pace, to_us) {
            (Pace::GREETING | Pace::ANSWER, true) => self.greeted(heard, at, actions),
            (Pace::CONFIRMATION, true) => {
                self.peers.released(heard.source, &heard.advert, at);
            }
            (Pace::GREETING | Pace::ANSWER | Pace::CONFIRMATION, false) => {}
            (Pace::BOW_OUT, true) => {
                if self.peers.released(heard.source, &heard.advert, at) && fresh {
                    self.elect(Input::HandedOver, now, actions);
                }
            }
            (Pace::BOW_OUT, false) => {
                self.peers.released(heard.source, &heard.advert, at);
                self.compete(heard, at, now, actions);
            }
            _ => {
                self.peers.heard(heard.source, &heard.advert, at);
                self.warn_of_rank(heard, now, actions);
                let listens = self.election.role() == Role::Backup;
                if listens && fresh && self.peers.greet(heard.source, now) {
                    self.greet(heard.source, actions);
                }
                self.compete(heard, at, now, actions);
            }
        }
        self.open(now, actions);
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
            _ => return,
        };
        self.warn(warning, now, actions);
    }

    /// Puts a heard advert to the election, and confirms to the sender when this master gave way.
    fn compete(&mut self, heard: &Heard, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        let was_master = self.election.role() == Role::Master;
        let input = Input::Heard {
            family: Family::of(heard.source),
            at,
            pace: heard.advert.pace,
            tie: self.tie(heard.source),
            may_preempt: now >= self.knows_all_at() && self.peers.is_acquainted(heard.source),
        };
        self.elect(input, now, actions);
        if was_master && self.election.role() == Role::Backup {
            self.confirms_until = now + self.setup.pace.longest_lease();
        }
        // Again for every advert, as a confirmation may be lost; the new master waits no longer than
        // this node's lease could have lasted.
        if now < self.confirms_until && self.election.role() == Role::Backup {
            self.send_to(heard.source, Pace::CONFIRMATION, actions);
        }
    }

    /// A node of ours: it confirms. A master tells one that asks that it does so, too.
    fn greeted(&mut self, heard: &Heard, at: Instant, actions: &mut Vec<Action>) {
        self.peers.confirms(heard.source, &heard.advert, at);
        if heard.advert.pace == Pace::GREETING && self.election.role() == Role::Master {
            self.send_to(heard.source, Pace::ANSWER, actions);
        }
    }

    /// Between two masters of equal rank the lower address leads. With both families in use only
    /// IPv4 decides: the IPv6 addresses may be ordered the other way round.
    fn tie(&self, peer: IpAddr) -> Tie {
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

    fn warn(&mut self, warning: Warning, now: Instant, actions: &mut Vec<Action>) {
        if self.warned.is_news(&warning, now) {
            actions.push(Action::Warn { host: self.id, warning });
        }
    }
}
