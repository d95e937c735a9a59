//! Dumps of the kernel's table: one at a time, what is wanted meanwhile waits for the next. The shell reads one
//! part after the other, when it is wanted.

use super::bulk::Out;
use super::{Action, Link, Notice, Session};
use crate::proto::flow::{Expectation, Flow};
use crate::proto::sync::table::{Purpose, Stage, Table};
use carp_common::time::{Instant, Span};
use std::num::NonZeroU64;

/// Records that wait to be sent beyond which a dump waits.
const WAITING: usize = 4096;
/// How often a node that serves has its kernel's table read to renew the peer's replicas.
pub const SWEEP_EVERY: Span = Span::secs(200);
/// How long a leisurely dump takes at least: it reads a sixtieth of the table a second.
pub const LEISURE: Span = Span::secs(60);

/// How long after a dump that left something unsettled the next is read; each time twice as long, up to the second figure: on
/// a busy node there is always something that has ended while the dump was read.
const PATIENCE: Span = Span::secs(1);
const MOST_PATIENCE: Span = Span::secs(20);

#[derive(Clone, Debug)]
pub(super) struct Dumps {
    running: Option<Running>,
    next: Purpose,
    sweep: Instant,
    /// Whether one more dump is to learn what events did not tell: after a loss it takes two, as the first
    /// can meet what an event has just ended.
    learn_again: bool,
    /// Not before this time a dump that nobody asked for, and after how long the one after it.
    settle: Instant,
    patience: Span,
}

#[derive(Clone, Debug)]
struct Running {
    purpose: Purpose,
    began: Instant,
    shown: u64,
    leisurely: bool,
    /// It has read its share; until then it rests.
    rests_until: Option<Instant>,
}

impl Dumps {
    pub fn new(now: Instant) -> Self {
        Self {
            running: None,
            next: Purpose::default(),
            sweep: now + SWEEP_EVERY,
            learn_again: true,
            settle: now,
            patience: PATIENCE,
        }
    }

    /// When a dump that rests is to go on.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|running| running.rests_until)
    }

    /// A dump that could have settled what was amiss is over.
    fn learnt(&mut self, unsettled: bool, now: Instant) {
        self.settle = now + self.patience;
        self.patience = if unsettled { MOST_PATIENCE.min(self.patience.times(2)) } else { PATIENCE };
    }

    pub fn tick(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.rests_until = running.rests_until.filter(|until| *until > now);
        }
    }
}

impl Running {
    /// So many flows more have been shown.
    fn shows(&mut self, count: usize, table: &Table, now: Instant) {
        self.shown += u64::try_from(count).unwrap_or(0);
        let of = NonZeroU64::new(u64::try_from(table.len()).unwrap_or(0)).unwrap_or(NonZeroU64::MIN);
        let due = self.began + LEISURE.part(of).times(self.shown);
        self.rests_until = Some(due).filter(|due| self.leisurely && *due > now);
    }
}

impl Session {
    /// Whether the running dump is to be read on.
    pub fn wants_dump(&self) -> bool {
        let running = self.dumps.running.as_ref();
        running.is_some_and(|running| running.rests_until.is_none()) && self.table.waiting() < WAITING
    }

    /// Has the kernel's table read for this purpose, now or as soon as the dump that runs is over.
    pub(super) fn dump(&mut self, purpose: Purpose, now: Instant, actions: &mut Vec<Action>) {
        self.dumps.next.and(purpose);
        match &mut self.dumps.running {
            Some(running) => (running.leisurely, running.rests_until) = (false, None),
            None => self.next_dump(now, actions),
        }
    }

    fn next_dump(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.dumps.next.is_any() {
            return;
        }
        let purpose = std::mem::take(&mut self.dumps.next);
        if purpose.renew {
            self.dumps.sweep = now + SWEEP_EVERY;
        }
        let leisurely = purpose.is_leisurely();
        self.table.dump_begins(&purpose);
        self.dumps.running = Some(Running { purpose, began: now, shown: 0, leisurely, rests_until: None });
        actions.push(Action::StartDump);
    }

    pub(super) fn dumped(&mut self, flows: &[Flow], now: Instant, actions: &mut Vec<Action>) {
        let Some(running) = &mut self.dumps.running else { return };
        running.shows(flows.len(), &self.table, now);
        for flow in flows {
            actions.extend(self.table.dumped(flow, &running.purpose, now).map(Action::Kernel));
        }
        self.flush(now, actions);
    }

    pub(super) fn dumped_expectations(
        &mut self,
        expectations: &[Expectation],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = &self.dumps.running else { return };
        for expectation in expectations {
            self.table.dumped_expectation(expectation, &running.purpose, now);
        }
        self.flush(now, actions);
    }

    pub(super) fn dump_ended(&mut self, complete: bool, now: Instant, actions: &mut Vec<Action>) {
        let Some(Running { purpose, .. }) = self.dumps.running.take() else { return };
        if complete {
            self.table.dump_ends(&purpose, now);
            if purpose.learn {
                self.dumps.learnt(self.table.is_unsettled(), now);
            }
            if let (Link::Up(up), true) = (&mut self.link, purpose.tell)
                && up.out == Out::Dumping
                && !self.dumps.next.tell
            {
                up.out = Out::Sending(self.table.mark());
            }
            if purpose.learn && std::mem::take(&mut self.dumps.learn_again) {
                self.dumps.next.and(Purpose { learn: true, ..Purpose::default() });
            }
            self.next_dump(now, actions);
        } else {
            self.table.dump_fails();
            // Not at once: what failed now may fail again.
            actions.push(Action::Warn(Notice::DumpFailed));
            self.dumps.next.and(purpose);
        }
        self.flush(now, actions);
    }

    pub(super) fn overrun(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.dumps.learn_again {
            actions.push(Action::Warn(Notice::Overrun));
        }
        self.dumps.learn_again = true;
        self.dump(Purpose { learn: true, ..Purpose::default() }, now, actions);
    }

    /// Once a second: dumps that nobody has asked for.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.dumps.running.is_some() {
            return;
        }
        let in_step = self.table.stage() == Stage::InStep;
        if self.table.is_unsettled() && now >= self.dumps.settle {
            self.dumps.next.and(Purpose { tell: in_step, learn: true, ..Purpose::default() });
        }
        if in_step && now >= self.dumps.sweep {
            self.dumps.next.and(Purpose { renew: true, ..Purpose::default() });
        }
        self.next_dump(now, actions);
    }
}
