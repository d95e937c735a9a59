//! Proof that both tables hold the same flows, and repair where they do not.

use super::{Action, Link, Notice, Session};
use crate::proto::sync::message::{self, Root, Sums};
use crate::proto::sync::table::{Purpose, Stage};
use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;

/// A bucket that is repaired and differs again is repaired once more after this time, and each time after twice as
/// long: what one kernel does not take must not be sent to it again and again.
const PATIENCE: Span = Span::secs(2);
/// So many times at most.
const DOUBLINGS: u8 = 8;

/// What is known of the two tables' equality.
#[derive(Clone, Debug, Default)]
pub(super) struct Equality {
    /// Buckets that differed when they were compared last. At most [`message::BUCKETS`].
    differing: Vec<u16>,
    /// When they were compared last, as a whole or one by one.
    compared: Option<Instant>,
    /// Buckets that were repaired: how often, and until when not again. At most [`message::BUCKETS`].
    repaired: BTreeMap<u16, (u8, Instant)>,
}

impl Equality {
    /// How many buckets differ; `None` while that is not known.
    pub fn differing(&self) -> Option<usize> {
        self.compared.map(|_| self.differing.len())
    }

    /// Whether this one did.
    pub fn is_differing(&self, bucket: u16) -> bool {
        self.differing.binary_search(&bucket).is_ok()
    }

    /// These differ now. Those of them that did so before, and are to be repaired now.
    fn compare(&mut self, differing: Vec<u16>, now: Instant) -> Vec<u16> {
        self.repaired.retain(|bucket, _| differing.binary_search(bucket).is_ok());
        let mut again = Vec::new();
        for bucket in differing.iter().filter(|bucket| self.differing.binary_search(bucket).is_ok()) {
            let (times, until) = self.repaired.get(bucket).copied().unwrap_or((0, now));
            if until <= now {
                let wait = PATIENCE.times(1 << times.min(DOUBLINGS));
                self.repaired.insert(*bucket, (times.saturating_add(1), now + wait));
                again.push(*bucket);
            }
        }
        self.differing = differing;
        self.compared = Some(now);
        again
    }
}

impl Session {
    /// The peer's digest of the whole. When it is another one, the peer gets those of all buckets, unless
    /// it has yet to get what this node has sent.
    pub(super) fn compare_root(&mut self, root: &Root, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        if self.table.stage() != Stage::InStep || root.applied != self.table.last_batch() {
            return;
        }
        let own = self.table.root(up.received);
        if (own.sum, own.count) == (root.sum, root.count) {
            up.equality.compare(Vec::new(), now);
        } else {
            actions.push(Action::Send(message::sums(&own, self.table.sums())));
        }
    }

    pub(super) fn compare_sums(
        &mut self,
        stand: &Root,
        sums: Sums<'_>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Link::Up(up) = &mut self.link else { return };
        if self.table.stage() != Stage::InStep {
            return;
        }
        let differs = |(bucket, sum): &(u16, u64)| self.table.differs(*bucket, *sum, stand.applied);
        let differing: Vec<u16> = sums.iter().filter(differs).map(|(bucket, _)| bucket).collect();
        let again = up.equality.compare(differing, now);
        if !again.is_empty() {
            actions.push(Action::Warn(Notice::Repair(again.len())));
            actions.push(Action::Send(message::want(again.iter().copied())));
            self.dump(Purpose { buckets: again, ..Purpose::default() }, now, actions);
        }
    }
}
