//! Whole tables, told when a connection is made: how far they are, and what this node does without them.

use super::notice::Thousands;
use super::{Action, DEMOTION, Link, Notice, Session, WAIT_FOR_PEER};
use crate::proto::sync::message::{self, BUCKETS};
use crate::proto::sync::table::{Purpose, Table};
use carp_common::time::{Instant, Span};

/// A bulk of which nothing has come for so long is stuck.
pub const STUCK: Span = Span::secs(10);
/// And so is one that takes longer than this on the whole: nothing holds a node back for ever.
pub const LONGEST: Span = Span::secs(120);

/// The peer's table.
#[derive(Clone, Debug)]
pub(super) struct In {
    stage: Stage,
    got: u64,
    estimate: u64,
    began: Instant,
    progress: Instant,
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Coming,
    /// All has come with this batch.
    Here(u64),
    Done,
}

/// This node's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// The kernel's table is being read.
    Dumping,
    /// It has been, and what was read before this mark is being sent.
    Sending(u64),
    Done,
}

impl In {
    pub const fn new(now: Instant) -> Self {
        Self { stage: Stage::Coming, got: 0, estimate: 0, began: now, progress: now, told: false }
    }

    pub fn begins(&mut self, estimate: u64, now: Instant) {
        *self = Self { estimate, ..Self::new(now) };
    }

    pub fn grows(&mut self, flows: u64, now: Instant) {
        if self.stage == Stage::Coming && flows > 0 {
            self.got += flows;
            self.progress = now;
        }
    }

    pub fn ends(&mut self, batch: u64) {
        if self.stage == Stage::Coming {
            self.stage = Stage::Here(batch);
        }
    }

    /// Whether the kernel has got the last of it just now.
    pub fn lands(&mut self, applied: u64) -> bool {
        let landed = matches!(self.stage, Stage::Here(batch) if batch <= applied);
        if landed {
            self.stage = Stage::Done;
        }
        landed
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// How many flows have come, and of how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.got, self.estimate.max(self.got))
    }

    fn reason(&self) -> String {
        let (got, of) = self.progress();
        // Until it ends, it is not complete, whatever the estimate was.
        let percent = got.saturating_mul(100).checked_div(of).unwrap_or(0).min(99);
        format!("{DEMOTION}: {percent} %, {} of {}", Thousands(got), Thousands(of))
    }

    /// What is to be said of a bulk that does not come on; once.
    fn is_stuck(&mut self, now: Instant) -> Option<Notice> {
        let (still, whole) = (now.since(self.progress), now.since(self.began));
        if self.is_done() || self.told || (still < STUCK && whole < LONGEST) {
            return None;
        }
        self.told = true;
        let (got, of) = self.progress();
        Some(Notice::Stuck { got, of, after: if still < STUCK { whole } else { still } })
    }
}

impl Out {
    pub fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Whether the last of the table has been sent just now.
    pub fn is_told(&mut self, table: &Table) -> bool {
        let told = matches!(self, Self::Sending(mark) if table.has_passed(*mark));
        if told {
            *self = Self::Done;
        }
        told
    }
}

impl Session {
    /// Tells the peer the whole table, or with `all` also what it has been told before.
    pub(super) fn tell_all(&mut self, all: bool, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        up.out = Out::Dumping;
        let estimate = u64::try_from(self.table.len()).unwrap_or(u64::MAX);
        actions.push(Action::Send(message::bulk_begin(estimate)));
        let buckets =
            if all { (0..BUCKETS).filter_map(|at| u16::try_from(at).ok()).collect() } else { Vec::new() };
        self.dump(Purpose { tell: true, buckets, ..Purpose::default() }, now, actions);
    }

    pub(super) fn full(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if matches!(self.link, Link::Up(_)) {
            actions.push(Action::Send(message::full()));
            self.tell_all(true, now, actions);
        }
    }

    /// This node takes part as one that has all flows, or will not get them.
    pub(super) fn join(&mut self, actions: &mut Vec<Action>) {
        self.joined = true;
        if self.demoted {
            self.demoted = false;
            actions.push(Action::Undemote);
        }
    }

    /// There is a connection: a node that does not serve may have missed something, and waits for the peer's table.
    pub(super) fn await_table(&mut self, actions: &mut Vec<Action>) {
        if !self.table.is_serving() {
            self.joined = false;
            self.demoted = true;
            self.say_progress(actions);
        }
    }

    fn say_progress(&self, actions: &mut Vec<Action>) {
        if let Link::Up(up) = &self.link {
            actions.push(Action::Demote { reason: up.into.reason() });
        }
    }

    pub(super) fn watch_bulk(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let stuck = match &mut self.link {
            Link::Up(up) => up.into.is_stuck(now),
            Link::Down | Link::Greeting { .. } => None,
        };
        let is_stuck = stuck.is_some();
        actions.extend(stuck.map(Action::Warn));
        if self.joined {
            return;
        }
        let alone = !matches!(self.link, Link::Up(_)) && now.since(self.since) >= WAIT_FOR_PEER;
        if alone || is_stuck {
            self.join(actions);
        } else {
            self.say_progress(actions);
        }
    }
}
