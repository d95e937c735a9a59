//! What a virtual host counts, and what it has warned of.

use super::event::Warning;
use carp_common::time::{Instant, Span};
use carp_common::wire::Refusal;

/// A warning of one kind is repeated at most this often (item 115).
const WARN_EVERY: Span = Span::secs(60);

/// Counters of one virtual host.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Adverts accepted.
    pub accepted: u64,
    /// Adverts that the kernel took.
    pub sent: u64,
    /// Adverts that it did not take.
    pub send_errors: u64,
    /// The last few all failed, and not as many have succeeded since.
    cannot_send: bool,
    told: bool,
    run: u8,
    refused: [u64; Refusal::ALL.len()],
}

/// Kinds of warnings, and behind them the news of the migration.
const KINDS: usize = 14;

/// When each kind of warning was given last.
#[derive(Clone, Debug, Default)]
pub struct Warned {
    last: [Option<Instant>; KINDS],
}

impl Tally {
    /// Counts a refused advert.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused[refusal.index()] += 1;
    }

    /// Counts an advert sent or failed. `turn` outcomes of the other kind in a row change
    /// `cannot_send`.
    pub fn sent(&mut self, ok: bool, turn: u8) {
        if ok {
            self.sent += 1;
        } else {
            self.send_errors += 1;
        }
        self.run = if ok == self.cannot_send { self.run.saturating_add(1) } else { 0 };
        if self.run >= turn {
            self.cannot_send = !self.cannot_send;
            self.run = 0;
        }
    }

    /// A node that no longer sends cannot prove that it could: it starts anew.
    pub fn forget_errors(&mut self) {
        self.cannot_send = false;
        self.run = 0;
    }

    /// Whether adverts cannot be sent; `None` while that is as it was told last.
    pub fn sending_changed(&mut self) -> Option<bool> {
        let changed = self.told != self.cannot_send;
        self.told = self.cannot_send;
        changed.then_some(self.cannot_send)
    }

    /// Every refusal's name and count.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        Refusal::ALL.iter().map(|refusal| (refusal.name(), self.refused[refusal.index()])).collect()
    }
}

impl Warned {
    /// Whether this kind of warning is due, and that it is given.
    pub fn is_news(&mut self, warning: &Warning, now: Instant) -> bool {
        let kind = match warning {
            Warning::EqualRank(_) => 0,
            Warning::BaseMismatch(..) => 1,
            Warning::BadAuth(_) => 2,
            Warning::Loop => 3,
            Warning::Vrrp => 4,
            Warning::BadMode(_) => 5,
            Warning::Replay(..) => 6,
            Warning::Unproven(_) => 7,
            Warning::Repeated(_) => 8,
            Warning::Rewritten(_) => 9,
            Warning::SecondMaster(_) => 10,
            Warning::SilentPath => 11,
            Warning::FalseAlarm => 12,
        };
        self.is_due(kind, now)
    }

    /// Whether news of the migration are due, and that they are given: whoever cuts the strict MAC off some
    /// adverts has one for each of them.
    pub fn may_tell_migration(&mut self, now: Instant) -> bool {
        self.is_due(KINDS - 1, now)
    }

    fn is_due(&mut self, kind: usize, now: Instant) -> bool {
        let due = self.last[kind].is_none_or(|last| now.since(last) >= WARN_EVERY);
        if due {
            self.last[kind] = Some(now);
        }
        due
    }
}
