//! What strict authentication remembers of each sender, and what it makes of the next advert. XDP asks
//! here, and the daemon behind it asks the same again, each by its own memory.
//!
//! A sender's counter only grows, so an advert that is not newer than all that was heard before it is
//! refused: what the network reorders are two of them, of which the newer says all that the older did. A
//! word to this node may arrive after the advert that was sent behind it, by another queue: it is taken
//! within a [`WINDOW`] of counters, once. (It cannot bring back what is over: a word ends something only
//! if it is newer than its sender's last advert, `proto::peers`.) What goes to other nodes counts for
//! nothing, so that it makes nothing old by overtaking it.
//!
//! That leaves adverts that were recorded and *not* heard here, because this node was down or cut off,
//! and played back when their sender is dead. So whoever was silent for a lease, or was never heard,
//! has to prove that it lives before it counts as a master: it is greeted, and its answer carries the
//! greeting's counter, which was never used before. From then on everything older than the answer is
//! refused, and what comes after it is taken for what it is, as long as it does not fall silent again.
//! There is nothing to keep on a disk: a node that has just booted asks everybody.

use crate::admission::Addressee;
use crate::pace::Pace;
use crate::time::{Instant, Span};
use crate::wire::{Refusal, Said};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many counters a word to this node may come late.
pub const WINDOW: u64 = 64;

/// The number of the start of its sender that a counter belongs to: its upper half.
#[inline(always)]
pub const fn epoch_of(counter: u64) -> u64 {
    counter >> 32
}

/// The counter before the first one of a start with this number.
pub const fn before_first_of(epoch: u32) -> u64 {
    (epoch as u64) << 32
}

/// For how long a node may be silent and still be believed what it says to this one: three leases, as a
/// backup asks its master once in each. (A sum: BPF has no wide product.)
#[inline(always)]
fn acquaintance(lease: Span) -> Span {
    lease + lease + lease
}

/// What is known of a sender. All zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sender {
    /// Its highest counter.
    pub counter: u64,
    /// Which of the [`WINDOW`] counters up to that one were heard: bit 0 is the highest.
    pub window: u64,
    /// When it was heard last since it proved that it lives, nanoseconds of `CLOCK_MONOTONIC`; 0 when it
    /// has not.
    pub fresh_at: u64,
}

/// The counter of the first of our greetings whose answer counts, and so does that of every later one; 0:
/// none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Challenge(pub u64);

impl Sender {
    /// An authentic advert of this sender, not to another node, arrives at `at`; what is known of it from now
    /// on. `lease` is the longest of this virtual host.
    ///
    /// # Errors
    /// `Replay`, and nothing changes.
    #[inline(always)]
    pub fn hear(
        self,
        said: &Said,
        addressee: Addressee,
        challenge: Challenge,
        lease: Span,
        at: Instant,
    ) -> Result<Self, Refusal> {
        let is_word = addressee == Addressee::Us && said.pace().is_word();
        let moved = self.count(said.counter(), is_word).ok_or(Refusal::Replay)?;
        let is_proof = addressee == Addressee::Us && challenge.is_met(said);
        let is_news = moved.counter != self.counter;
        let fresh_at = if is_proof || (is_news && self.was_fresh(lease, at)) {
            at.nanos()
        } else if self.was_fresh(if is_word { acquaintance(lease) } else { lease }, at) {
            // What comes late says nothing of now, and neither does a word after a silence.
            self.fresh_at
        } else {
            0
        };
        Ok(Self { fresh_at, ..moved })
    }

    /// Whether it has proved that it lives, and not fallen silent since.
    #[inline(always)]
    pub fn is_fresh(self, lease: Span, now: Instant) -> bool {
        self.was_fresh(acquaintance(lease), now)
    }

    #[inline(always)]
    fn was_fresh(self, silence: Span, now: Instant) -> bool {
        self.fresh_at != 0 && now.since(Instant::from_nanos(self.fresh_at)) < silence
    }

    /// With this counter heard; `None` when it was before, or may have been.
    #[inline(always)]
    fn count(self, counter: u64, is_word: bool) -> Option<Self> {
        if self.counter < counter {
            let ahead = counter - self.counter;
            let window = if ahead < WINDOW { self.window << (ahead & (WINDOW - 1)) } else { 0 };
            return Some(Self { counter, window: window | 1, ..self });
        }
        let back = self.counter - counter;
        let heard = 1 << (back & (WINDOW - 1));
        let is_late = is_word && back < WINDOW && self.window & heard == 0;
        is_late.then_some(Self { window: self.window | heard, ..self })
    }

    /// Whether what was heard last may count, this being what is known of its sender since. What asks for
    /// nothing but an answer may always, and so may what can but make others wait.
    ///
    /// # Errors
    /// `Unproven`.
    #[inline(always)]
    pub const fn admit(self, said: &Said, addressee: Addressee) -> Result<(), Refusal> {
        let is_harmless = match addressee {
            Addressee::Ours | Addressee::Another => true,
            Addressee::Us => is_greeting(said.pace()),
            Addressee::Group => false,
        };
        if is_harmless || self.fresh_at != 0 { Ok(()) } else { Err(Refusal::Unproven) }
    }
}

impl Challenge {
    /// Whether this answers a greeting that counts. An answer carries the counter of what it answers,
    /// and only authentic greetings are answered: so a counter at or above the first of ours that count
    /// is one of them.
    #[inline(always)]
    const fn is_met(self, said: &Said) -> bool {
        self.is_known_to(said) && said.echo() >= self.0
    }

    /// Whether this answers any greeting of the present daemon, whose epoch is in the upper half of each.
    #[inline(always)]
    pub const fn is_known_to(self, said: &Said) -> bool {
        self.0 != 0 && epoch_of(said.echo()) == epoch_of(self.0)
    }
}

#[inline(always)]
const fn is_greeting(pace: Pace) -> bool {
    pace.base == Pace::GREETING.base && pace.skew == Pace::GREETING.skew
}
