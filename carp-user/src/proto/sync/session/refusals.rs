//! What this node did not take of the peer's flows: why, how many, and what people are told of it.

use super::{Action, Notice};
use crate::proto::flow::Key;
use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;
use std::fmt;

/// How long after the last flow for which there was no room the table still counts as full, unless both tables have
/// been found equal before: longer than it takes until the peer offers it again.
const FULL_FOR: Span = Span::secs(600);
/// No comparison that is younger than this says that there is room again.
const SETTLED: Span = Span::secs(2);

/// Why a kernel did not take a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its table is full.
    Full,
    /// Another flow has one of the two directions.
    Taken,
    /// It has no such helper.
    Helper,
    /// The flow that announced this one is not there.
    Master,
    /// No kernel can hold it.
    Unfit,
    /// Something else.
    Other,
}

/// All that was refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    counts: BTreeMap<Cause, u64>,
    /// What people were not told of: how many, and the first. At most one a cause.
    untold: BTreeMap<Cause, (u64, Key)>,
    /// Flows beyond the limit, when that was looked at last.
    over_limit: u64,
    /// When there was no room last.
    full: Option<Instant>,
}

impl Cause {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Taken, Self::Helper, Self::Master, Self::Unfit, Self::Other];

    /// Of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "refused-full",
            Self::Taken => "refused-taken",
            Self::Helper => "refused-helper",
            Self::Master => "refused-master",
            Self::Unfit => "refused-unfit",
            Self::Other => "refused-other",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "its table is full",
            Self::Taken => "another connection has one of the two directions",
            Self::Helper => "it has no such helper: load the module that the peer has",
            Self::Master => "the connection that announced it is not there",
            Self::Unfit => "no kernel can hold it",
            Self::Other => "see the log at level debug",
        })
    }
}

impl Refusals {
    pub fn note(&mut self, key: Key, cause: Cause) {
        *self.counts.entry(cause).or_default() += 1;
        self.untold.entry(cause).or_insert((0, key)).0 += 1;
    }

    pub fn counts(&self) -> BTreeMap<Cause, u64> {
        self.counts.clone()
    }

    pub const fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// Once a second: one line a cause, however many there were.
    pub fn tell(
        &mut self,
        over_limit: u64,
        differing: Option<usize>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let was_full = self.is_full();
        let is_short = over_limit > self.over_limit || self.untold.contains_key(&Cause::Full);
        self.over_limit = over_limit;
        for (cause, (count, first)) in std::mem::take(&mut self.untold) {
            actions.push(Action::Warn(Notice::Refused { count, cause, first }));
        }
        let since = self.full.map(|at| now.since(at));
        let is_over =
            since.is_some_and(|since| since >= FULL_FOR || (differing == Some(0) && since >= SETTLED));
        if is_short {
            self.full = Some(now);
        } else if is_over {
            self.full = None;
        }
        match (was_full, self.is_full()) {
            (false, true) => actions.push(Action::Warn(Notice::TableFull)),
            (true, false) => actions.push(Action::Warn(Notice::Room)),
            (true, true) | (false, false) => {}
        }
    }
}
