//! A role that was handed over because somebody asked: who has taken it, and whether that one serves. Its adverts do not say
//! so, as a claim advertises, too; a promise does, as only a master that serves makes one. So the former master asks.

use super::event::{Action, Family, Role};
use super::host::Host;
use super::input::Input;
use super::restraint::Restraint;
use super::tenure::SETTLE;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use std::net::IpAddr;

/// How often the new master is asked.
const ASK_EVERY: Span = Span::millis(20);
/// How often it is asked at most.
const QUESTIONS: u8 = 50;
/// A claim that waits for others repeats its advert for half a second. One that comes later is a master's that serves.
const REPEATED: Span = SETTLE.times(4);

/// What is known of the new master.
#[derive(Clone, Copy, Debug, Default)]
pub struct Farewell {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nobody asked.
    #[default]
    None,
    /// The role was given away.
    Given,
    /// This one advertises since then.
    Asking { master: IpAddr, since: Instant, ask_at: Instant, left: u8 },
    /// It serves.
    Served(IpAddr),
}

impl Farewell {
    /// The role is given away.
    pub fn give(&mut self) {
        self.state = State::Given;
    }

    /// A master advertised.
    fn heard(&mut self, master: IpAddr, now: Instant) {
        match &mut self.state {
            State::None | State::Served(_) => {}
            State::Asking { master: known, since, .. } if *known == master => {
                if now.since(*since) >= REPEATED {
                    self.state = State::Served(master);
                }
            }
            State::Given | State::Asking { .. } => {
                self.state = State::Asking { master, since: now, ask_at: now, left: QUESTIONS };
            }
        }
    }

    /// A master made a promise.
    pub fn promised(&mut self, master: IpAddr) {
        if let State::Asking { master: known, .. } = self.state
            && known == master
        {
            self.state = State::Served(master);
        }
    }

    /// When it is asked next.
    pub const fn ask_at(&self) -> Option<Instant> {
        match self.state {
            State::Asking { ask_at, left: 1.., .. } => Some(ask_at),
            State::None | State::Given | State::Served(_) | State::Asking { .. } => None,
        }
    }

    /// Who is to be asked now, and that it is.
    fn ask(&mut self, now: Instant) -> Option<IpAddr> {
        match &mut self.state {
            State::Asking { master, ask_at, left, .. } if *left > 0 && *ask_at <= now => {
                *ask_at = now + ASK_EVERY;
                *left -= 1;
                Some(*master)
            }
            State::None | State::Given | State::Served(_) | State::Asking { .. } => None,
        }
    }

    /// The new master, once it is known to serve.
    pub const fn served_by(&self) -> Option<IpAddr> {
        match self.state {
            State::Served(master) => Some(master),
            State::None | State::Given | State::Asking { .. } => None,
        }
    }
}

impl Host {
    /// Somebody asks for a role. A master that has to go tells the others.
    pub fn force(&mut self, master: bool, now: Instant, actions: &mut Vec<Action>) {
        self.relinquish(!master, Input::Force { master }, now, actions);
    }

    /// The role is to go to its heir.
    pub(super) fn yield_role(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.relinquish(true, Input::Yield, now, actions);
    }

    /// Gives up the role on this node's own account. `leave`: tell the others, if master.
    pub(super) fn relinquish(&mut self, leave: bool, input: Input, now: Instant, actions: &mut Vec<Action>) {
        // Nobody may take over at once from a claimant that was itself still waiting for another.
        let served = self.tenure.is_serving();
        let heir = self.heir(now);
        self.elect(input, now, actions);
        if !(leave && served) {
            return;
        }
        let families: Vec<Family> = self.families.list().collect();
        if let Some(heir) = heir {
            self.send_to(heir, Pace::BOW_OUT, actions);
        }
        for family in families {
            if let Some(frame) = self.frame_to_group(family, Pace::BOW_OUT) {
                actions.push(Action::Send { link: self.setup.link, frame });
            }
        }
    }

    /// Gives the role to its heir, as somebody asked. `spare`: it does not want it back from that one.
    pub fn cede(&mut self, spare: bool, now: Instant, actions: &mut Vec<Action>) {
        if !self.tenure.is_serving() {
            return;
        }
        self.yield_role(now, actions);
        self.farewell.give();
        if spare {
            self.restrain(|restraint| restraint.cede(now), now, actions);
        }
    }

    /// Changes what holds it back, and what follows from that.
    pub(super) fn restrain(
        &mut self,
        change: impl FnOnce(&mut Restraint),
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let held = self.restraint.holds();
        change(&mut self.restraint);
        if held != self.restraint.holds() {
            self.settle_terms(now, actions);
        }
    }

    /// A master advertises that is left alone, or not any more; or that may have taken the role over from this node. It is
    /// one node in one family.
    pub(super) fn heed(&mut self, heard: &Heard, now: Instant, actions: &mut Vec<Action>) {
        let (master, rank) = (heard.source, &heard.advert);
        if self.election.role() != Role::Backup || !self.is_courted(master) {
            return;
        }
        self.restrain(|restraint| restraint.heard(master, rank.pace, rank.demote), now, actions);
        self.farewell.heard(master, now);
        self.ask_whether_it_serves(now, actions);
    }

    /// Time has passed: what held it back may be over, and a new master may have to be asked.
    pub(super) fn look_after_moves(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.restrain(|restraint| restraint.tick(now), now, actions);
        self.ask_whether_it_serves(now, actions);
    }

    /// Asks the new master, if it is time to.
    fn ask_whether_it_serves(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(master) = self.farewell.ask(now) {
            self.expectation.asked(master, now);
            self.greet(master, now, actions);
        }
    }
}
