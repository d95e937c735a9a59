//! A node's view of its flows: for each a number, a version and a digest of what it is; what it contains is only kept while
//! the peer has yet to confirm it. *State, not a log*: of a flow that changes ten times before it is sent, the tenth goes.
//!
//! Who is right: a change that this node's own kernel tells of gets the next number of a Lamport clock, whose
//! high bits count take-overs. A record of the peer counts if its version is higher. A flow that ends counts as
//! ended only on the node that serves it: elsewhere the kernel has dropped its replica, and gets another.

mod digest;
mod outbox;
mod receiving;
mod sending;
mod store;
mod sweep;
mod writing;

pub use sweep::Purpose;

use super::identity::Identity;
use super::message::Hello;
use super::record::{Item, Record, Version};
use crate::proto::flow::{Expectation, Flow, Key};
use carp_common::time::{Instant, Span};
use digest::Digests;
use outbox::Outbox;
use std::collections::BTreeSet;
use store::{DOOMED, GONE, MINE, SHARED, Store};

/// How long a replica lives without a word of the node that serves the flow: three times what renewing takes at
/// the longest, so that one that is lost does not matter. A dead flow whose end was lost stays no longer.
pub const REPLICA_LIFETIME: Span = Span::secs(900);
/// A flow that the peer was told of less than this ago is not told of again.
pub const RENEW_AFTER: Span = Span::secs(100);

/// What a node knows of its flows, and has yet to tell the peer.
#[derive(Clone, Debug)]
pub struct Table {
    identity: Identity,
    store: Store,
    outbox: Outbox,
    digests: Digests,
    clock: Version,
    serving: bool,
    /// The first version since this node took over last.
    term: Version,
    /// The peer was met since this node started.
    acquainted: bool,
    peer: Peer,
    limit: usize,
    tally: Tally,
    /// Whether a dump has to show what has to be sent or removed and is not in the outbox.
    unsettled: bool,
    /// While a dump runs from which flows are learnt: those that have ended since it began, which it may still show.
    ended: Option<BTreeSet<u64>>,
    /// Which value of the mark in the entries means that the running dump has shown one.
    seen: bool,
    scratch: Vec<u8>,
}

/// What this node knows of the other one.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    stage: Stage,
    serving: bool,
    wins_ties: bool,
}

/// How far the two have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection.
    #[default]
    Away,
    /// They tell each other their whole tables.
    Bulk,
    /// They have done so.
    InStep,
}

/// What this node's kernel says of a flow, unless this node caused it itself.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// It is new.
    Began(&'a Flow),
    /// Something of it changed.
    Changed(&'a Flow),
    /// It is no more.
    Ended(&'a Key),
    /// A connection is expected.
    Expected(&'a Expectation),
    /// It is no longer expected, or has come; zone and tuple of the expectation.
    Cancelled(&'a Key),
}

/// What this node's kernel is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Have this flow, new or changed.
    Inject(Flow, Lifetime),
    /// Have this flow, unless there is one with its key: that is no refusal. Packets may have changed it since.
    Insert(Flow, Lifetime),
    /// Change how long this flow lives, if it is there, and have it forget TCP's windows; nothing else.
    Keep(Flow, Lifetime),
    /// Have it no longer.
    Remove(Key),
    /// Expect this connection.
    Expect(Expectation),
    /// Expect it no longer.
    Cancel(Key),
}

/// How long a flow is to live without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// [`REPLICA_LIFETIME`]: another node serves it and renews it.
    Replica,
    /// What the protocol gives: this node serves it.
    Protocol,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that were older than what is known.
    pub stale: u64,
    /// Flows for which there was no place, see [`Table::new`].
    pub over_limit: u64,
    /// Replicas that this node's kernel dropped.
    pub dropped: u64,
    /// Flows of which the kernel did not say that they ended.
    pub missed: u64,
    /// Changes that the kernel did not tell of, found by a dump.
    pub untold: u64,
    /// Flows sent again only to renew them.
    pub renewed: u64,
}

/// How many flows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Flows that this node was the last to change ...
    pub local: usize,
    /// ... and those that the peer was.
    pub replicated: usize,
    /// Records that wait to be sent.
    pub waiting: usize,
    /// Flows that both nodes have.
    pub shared: u64,
}

/// How it stands with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// This node was the last to change it; else the peer was.
    pub local: bool,
    /// The peer has it as it is in its kernel, or this node as the peer has it.
    pub confirmed: bool,
    /// How new it is.
    pub version: Version,
}

impl Table {
    /// Without a flow. Beyond `limit` flows more are neither taken from the peer nor told to it; what the
    /// kernel's own limit is, is a good one.
    pub fn new(identity: Identity, limit: usize) -> Self {
        Self {
            identity,
            store: Store::new(),
            outbox: Outbox::default(),
            digests: Digests::new(),
            clock: Version(0),
            serving: false,
            term: Version(0),
            acquainted: false,
            peer: Peer::default(),
            limit,
            tally: Tally::default(),
            unsettled: false,
            ended: None,
            seen: false,
            scratch: Vec::new(),
        }
    }

    /// Without a flow, of a node that does the same and has counted the same.
    pub fn renumbered(&self, identity: Identity) -> Self {
        let mut table = Self { tally: self.tally, ..Self::new(identity, self.limit) };
        table.set_serving(self.serving);
        table
    }

    /// This node serves virtual hosts, or no longer does. What it writes from its take-over on is newer than all
    /// that is known.
    pub fn set_serving(&mut self, serving: bool) {
        if serving && !self.serving {
            self.clock = self.clock.next_term();
            self.term = self.clock;
        }
        self.serving = serving;
    }

    /// Whether it does.
    pub const fn is_serving(&self) -> bool {
        self.serving
    }

    /// The peer serves virtual hosts, or no longer does, and knows versions up to this one.
    pub fn set_peer_serving(&mut self, serving: bool, clock: Version) {
        self.peer.serving = serving;
        self.clock = self.clock.max(clock);
    }

    /// The newest version that is known.
    pub const fn clock(&self) -> Version {
        self.clock
    }

    /// The first version since this node took over last.
    pub const fn term(&self) -> Version {
        self.term
    }

    /// What was counted.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// How many flows there are.
    pub fn count(&self) -> Count {
        let (living, local) = self.store.living();
        let waiting = self.outbox.waiting();
        Count { local, replicated: living - local, waiting, shared: self.digests.count() }
    }

    /// How it stands with a flow; `None` when it is not known, or has ended.
    pub fn holding(&self, key: &Key) -> Option<Holding> {
        let entry = self.store.get(self.identity.flow(key)).filter(|entry| !entry.is(GONE | DOOMED))?;
        Some(Holding {
            local: entry.is(MINE),
            confirmed: entry.is(SHARED) && entry.waits().is_none(),
            version: entry.version,
        })
    }

    /// In which bucket a flow is.
    pub fn bucket(&self, key: &Key) -> u16 {
        store::bucket_number(self.identity.flow(key))
    }

    /// How many entries there are, ended flows among them.
    pub const fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// There is a connection: all that is known is to be told anew. `wins_ties` says whose change counts when
    /// both have the same version: the peer's.
    pub fn connected(&mut self, peer: &Hello<'_>, wins_ties: bool) {
        self.peer = Peer { stage: Stage::Bulk, serving: peer.serving, wins_ties };
        self.digests.clear();
        let mut lift = Version(0);
        if self.serving && (!self.acquainted || (!peer.serving && peer.term >= self.term)) {
            // It took over without knowing what the peer knows: what it wrote since is newer all the same.
            lift = self.clock.max(peer.clock).next_term();
        }
        self.acquainted = true;
        for entry in self.store.iter_mut() {
            entry.set(SHARED, false);
            if entry.is(MINE) && entry.version >= self.term && lift > entry.version {
                entry.version = lift.with_count_of(entry.version);
                self.clock = self.clock.max(entry.version);
            }
        }
        if lift > self.term {
            self.term = lift;
        }
        self.clock = self.clock.max(peer.clock).max(lift);
    }

    /// Both have told each other all that they had.
    pub fn in_step(&mut self) {
        if self.peer.stage == Stage::Bulk {
            self.peer.stage = Stage::InStep;
        }
    }

    /// How far the two have come.
    pub const fn stage(&self) -> Stage {
        self.peer.stage
    }

    /// The connection is lost. What the peer did not confirm will be sent again.
    pub fn disconnected(&mut self) {
        self.peer = Peer::default();
        self.outbox.recall();
    }

    /// The peer says something; what this node's kernel is to do about it, in order.
    pub fn receive(&mut self, record: &Record, now: Instant) -> [Option<Instruction>; 2] {
        self.clock = self.clock.max(record.version);
        let instruction = match &record.item {
            Item::Flow(flow) => return self.receive_flow(record, flow, now),
            Item::Expectation(expectation) => self.receive_expectation(record, expectation, now),
            Item::Gone(key) => {
                let ended = self.receive_end(record, self.identity.flow(key), false);
                ended.then_some(Instruction::Remove(*key))
            }
            Item::Cancelled(key) => {
                let ended = self.receive_end(record, self.identity.expectation(key), false);
                ended.then_some(Instruction::Cancel(*key))
            }
            Item::Lost(id) => {
                self.receive_end(record, *id, true);
                None
            }
        };
        [instruction, None]
    }
}

fn seconds(now: Instant) -> u32 {
    u32::try_from(now.nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}
