//! How late the daemon woke since each track looked last. What is taken from the daemon is taken once, for all of them.

use crate::config::track::Probe;
use crate::io::clock::Worst;
use carp_common::time::Span;
use std::collections::BTreeMap;

/// What the daemon tells, and what of it tracks have yet to look at.
pub(super) struct Late {
    worst: Worst,
    /// Those tracks that wake-ups are something for.
    unseen: BTreeMap<String, Span>,
}

impl Late {
    pub(super) fn of(worst: Worst) -> Self {
        Self { worst, unseen: BTreeMap::new() }
    }

    /// These are the tracks. Wake-ups of before count for none that is new.
    pub(super) fn keep(&mut self, probes: &BTreeMap<String, Probe>) {
        self.take();
        let is_one = |track: &String| matches!(probes.get(track), Some(Probe::WakeUps { .. }));
        self.unseen.retain(|track, _| is_one(track));
        for track in probes.keys().filter(|track| is_one(track)) {
            self.unseen.entry(track.clone()).or_default();
        }
    }

    /// The latest wake-up since this track asked last.
    pub(super) fn since_last(&mut self, track: &str) -> Span {
        self.take();
        self.unseen.get_mut(track).map(std::mem::take).unwrap_or_default()
    }

    fn take(&mut self) {
        let worst = self.worst.take();
        self.unseen.values_mut().for_each(|unseen| *unseen = worst.max(*unseen));
    }
}
