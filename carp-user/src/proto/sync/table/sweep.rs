//! What a dump of the kernel's table shows: the contents that the peer is to be told, and what the kernel has not
//! told of.

use super::receiving::Told;
use super::store::{self, DOOMED, EXPECTED, Entry, GONE, MINE, MISSED, SEEN, SHARED};
use super::{Instruction, Lifetime, News, RENEW_AFTER, REPLICA_LIFETIME, Stage, Table, seconds};
use crate::proto::flow::{Expectation, Flow, Key};
use crate::proto::sync::message::{BUCKETS, Root};
use crate::proto::sync::record::{Item, Version};
use carp_common::time::Instant;
use std::collections::BTreeSet;

/// Most flows that end while a dump runs from which flows are learnt. Policy beyond: no more is learnt from it, and
/// another one follows.
const MOST_ENDED: usize = 1 << 16;

/// What a dump is for; one dump can be for several things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// Flows that are not known are news: at the start, and after events were lost.
    pub learn: bool,
    /// The peer is told of all that it does not have.
    pub tell: bool,
    /// The peer is told again of flows that it has not heard of for [`RENEW_AFTER`].
    pub renew: bool,
    /// All flows become replicas: this node no longer serves.
    pub retain: bool,
    /// All replicas become flows of this node: it serves now.
    pub release: bool,
    /// The peer is told of all flows in these buckets, ascending.
    pub buckets: Vec<u16>,
}

impl Purpose {
    /// Whether there is any.
    pub const fn is_any(&self) -> bool {
        let Self { learn, tell, renew, retain, release, buckets } = self;
        *learn || *tell || *renew || *retain || *release || !buckets.is_empty()
    }

    /// Whether it is about renewing and nothing else, for which there is time.
    pub fn is_leisurely(&self) -> bool {
        *self == Self { renew: true, ..Self::default() }
    }

    /// This and that.
    pub fn and(&mut self, other: Self) {
        self.learn |= other.learn;
        self.tell |= other.tell;
        self.renew |= other.renew;
        self.retain |= other.retain;
        self.release |= other.release;
        self.buckets.extend(other.buckets);
        self.buckets.sort_unstable();
        self.buckets.dedup();
    }
}

impl Table {
    /// A dump begins.
    pub fn dump_begins(&mut self, purpose: &Purpose) {
        self.ended = purpose.learn.then(BTreeSet::new);
        self.seen = !self.seen;
        // What is amiss is found by learning and put right by telling, if there is somebody to tell.
        self.unsettled &= !(purpose.learn && (purpose.tell || self.peer.stage == Stage::Away));
    }

    /// The dump shows a flow; what the kernel is to do with it.
    pub fn dumped(&mut self, flow: &Flow, purpose: &Purpose, now: Instant) -> Option<Instruction> {
        let id = self.identity.flow(&flow.key);
        let told = self.told(flow);
        let Some(mut entry) = self.store.get(id).copied() else {
            if self.ended.as_ref().is_some_and(|ended| !ended.contains(&id)) {
                self.learn(id, told, flow, now);
            }
            // Else it has ended since, or its event is on the way.
            return None;
        };
        // What an event has touched since the dump began may be newer than what the dump shows.
        let is_touched = entry.is(SEEN) == self.seen;
        entry.set_seen(self.seen);
        let is_other = !told.is_of_same(Told::of(&entry));
        if entry.is(DOOMED) && !is_other && !self.serving {
            self.forget_entry(&mut entry);
            return Some(Instruction::Remove(flow.key));
        }
        if entry.is(GONE | DOOMED) {
            self.store.put(entry);
            self.unsettled |= is_touched && entry.is(DOOMED);
            if !is_touched {
                // It had ended before: this is another one, whose beginning was lost.
                self.tally.untold += 1;
                self.local(News::Began(flow), now);
            }
            return None;
        }
        entry.set(MISSED, false);
        let before = Told::of(&entry);
        if told != before && !is_touched && (self.owns(&entry) || entry.is(MINE)) {
            self.tally.untold += 1;
            self.store.put(entry);
            self.local(News::Changed(flow), now);
        } else if is_other && !self.serving && !is_touched {
            // The node that serves knows which it is, and tells once this one is out of its way.
            self.forget_entry(&mut entry);
            return Some(Instruction::Remove(flow.key));
        } else {
            self.unsettled |= is_other;
            let is_consistent = told == before || (!is_touched && !is_other);
            if is_consistent && entry.waits().is_none() && self.is_due(&entry, purpose, now) {
                self.tell_again(&mut entry, flow, now);
            }
            self.store.put(entry);
        }
        if purpose.retain {
            return Some(Instruction::Keep(*flow, Lifetime::Replica));
        }
        (purpose.release && !entry.is(MINE)).then_some(Instruction::Keep(*flow, Lifetime::Protocol))
    }

    /// A flow ends while a dump may be running.
    pub(super) fn note_end(&mut self, id: u64) {
        if let Some(ended) = &mut self.ended {
            ended.insert(id);
            if ended.len() > MOST_ENDED {
                (self.ended, self.unsettled) = (None, true);
            }
        }
    }

    /// A flow that no event told of. A node that does not serve cannot know how old it is: whatever the peer
    /// says is newer.
    fn learn(&mut self, id: u64, told: Told, flow: &Flow, now: Instant) {
        let Some((mut entry, _)) = self.entry(id) else { return };
        told.put(&mut entry, 0);
        entry.set(MINE, true);
        entry.version = if self.serving { self.tick() } else { Version(0) };
        self.enqueue(&mut entry, &Item::Flow(*flow), 0, now);
        self.store.put(entry);
    }

    fn is_due(&self, entry: &Entry, purpose: &Purpose, now: Instant) -> bool {
        if self.peer.stage == Stage::Away {
            return false;
        }
        let is_old = || seconds(now).saturating_sub(entry.renewed) >= seconds(Instant::ZERO + RENEW_AFTER);
        let wanted = || purpose.buckets.binary_search(&store::bucket_number(entry.id)).is_ok();
        (purpose.tell && !entry.is(SHARED)) || wanted() || (purpose.renew && self.owns(entry) && is_old())
    }

    /// The record of a version that is known.
    fn tell_again(&mut self, entry: &mut Entry, flow: &Flow, now: Instant) {
        self.tally.renewed += u64::from(entry.is(SHARED));
        self.enqueue(entry, &Item::Flow(*flow), entry.reply, now);
    }

    /// The dump shows an expectation.
    pub fn dumped_expectation(&mut self, expectation: &Expectation, purpose: &Purpose, now: Instant) {
        let key = Key { zone: expectation.master.zone, original: expectation.tuple };
        let known = self.store.get(self.identity.expectation(&key)).copied();
        let is_due = match known {
            None => purpose.learn && self.serving,
            Some(entry) => purpose.tell && !entry.is(GONE) && entry.waits().is_none() && self.owns(&entry),
        };
        if is_due {
            self.local(News::Expected(expectation), now);
        }
    }

    /// The dump is complete. What neither it nor an event has shown is missed; if the one before it did not show
    /// it either, it has ended.
    pub fn dump_ends(&mut self, purpose: &Purpose, now: Instant) {
        self.ended = None;
        let mut ended = Vec::new();
        let (seen, oldest) =
            (self.seen, seconds(now).saturating_sub(seconds(Instant::ZERO + REPLICA_LIFETIME)));
        for entry in self.store.iter_mut() {
            let is_seen = entry.is(SEEN) == seen;
            // The next dump turns the mark's meaning round.
            entry.set_seen(seen);
            if entry.is(EXPECTED) {
                if !entry.is(GONE) && entry.renewed < oldest {
                    ended.push(entry.id);
                }
            } else if !is_seen && !entry.is(GONE) {
                if entry.is(MISSED | DOOMED) {
                    ended.push(entry.id);
                } else {
                    entry.set(MISSED, true);
                    // When nothing is amiss the next dump will do.
                    self.unsettled |= !purpose.is_leisurely();
                }
            }
        }
        for id in ended {
            let Some(mut entry) = self.store.get(id).copied() else { continue };
            self.tally.missed += u64::from(!entry.is(DOOMED | EXPECTED));
            if entry.is(DOOMED | EXPECTED) {
                self.forget_entry(&mut entry);
            } else {
                self.end(id, &Item::Lost(id), now);
            }
        }
    }

    /// The dump was not complete: what it has not shown may be there all the same.
    pub fn dump_fails(&mut self) {
        self.ended = None;
        let seen = self.seen;
        self.store.iter_mut().for_each(|entry| entry.set_seen(seen));
    }

    /// Whether another dump is needed soon: for what is missed, doomed, or not told.
    pub const fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// The digest of the whole table, with all batches of the peer up to `applied`.
    pub const fn root(&self, applied: u64) -> Root {
        self.digests.root(applied)
    }

    /// The digests of all buckets.
    pub fn sums(&self) -> impl Iterator<Item = (u16, u64)> {
        self.digests.sums()
    }

    /// Whether the peer's digest of a bucket is another one; `applied` is the last batch of this node's that it
    /// takes in.
    pub fn differs(&self, bucket: u16, sum: u64, applied: u64) -> bool {
        self.digests.differs(bucket, sum, applied)
    }
}

const _: () = assert!(BUCKETS <= 1 << 16);
