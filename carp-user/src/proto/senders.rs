//! What strict authentication remembers of the senders of adverts, in the daemon; the rules are
//! [`carp_common::sender`]'s.

use carp_common::admission::Addressee;
use carp_common::sender::{Challenge, Sender};
use carp_common::time::{Instant, Span};
use carp_common::wire::{Heard, Refusal};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Senders remembered. Only what is authentic is. Policy when full: a new one's adverts are refused as
/// unproven.
const MOST: usize = 64;
/// A sender is asked for a sign of life at most this often.
const ASK_EVERY: Span = Span::millis(100);
/// Of so many questions in a row one that lives answers one: an answer may be lost.
const QUESTIONS: u8 = 2;
/// Answers count to the greetings of the last while, each of which lasts this long.
const WHILE: Span = Span::secs(1);

/// The senders of a virtual host.
#[derive(Clone, Debug, Default)]
pub struct Senders {
    known: BTreeMap<IpAddr, Known>,
    challenge: Challenge,
    challenged_at: Instant,
    /// The one before it: of answers that came in before this one was put, and waited to be read.
    before: Challenge,
    /// When a greeting left this node last.
    greeted_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    sender: Sender,
    doubt: Option<Doubt>,
}

/// It has to prove that it lives.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// When it was to be asked last.
    asked_at: Instant,
    /// How many questions have left this node that it has not answered.
    questions: u8,
    /// When there were [`QUESTIONS`].
    greeted_at: Option<Instant>,
}

impl Senders {
    /// An authentic advert arrived at `at`; `lease` is the longest of this virtual host.
    ///
    /// # Errors
    /// `Replay`, `Unproven`.
    pub fn hear(
        &mut self,
        heard: &Heard,
        addressee: Addressee,
        lease: Span,
        at: Instant,
    ) -> Result<(), Refusal> {
        let said = &heard.seen().said;
        let mut known = self.known.get(&heard.source).copied().unwrap_or_default();
        // A proof is of now: nobody answers later than this, and what was held back meanwhile is none.
        let challenge = match self.greeted_at + lease {
            end if end < at => Challenge::default(),
            _ if at < self.challenged_at => self.before,
            _ => self.challenge,
        };
        known.sender = known.sender.hear(said, addressee, challenge, lease, at)?;
        let admitted = known.sender.admit(said, addressee);
        // An answer that is too old to be a proof is one all the same: it has to be asked again.
        let answers = addressee == Addressee::Us && self.challenge.is_known_to(said);
        if answers || known.sender.is_fresh(lease, at) {
            known.doubt = None;
        }
        if self.known.len() >= MOST && !self.known.contains_key(&heard.source) {
            return Err(Refusal::Unproven);
        }
        self.known.insert(heard.source, known);
        admitted
    }

    /// Whether this sender has proved that it lives, and not fallen silent since.
    pub fn is_fresh(&self, sender: IpAddr, lease: Span, now: Instant) -> bool {
        self.known.get(&sender).is_some_and(|known| known.sender.is_fresh(lease, now))
    }

    /// Whether an advert of it that arrived at `at` and proves nothing may all the same come from one that lives,
    /// and serves: as it was not asked [`QUESTIONS`] times yet, or could not have answered. One that has slept for a
    /// lease does not serve, and one that has not reads what it is asked. So what comes later comes from
    /// somebody else, and recorded adverts keep nobody from serving for ever.
    pub fn may_live(&self, sender: IpAddr, lease: Span, at: Instant) -> bool {
        let greeted_at = self.known.get(&sender).and_then(|known| known.doubt?.greeted_at);
        greeted_at.is_none_or(|greeted_at| at <= greeted_at + lease)
    }

    /// Its highest counter.
    pub fn counter_of(&self, sender: IpAddr) -> u64 {
        self.known.get(&sender).map_or(0, |known| known.sender.counter)
    }

    /// Whether to ask it for a sign of life now, and that it is done; and for how long it has not answered.
    pub fn doubt(&mut self, sender: IpAddr, lease: Span, now: Instant) -> (bool, Span) {
        let Some(known) = self.known.get_mut(&sender) else { return (false, Span::ZERO) };
        let doubt = known.doubt.filter(|doubt| now.since(doubt.asked_at) < lease);
        let is_due = doubt.is_none_or(|doubt| ASK_EVERY <= now.since(doubt.asked_at));
        let (questions, greeted_at) = doubt.map_or((0, None), |doubt| (doubt.questions, doubt.greeted_at));
        if is_due {
            known.doubt = Some(Doubt { asked_at: now, questions, greeted_at });
        }
        (is_due, greeted_at.map_or(Span::ZERO, |greeted_at| now.since(greeted_at)))
    }

    /// What became of a greeting to it.
    pub fn asked(&mut self, sender: IpAddr, ok: bool, now: Instant) {
        if ok {
            self.greeted_at = now;
        }
        let Some(known) = self.known.get_mut(&sender) else { return };
        match (ok, &mut known.doubt) {
            (true, Some(Doubt { questions, greeted_at, .. })) => {
                *questions = questions.saturating_add(1);
                if *questions == QUESTIONS {
                    *greeted_at = Some(now);
                }
            }
            (false, doubt) => *doubt = None,
            (true, None) => {}
        }
    }

    /// A greeting with this counter is about to be sent: whose answers count from then on, if that changes.
    pub fn challenge(&mut self, counter: u64, now: Instant) -> Option<Challenge> {
        if self.challenge != Challenge::default() && now.since(self.challenged_at) < WHILE {
            return None;
        }
        self.before = std::mem::replace(&mut self.challenge, Challenge(counter));
        self.challenged_at = now;
        Some(self.challenge)
    }
}
