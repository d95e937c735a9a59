//! What this node's kernel says becomes records that wait to be sent.

use super::receiving::Told;
use super::store::{DOOMED, EXPECTED, Entry, GONE, KNOWN, MINE, MISSED, NOWHERE, SHARED};
use super::{News, Stage, Table, seconds};
use crate::proto::flow::{Expectation, Flow, Key, ProtocolState};
use crate::proto::sync::record::{Author, Item, Record, Records, Version};
use carp_common::time::Instant;

impl Table {
    /// The kernel says something.
    pub fn local(&mut self, news: News<'_>, now: Instant) {
        match news {
            News::Began(flow) => self.write(flow, true, now),
            News::Changed(flow) => self.write(flow, false, now),
            News::Ended(key) => self.end(self.identity.flow(key), &Item::Gone(*key), now),
            News::Expected(expectation) => self.expect(expectation, now),
            News::Cancelled(key) => self.end(self.identity.expectation(key), &Item::Cancelled(*key), now),
        }
    }

    fn write(&mut self, flow: &Flow, began: bool, now: Instant) {
        let Some((mut entry, known)) = self.entry(self.identity.flow(&flow.key)) else { return };
        let is_known = known && !entry.is(GONE | DOOMED);
        let flow = &if is_known && !began { self.completed(&entry, flow) } else { *flow };
        let mut told = self.told(flow);
        if is_known && flow.state == ProtocolState::None {
            told.tcp_state = Told::of(&entry).tcp_state;
        }
        // Also what looks as it did before goes out: the number of a flow's content has sixteen bits only.
        entry.set_seen(self.seen);
        entry.set(MISSED, false);
        let incarnation =
            if known && (began || !is_known) { entry.incarnation() + 1 } else { entry.incarnation() };
        let shared_reply = entry.reply;
        told.put(&mut entry, incarnation);
        entry.set(GONE | DOOMED, false);
        entry.set(MINE, true);
        entry.version = self.next_version(&entry);
        self.enqueue(&mut entry, &Item::Flow(*flow), shared_reply, now);
        self.store.put(entry);
    }

    /// An event tells only what has changed; what waits to be sent of the same flow says the rest.
    fn completed(&self, entry: &Entry, flow: &Flow) -> Flow {
        let queued = entry.waits().and_then(|slot| self.outbox.queued_record(slot));
        match queued.and_then(|bytes| Records::new(bytes).next()?.ok()).map(|record| record.item) {
            Some(Item::Flow(mut known)) => {
                known.learn(flow);
                known
            }
            Some(Item::Gone(_) | Item::Expectation(_) | Item::Cancelled(_) | Item::Lost(_)) | None => *flow,
        }
    }

    fn expect(&mut self, expectation: &Expectation, now: Instant) {
        let key = Key { zone: expectation.master.zone, original: expectation.tuple };
        let Some((mut entry, _)) = self.entry(self.identity.expectation(&key)) else { return };
        entry.set(EXPECTED | MINE, true);
        entry.set(GONE, false);
        entry.renewed = seconds(now);
        entry.version = self.next_version(&entry);
        self.enqueue(&mut entry, &Item::Expectation(*expectation), 0, now);
        self.store.put(entry);
    }

    pub(super) fn end(&mut self, id: u64, item: &Item, now: Instant) {
        self.note_end(id);
        let Some(mut entry) = self.store.get(id).copied().filter(|entry| !entry.is(GONE)) else { return };
        if entry.is(DOOMED) || !self.owns(&entry) {
            self.tally.dropped += u64::from(!entry.is(DOOMED));
            self.forget_entry(&mut entry);
            return;
        }
        if !entry.is(KNOWN) && self.peer.stage != Stage::Bulk {
            self.forget_entry(&mut entry);
            return;
        }
        entry.version = self.tick();
        entry.set(GONE | MINE, true);
        entry.set(MISSED, false);
        entry.set_seen(self.seen);
        let shared_reply = entry.reply;
        self.enqueue(&mut entry, item, shared_reply, now);
        self.store.put(entry);
    }

    /// Whether the end of this flow on this node is its end.
    pub(super) const fn owns(&self, entry: &Entry) -> bool {
        self.serving && (entry.is(MINE) || !self.peer.serving)
    }

    /// The entry of a flow, and whether there was one; none when there is no place for one more.
    pub(super) fn entry(&mut self, id: u64) -> Option<(Entry, bool)> {
        if let Some(known) = self.store.get(id) {
            return Some((*known, true));
        }
        if self.store.len() >= self.limit {
            self.tally.over_limit += 1;
            return None;
        }
        let mut entry = Entry::new(id);
        entry.set_seen(self.seen);
        Some((entry, false))
    }

    /// Of a change. On a node that does not serve it must not outdo what the one that serves says of this flow.
    fn next_version(&mut self, entry: &Entry) -> Version {
        if self.serving {
            return self.tick();
        }
        let version = Version(entry.version.0.saturating_add(1));
        self.clock = self.clock.max(version);
        version
    }

    pub(super) const fn tick(&mut self) -> Version {
        self.clock = Version(self.clock.0.saturating_add(1));
        self.clock
    }

    /// The record waits to be sent. Without a peer only ends do: the rest will be told as a whole.
    pub(super) fn enqueue(&mut self, entry: &mut Entry, item: &Item, shared_reply: u32, now: Instant) {
        if self.peer.stage == Stage::Away && !entry.is(GONE) {
            self.cancel(entry);
            // Digests begin anew with the next connection.
            entry.set(SHARED, false);
            return;
        }
        self.scratch.clear();
        let (version, incarnation) = (entry.version, entry.incarnation());
        let record = Record { version, author: Author::Sender, incarnation, item: *item };
        record.encode(&mut self.scratch);
        entry.pending = self.outbox.put(entry.waits(), entry.id, &self.scratch, shared_reply, now);
    }

    pub(super) fn cancel(&mut self, entry: &mut Entry) {
        if let Some(slot) = entry.waits() {
            self.outbox.cancel(slot);
            entry.pending = NOWHERE;
        }
    }

    /// Drops all that is known of a flow; the peer is not told.
    pub(super) fn forget_entry(&mut self, entry: &mut Entry) {
        self.unshare(entry);
        self.cancel(entry);
        self.store.remove(entry.id);
    }

    /// The kernel did not take this flow: there is no room, or another one with its key that nobody knows of, which a dump will
    /// show.
    pub fn refused(&mut self, key: &Key) {
        if let Some(mut entry) = self.store.get(self.identity.flow(key)).copied() {
            self.forget_entry(&mut entry);
            self.unsettled = true;
        }
    }
}
