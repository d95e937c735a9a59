//! Signs of life: strict authentication takes nobody's adverts who has not proved that it lives, so
//! whoever is greeted answers, with the greeting's counter. A master lets an advert follow, to the one
//! that asked: until now it may have been heard in vain. That answers too, as it may overtake.

use super::event::{Action, Errand, Role, Warning};
use super::host::Host;
use super::keyring::Word;
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::{Heard, Refusal};
use std::net::IpAddr;

/// A sender that does not answer for this long is warned of.
const PATIENCE: Span = Span::secs(1);
/// Greetings with old counters are answered at most this often.
const ANSWER_EVERY: Span = Span::millis(100);

impl Host {
    /// Counts what was refused; whoever has to prove that it lives is asked to, and until it could have may be
    /// serving.
    pub(super) fn turn_away(
        &mut self,
        heard: &Heard,
        refusal: Refusal,
        (at, now): (Instant, Instant),
        actions: &mut Vec<Action>,
    ) {
        self.refuse(refusal, Some(heard.source), now, actions);
        if refusal == Refusal::Replay {
            self.answer_old(heard, now, actions);
        }
        if refusal != Refusal::Unproven {
            return;
        }
        self.doubt(heard.source, now, actions);
        if !heard.advert.pace.is_word() {
            let may_live = self.keys.may_live(heard.source, at);
            self.peers.suspected(heard.source, &heard.advert, at, may_live);
            // The datapath counts no silence any more: it is to be armed anew.
            if self.election.role() == Role::Backup {
                self.set_window(Window::CLOSED, actions);
            }
        }
    }

    /// A greeting whose counter was used before is answered too, ten times a second at most: a node that lost
    /// its epoch could not learn else that there is a master. To anybody else the answer is an old one.
    pub(super) fn answer_old(&mut self, heard: &Heard, now: Instant, actions: &mut Vec<Action>) {
        let is_due = ANSWER_EVERY <= now.since(self.answered_at);
        if is_due && heard.advert.pace == Pace::GREETING && self.keys.is_for_us(heard) {
            self.answered_at = now;
            self.send_word(heard.source, Pace::ANSWER, heard.advert.counter, actions);
            self.show_rank(heard.source, heard.advert.counter, actions);
        }
    }

    /// Answers a greeting. The advert goes last: words may come after it, and it after none of them.
    pub(super) fn answer(&mut self, heard: &Heard, pace: Pace, now: Instant, actions: &mut Vec<Action>) {
        let answers = self.keys.mode().signs_strictly();
        if answers && !self.keys.trusts(heard.source, now) {
            self.doubt(heard.source, now, actions);
        }
        self.send_word(heard.source, pace, heard.advert.counter, actions);
        if answers {
            self.show_rank(heard.source, heard.advert.counter, actions);
        }
    }

    /// Asks a master whether it confirms, or anybody whether it lives; what becomes of it is reported like
    /// an advert.
    pub(super) fn greet(&mut self, node: IpAddr, now: Instant, actions: &mut Vec<Action>) {
        if let Some(challenge) = self.keys.challenge(now) {
            actions.push(Action::Challenge { host: self.id, challenge });
        }
        let greeting = Word { pace: Pace::GREETING, demote: u8::MAX, echo: 0 };
        if let Some(frame) = self.frame_to_node(node, greeting) {
            let (link, errand) = (self.setup.link, Errand::Greeting(node));
            actions.push(Action::Advertise { host: self.id, link, errand, frame });
        }
        if self.keys.mode().signs_strictly() {
            self.show_rank(node, 0, actions);
        }
    }

    /// A master's words to a node end with an advert: a word makes every earlier advert old that it
    /// overtakes, and does not say itself that there is a master.
    fn show_rank(&mut self, node: IpAddr, echo: u64, actions: &mut Vec<Action>) {
        if self.election.role() != Role::Master {
            return;
        }
        let rank = self.rank(echo);
        if let Some(frame) = self.frame_to_node(node, rank) {
            actions.push(Action::Send { link: self.setup.link, frame });
        }
    }

    /// Asks a sender for a sign of life.
    fn doubt(&mut self, sender: IpAddr, now: Instant, actions: &mut Vec<Action>) {
        let (asks, silence) = self.keys.doubt(sender, now);
        if asks {
            self.greet(sender, now, actions);
        }
        if PATIENCE <= silence {
            self.warn(Warning::Unproven(sender), now, actions);
        }
    }
}
