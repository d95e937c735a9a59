//! Records that wait to be sent, and those that were sent and not confirmed. At most one a flow, the newest; those that have waited longest
//! go first.

use carp_common::time::Instant;
use std::collections::VecDeque;

#[derive(Clone, Debug, Default)]
pub struct Outbox {
    slots: Vec<Slot>,
    free: Vec<u32>,
    queue: VecDeque<u32>,
    /// Batches that were sent and not confirmed, with the slots that went into each.
    flight: VecDeque<(u64, Vec<u32>)>,
    last_batch: u64,
    /// How many were ever put into the queue, and taken out.
    queued: u64,
    taken: u64,
    cancelled: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    id: u64,
    record: Box<[u8]>,
    since: Instant,
    /// Number of the reply as the peer knows it, if it does.
    shared_reply: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    /// In the queue, and to be skipped.
    Cancelled,
    Flying(u64),
    Free,
}

/// What goes into a batch.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// Which flow.
    pub id: u64,
    pub record: &'a [u8],
    pub shared_reply: &'a mut u32,
}

impl Outbox {
    /// Queues a record in place of the one in `slot`, whose place in the queue it takes. `shared_reply` counts only when
    /// there was none.
    pub fn put(&mut self, slot: Option<u32>, id: u64, record: &[u8], shared_reply: u32, now: Instant) -> u32 {
        let record: Box<[u8]> = record.into();
        match slot.and_then(|number| Some((number, self.slots.get_mut(index(number))?))) {
            Some((number, slot)) => {
                slot.record = record;
                if slot.stage != Stage::Queued {
                    slot.since = now;
                    slot.stage = Stage::Queued;
                    self.push(number);
                }
                number
            }
            None => {
                let slot = Slot { id, record, since: now, shared_reply, stage: Stage::Queued };
                let number = self.place(slot);
                self.push(number);
                number
            }
        }
    }

    /// A record is not to be sent any more.
    pub fn cancel(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(index(number)) else { return };
        slot.record = Box::default();
        match slot.stage {
            // The queue still names it.
            Stage::Queued => {
                slot.stage = Stage::Cancelled;
                self.cancelled += 1;
            }
            Stage::Flying(_) => self.release(number),
            Stage::Cancelled | Stage::Free => {}
        }
    }

    /// Number of the reply as the peer knows it, of the flow in a slot.
    pub fn shared_reply(&mut self, number: u32) -> Option<&mut u32> {
        self.slots.get_mut(index(number)).map(|slot| &mut slot.shared_reply)
    }

    /// Whether it waits, and was not sent.
    pub fn is_queued(&self, number: u32) -> bool {
        self.slots.get(index(number)).is_some_and(|slot| slot.stage == Stage::Queued)
    }

    /// The record in a slot that was not sent.
    pub fn queued_record(&self, number: u32) -> Option<&[u8]> {
        let slot = self.slots.get(index(number)).filter(|slot| slot.stage == Stage::Queued)?;
        Some(&slot.record)
    }

    /// How many wait to be sent.
    pub fn waiting(&self) -> usize {
        self.queue.len() - self.cancelled
    }

    /// Whether the queue is empty, also of what was cancelled.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Batches sent and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Since when the oldest record waits to be confirmed, or else to be sent.
    pub fn oldest(&self) -> Option<Instant> {
        let flying = self.flight.iter().flat_map(|(_, slots)| slots);
        let mut all = flying.chain(&self.queue).filter_map(|number| self.slots.get(index(*number)));
        all.find(|slot| matches!(slot.stage, Stage::Queued | Stage::Flying(_))).map(|slot| slot.since)
    }

    /// A mark behind all that waits now, see [`Outbox::has_passed`].
    pub const fn mark(&self) -> u64 {
        self.queued
    }

    /// Whether all that waited when the mark was set has been sent, or need not be any more.
    pub fn has_passed(&self, mark: u64) -> bool {
        self.taken >= mark || self.waiting() == 0
    }

    /// Number of the batch that was begun last.
    pub const fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// The next batch: `take` gets one record after the other until it says that no more fits. `None`
    /// when nothing waits.
    pub fn batch(&mut self, mut take: impl FnMut(Waiting<'_>) -> bool) -> Option<u64> {
        let number = self.last_batch + 1;
        let mut taken = Vec::new();
        while let Some(next) = self.queue.pop_front() {
            self.taken += 1;
            let Some(slot) = self.slots.get_mut(index(next)) else { continue };
            if slot.stage == Stage::Cancelled {
                self.cancelled -= 1;
                self.release(next);
                continue;
            }
            slot.stage = Stage::Flying(number);
            taken.push(next);
            let waiting = Waiting { id: slot.id, record: &slot.record, shared_reply: &mut slot.shared_reply };
            if !take(waiting) {
                break;
            }
        }
        if taken.is_empty() {
            return None;
        }
        self.last_batch = number;
        self.flight.push_back((number, taken));
        Some(number)
    }

    /// The peer has all batches up to `number`. `confirmed` gets the flows whose newest record was among them.
    pub fn confirm(&mut self, number: u64, mut confirmed: impl FnMut(u64)) {
        while let Some((batch, slots)) = self.flight.pop_front_if(|(batch, _)| *batch <= number) {
            for slot in slots {
                // A newer record may wait in its place, or one of another flow.
                if let Some(flown) = self.slots.get(index(slot)).filter(|it| it.stage == Stage::Flying(batch))
                {
                    confirmed(flown.id);
                    self.release(slot);
                }
            }
        }
        if self.queue.is_empty() && self.flight.is_empty() {
            (self.slots, self.free, self.queue) = (Vec::new(), Vec::new(), VecDeque::new());
        }
    }

    /// The connection is lost: what was not confirmed waits again, before all else. Numbers of batches begin anew.
    pub fn recall(&mut self) {
        while let Some((batch, slots)) = self.flight.pop_back() {
            for number in slots.into_iter().rev() {
                let Some(slot) = self.slots.get_mut(index(number)) else { continue };
                if slot.stage == Stage::Flying(batch) {
                    slot.stage = Stage::Queued;
                    self.queue.push_front(number);
                    self.queued += 1;
                }
            }
        }
        self.last_batch = 0;
    }

    fn push(&mut self, number: u32) {
        self.queue.push_back(number);
        self.queued += 1;
    }

    fn place(&mut self, slot: Slot) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[index(number)] = slot;
            return number;
        }
        self.slots.push(slot);
        // A table of 2^32 flows would have filled the memory long before.
        u32::try_from(self.slots.len() - 1).unwrap_or(super::store::NOWHERE)
    }

    fn release(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(index(number)) else { return };
        slot.record = Box::default();
        slot.stage = Stage::Free;
        self.free.push(number);
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
