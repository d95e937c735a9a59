//! What the peer says, held against what is known.

use super::store::{DOOMED, EXPECTED, Entry, GONE, KNOWN, MINE, MISSED, SHARED};
use super::{Instruction, Lifetime, Table, seconds};
use crate::proto::flow::{Expectation, Flow, Key, ProtocolState};
use crate::proto::sync::record::{Author, Record, Version};
use carp_common::time::Instant;
use std::cmp::Ordering;

/// A replica that was written into the kernel less than this ago, in seconds, is not written again when the peer says the
/// same once more: a short loss of the connection makes no work for the kernel.
const FRESH: u32 = 60;

/// What an entry remembers of a flow's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    reply: u32,
    content: u16,
    pub(super) tcp_state: u8,
}

impl Told {
    pub fn of(entry: &Entry) -> Self {
        Self { reply: entry.reply, content: entry.content, tcp_state: entry.tcp_state() }
    }

    pub fn put(self, entry: &mut Entry, incarnation: u8) {
        entry.reply = self.reply;
        entry.content = self.content;
        entry.set_tcp(self.tcp_state, incarnation);
    }

    /// Whether this can be the same connection.
    pub const fn is_of_same(self, known: Self) -> bool {
        self.reply == known.reply
    }

    /// Whether this is TCP in a state before the one of `known`.
    pub const fn is_behind(self, known: Self) -> bool {
        progress(self.tcp_state) < progress(known.tcp_state)
    }
}

/// States of TCP in the order in which a connection goes through them. `TCP_CONNTRACK_SYN_SENT2` (9) is the answer
/// of a simultaneous open, before the handshake is done.
const fn progress(state: u8) -> u8 {
    match state {
        9 => 2,
        0 | 1 => state,
        later => later + 1,
    }
}

impl Table {
    pub(super) fn told(&self, flow: &Flow) -> Told {
        let tcp_state = match flow.state {
            ProtocolState::Tcp(tcp) => tcp.state & 15,
            ProtocolState::None | ProtocolState::Sctp(_) => 0,
        };
        Told { reply: self.identity.reply(&flow.reply), content: self.identity.content(flow), tcp_state }
    }

    /// How a record's version stands to a known one.
    fn compare(&self, record: &Record, entry: &Entry) -> Ordering {
        let of_peer = record.author == Author::Sender;
        record.version.cmp(&entry.version).then_with(|| match (of_peer, entry.is(MINE)) {
            (true, false) | (false, true) => Ordering::Equal,
            (true, true) if self.peer.wins_ties => Ordering::Greater,
            (false, false) if !self.peer.wins_ties => Ordering::Greater,
            (true, true) | (false, false) => Ordering::Less,
        })
    }

    pub(super) fn receive_flow(
        &mut self,
        record: &Record,
        flow: &Flow,
        now: Instant,
    ) -> [Option<Instruction>; 2] {
        let Some((mut entry, known)) = self.entry(self.identity.flow(&flow.key)) else { return [None; 2] };
        let mut told = self.told(flow);
        match if known { self.compare(record, &entry) } else { Ordering::Greater } {
            Ordering::Greater => {}
            // Its author has learnt anew what it had found before, of whose age nobody knows.
            Ordering::Equal if told.reply != entry.reply && record.author == Author::Sender => {}
            Ordering::Equal => return [self.receive_same(entry, flow, now), None],
            Ordering::Less => {
                self.receive_older(entry, Some(told.reply));
                return [None; 2];
            }
        }
        let mut flow = *flow;
        let before = Told::of(&entry);
        let is_there = known && !entry.is(GONE);
        // A daemon that has just started does not know which incarnation it found in its kernel.
        let same = before.reply == told.reply && entry.incarnation() == record.incarnation & 15;
        let same = same || (before.reply == told.reply && entry.version == Version(0));
        if let ProtocolState::Tcp(tcp) = &mut flow.state
            && is_there
            && same
            && told.is_behind(before)
        {
            // Both served for a moment: the connection itself has gone on.
            tcp.state = before.tcp_state;
            told.tcp_state = before.tcp_state;
        }
        let is_other = is_there && before.reply != told.reply;
        if is_other && self.serving && !self.peer.serving && entry.is(MINE) && entry.version >= self.term {
            // Both served for a moment; this node still does.
            self.insist(entry);
            return [None; 2];
        }
        // The kernel does not change the translation of a flow that it has.
        let replaces = is_other.then_some(Instruction::Remove(flow.key));
        self.unshare(&mut entry);
        self.cancel(&mut entry);
        told.put(&mut entry, record.incarnation);
        entry.set(GONE | DOOMED | MISSED, false);
        entry.set(MINE, record.author == Author::Receiver);
        entry.set_seen(self.seen);
        entry.version = record.version;
        self.share(&mut entry, now);
        self.store.put(entry);
        // What was on the way when this node took over may have been overtaken by packets, of which the kernel
        // has not yet told.
        let is_late = is_there && self.serving && record.version < self.term;
        let lifetime = self.lifetime();
        let instruction =
            if is_late { Instruction::Insert(flow, lifetime) } else { Instruction::Inject(flow, lifetime) };
        [replaces, Some(instruction)]
    }

    /// A replica's, unless this node serves alone: it is told of flows of its own that it had lost.
    fn lifetime(&self) -> Lifetime {
        if self.serving && !self.peer.serving { Lifetime::Protocol } else { Lifetime::Replica }
    }

    /// What is known is said again.
    fn receive_same(&mut self, mut entry: Entry, flow: &Flow, now: Instant) -> Option<Instruction> {
        if entry.is(GONE | DOOMED) {
            return None;
        }
        if entry.waits().is_some_and(|slot| self.outbox.is_queued(slot)) {
            self.unshare(&mut entry);
            self.cancel(&mut entry);
        }
        let is_fresh = seconds(now).saturating_sub(entry.renewed) < FRESH;
        if !entry.is(SHARED) {
            self.share(&mut entry, now);
        }
        if !is_fresh {
            entry.renewed = seconds(now);
        }
        self.store.put(entry);
        (!is_fresh).then_some(if self.serving {
            Instruction::Insert(*flow, self.lifetime())
        } else {
            Instruction::Inject(*flow, self.lifetime())
        })
    }

    /// What the peer says is out of date. Until it has this node's newer word, it believes its own: so the digest
    /// has to.
    fn receive_older(&mut self, mut entry: Entry, reply: Option<u32>) {
        self.tally.stale += 1;
        match entry.waits() {
            Some(slot) if self.outbox.is_queued(slot) => {
                self.unshare(&mut entry);
                if let (Some(reply), Some(shared_reply)) = (reply, self.outbox.shared_reply(slot)) {
                    *shared_reply = reply;
                    self.digests.add(entry.id, reply);
                    entry.set(SHARED, true);
                }
                entry.set(KNOWN, true);
                self.store.put(entry);
            }
            // It will arrive.
            Some(_) => {}
            None => self.unsettled |= !entry.is(SHARED | EXPECTED | DOOMED),
        }
    }

    pub(super) fn receive_expectation(
        &mut self,
        record: &Record,
        expectation: &Expectation,
        now: Instant,
    ) -> Option<Instruction> {
        let key = Key { zone: expectation.master.zone, original: expectation.tuple };
        let (mut entry, known) = self.entry(self.identity.expectation(&key))?;
        if known && self.compare(record, &entry) != Ordering::Greater {
            return None;
        }
        self.cancel(&mut entry);
        entry.set(EXPECTED | KNOWN, true);
        entry.set(GONE, false);
        entry.set(MINE, record.author == Author::Receiver);
        entry.version = record.version;
        entry.renewed = seconds(now);
        self.store.put(entry);
        Some(Instruction::Expect(*expectation))
    }

    /// Whether the record counts. Of a lost flow the peer knows no addresses: a dump has to show them.
    pub(super) fn receive_end(&mut self, record: &Record, id: u64, lost: bool) -> bool {
        let Some(mut entry) = self.store.get(id).copied() else { return false };
        self.note_end(id);
        if self.compare(record, &entry) != Ordering::Greater {
            if !entry.is(GONE) {
                self.receive_older(entry, None);
            }
            return false;
        }
        if !lost {
            let was_there = !entry.is(GONE);
            self.forget_entry(&mut entry);
            return was_there;
        }
        if self.serving && !entry.is(GONE) {
            // What the peer has lost goes on here, if a dump shows it.
            self.insist(entry);
            return false;
        }
        self.unshare(&mut entry);
        self.cancel(&mut entry);
        if entry.is(GONE) {
            self.store.remove(id);
            return false;
        }
        entry.set(DOOMED, true);
        entry.set(MINE, false);
        entry.version = record.version;
        self.unsettled = true;
        self.store.put(entry);
        true
    }

    /// What this node has counts although the peer has a newer word. The next dump tells it, or shows that it is no more.
    fn insist(&mut self, mut entry: Entry) {
        self.unshare(&mut entry);
        self.cancel(&mut entry);
        entry.set(MINE, true);
        entry.version = self.tick();
        self.unsettled = true;
        self.store.put(entry);
    }

    /// The digest no longer takes this flow in.
    pub(super) fn unshare(&mut self, entry: &mut Entry) {
        if !entry.is(SHARED) {
            return;
        }
        let waiting = entry.waits().and_then(|slot| self.outbox.shared_reply(slot)).map(|reply| *reply);
        self.digests.take(entry.id, waiting.unwrap_or(entry.reply));
        entry.set(SHARED, false);
    }

    fn share(&mut self, entry: &mut Entry, now: Instant) {
        self.digests.add(entry.id, entry.reply);
        entry.set(SHARED | KNOWN, true);
        entry.renewed = seconds(now);
    }
}
