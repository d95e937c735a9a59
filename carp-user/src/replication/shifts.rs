//! What a helper adds to the sequence numbers of a connection. The kernel has no event for it: it comes with the words that
//! announce another connection, and that has one.

use crate::io::conntrack::{Change, News, look_up};
use crate::proto::flow::{Flow, Key};
use carp_common::time::{Instant, Span};
use std::collections::BTreeSet;

/// The packet is changed after the event of what it announces, on the way through the kernel.
const SETTLED: Span = Span::millis(20);
/// Connections that are looked at together, at most. Policy when full: the next dump shows the rest.
const MOST: usize = 1024;

/// Connections that have announced others, and may be shifted since.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    masters: BTreeSet<Key>,
    /// When they are to be looked at.
    due: Option<Instant>,
}

impl Shifts {
    /// The kernel says this.
    pub(super) fn hear(&mut self, news: &News, now: Instant) {
        if let News::Expectation(Change::New | Change::Updated, expectation) = news
            && self.masters.len() < MOST
        {
            self.masters.insert(expectation.master);
            self.due.get_or_insert(now + SETTLED);
        }
    }

    /// When it is time for [`Shifts::look`].
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Those that are shifted, as they are now.
    pub(super) fn look(&mut self) -> Vec<Flow> {
        self.due = None;
        let shown = std::mem::take(&mut self.masters).into_iter().filter_map(|master| {
            look_up(&master)
                .inspect_err(|error| tracing::debug!(%error, "a connection that announced another"))
                .ok()?
        });
        shown.filter(|flow| flow.sequence != [None; 2]).collect()
    }
}
