//! From records that wait to batches, and what the peer has confirmed of them.

use super::store::{EXPECTED, GONE, KNOWN, MINE, NOWHERE, SHARED};
use super::{Table, seconds};
use crate::proto::sync::message;
use crate::proto::sync::record::{Author, stamp};
use carp_common::time::{Instant, Span};

impl Table {
    /// Whether something waits to be sent.
    pub fn has_waiting(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next batch as a frame; none when nothing waits.
    pub fn batch(&mut self, now: Instant) -> Option<Vec<u8>> {
        if !self.has_waiting() {
            return None;
        }
        let number = self.outbox.last_batch() + 1;
        let mut frame = message::begin_batch(number);
        let (store, digests) = (&mut self.store, &mut self.digests);
        self.outbox.batch(|waiting| {
            let Some(entry) = store.get_mut(waiting.id) else { return true };
            let start = frame.len();
            frame.extend(waiting.record);
            let author = if entry.is(MINE) { Author::Sender } else { Author::Receiver };
            stamp(&mut frame[start..], entry.version, author);
            if entry.is(SHARED) {
                digests.take(entry.id, *waiting.shared_reply);
            }
            let shares = !entry.is(GONE) && !entry.is(EXPECTED);
            if shares {
                digests.add(entry.id, entry.reply);
            }
            entry.set(SHARED, shares);
            entry.set(KNOWN, true);
            entry.renewed = seconds(now);
            *waiting.shared_reply = entry.reply;
            digests.touch(entry.id, number);
            frame.len() < message::FULL_BATCH
        })?;
        Some(frame)
    }

    /// The peer has all batches up to this number in its kernel.
    pub fn confirmed(&mut self, number: u64) {
        let store = &mut self.store;
        self.outbox.confirm(number, |id| {
            let Some(entry) = store.get_mut(id) else { return };
            entry.pending = NOWHERE;
            if entry.is(GONE) {
                store.remove(id);
            }
        });
    }

    /// Batches that were sent and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.outbox.in_flight()
    }

    /// Number of the batch that was sent last.
    pub const fn last_batch(&self) -> u64 {
        self.outbox.last_batch()
    }

    /// How many records wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    /// A mark behind all that waits now, see [`Table::has_passed`].
    pub const fn mark(&self) -> u64 {
        self.outbox.mark()
    }

    /// Whether all that waited when the mark was set has been sent.
    pub fn has_passed(&self, mark: u64) -> bool {
        self.outbox.has_passed(mark)
    }

    /// How long the oldest change has waited to be confirmed.
    pub fn lag(&self, now: Instant) -> Span {
        self.oldest_waiting().map_or(Span::ZERO, |since| now.since(since))
    }

    /// Since when the oldest change waits to be confirmed.
    pub fn oldest_waiting(&self) -> Option<Instant> {
        self.outbox.oldest()
    }
}
