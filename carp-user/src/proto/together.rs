//! Claims that were made together open together. A node with thousands of virtual hosts sends its last advert
//! later than one may be on its way, and that claim settles anew; it would serve some and not yet the others.

use super::host::Host;
use super::tenure::SETTLE;
use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;

/// Longest that a claim waits for others: one that settles anew does so once its advert is sent, which may
/// itself take as long.
const PATIENCE: Span = SETTLE.times(3);

/// When a claim may open.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// When it was made.
    pub since: Instant,
    /// When it has settled.
    pub settled_at: Instant,
    /// When no other node can still be serving.
    pub clear_at: Instant,
}

/// When the claims of a node have settled, by when they were made: the first and the last of each batch.
#[derive(Debug)]
pub struct Openings(BTreeMap<Instant, (Instant, Instant)>);

impl Openings {
    /// Of all claims of these virtual hosts.
    pub fn of<'a>(hosts: impl Iterator<Item = &'a Host>) -> Self {
        let mut batches = BTreeMap::new();
        for Opening { since, settled_at: at, .. } in hosts.filter_map(Host::opening) {
            let (first, last) = batches.entry(since).or_insert((at, at));
            (*first, *last) = (at.min(*first), at.max(*last));
        }
        Self(batches)
    }

    /// When this one opens.
    pub fn at(&self, opening: Opening) -> Instant {
        let alone = opening.settled_at.max(opening.clear_at);
        self.0.get(&opening.since).map_or(alone, |(first, last)| alone.max((*first + PATIENCE).min(*last)))
    }
}
