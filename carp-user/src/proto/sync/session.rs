//! The session with the peer, without its socket: what comes in from the peer, from this node's kernel and from the clock goes in as an
//! event, what is to be done comes out as actions. It owns the [`Table`].

mod bulk;
mod dump;
mod equality;
mod hearing;
mod notice;
mod refusals;
mod status;

pub use notice::{Notice, TABLE_FULL};
pub use refusals::Cause;
pub use status::{LinkStatus, Progress, SessionStage, Standing, Status};

use super::identity::Identity;
use super::message::{self, Hello, VERSIONS};
use super::table::{Instruction, News, Purpose, Stage, Table};
use crate::proto::flow::{Expectation, Flow, Key};
use bulk::{In, Out};
use carp_common::time::{Instant, Span};
use dump::Dumps;
use equality::Equality;
use refusals::Refusals;

/// Batches sent and not yet in the peer's kernel, at most: half a megabyte. Policy when full: changes wait in the table,
/// where a newer one takes the place of an older one.
pub const WINDOW: usize = 32;
/// Batches in flight up to which one is sent although it is not full: a single change does not wait, a stream of
/// them goes in full batches.
const EAGER: usize = 4;
/// Records that wait beyond which a batch is full enough.
const FULL: usize = 256;
/// How often a node says that it lives, and compares digests.
const BEAT: Span = Span::secs(1);
/// A peer that has been silent for so long is gone.
pub const SILENCE: Span = Span::secs(5);
/// How long a node that has just started waits for its peer before it takes part without having its flows.
pub const WAIT_FOR_PEER: Span = Span::secs(10);
/// Name of the demotion of a node that has not got all flows.
pub const DEMOTION: &str = "sync";

/// What a session is told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name of this node.
    pub name: String,
    /// Number of this start, higher than at any start before.
    pub epoch: u64,
    /// Most flows that are replicated.
    pub limit: usize,
    /// Makes the numbers of flows; both nodes have the same.
    pub identity: Identity,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Flows are numbered so from now on: by the key of the connection that there will be.
    Numbered(Identity),
    /// There is an authenticated connection.
    Connected,
    /// There is none any more.
    Disconnected,
    /// A frame of the peer. While this node serves, read what the kernel has said before: a flow that has come in place of
    /// another one must not end with it.
    Received(&'a [u8]),
    /// This node's kernel says something that this node did not cause.
    Local(News<'a>),
    /// The kernel has nothing more to say for now: what it said goes out.
    Drained,
    /// The kernel had more to say than there was room for: something is lost.
    Overrun,
    /// All instructions before an [`Action::Apply`] have been followed, but for these flows, and why.
    Applied(Ticket, &'a [(Key, Cause)]),
    /// The dump shows these flows.
    Dumped(&'a [Flow]),
    /// The dump shows these expectations.
    DumpedExpectations(&'a [Expectation]),
    /// The dump is over; it failed if not complete.
    DumpEnded {
        /// Whether everything was shown.
        complete: bool,
    },
    /// This node serves virtual hosts, or no longer does. Read all that the kernel has said before: a flow that ended while
    /// this node served has ended, one that its kernel drops later is a replica that is lost.
    Serving(bool),
    /// Somebody asks for the whole tables to be told once more.
    Full,
    /// Time has come, see [`Session::deadline`].
    Tick,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this frame.
    Send(Vec<u8>),
    /// Have the kernel do this; it may be collected until an [`Action::Apply`] or the end of the actions.
    Kernel(Instruction),
    /// Report [`Event::Applied`] with this ticket once the kernel has done all before it.
    Apply(Ticket),
    /// Start to dump the kernel's table: flows, then expectations. Read on only while [`Session::wants_dump`].
    StartDump,
    /// Close the connection and make another.
    Disconnect,
    /// Rank this node lower, or say anew why: the demotion is named [`DEMOTION`].
    Demote {
        /// For people.
        reason: String,
    },
    /// No longer.
    Undemote,
    /// Tell people.
    Warn(Notice),
}

/// Which batch of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    connection: u64,
    batch: u64,
}

/// The session.
#[derive(Clone, Debug)]
pub struct Session {
    setup: Setup,
    table: Table,
    link: Link,
    /// Counts connections.
    connection: u64,
    since: Instant,
    dumps: Dumps,
    demoted: bool,
    /// The whole table has been got once, or waited for in vain.
    joined: bool,
    beat: Instant,
    refusals: Refusals,
}

/// The connection.
#[derive(Clone, Debug)]
enum Link {
    Down,
    /// The peer has not said hello.
    Greeting {
        heard: Instant,
    },
    Up(Box<Up>),
}

#[derive(Clone, Debug)]
struct Up {
    peer: String,
    heard: Instant,
    /// The last batch that came, and the last that is in the kernel.
    received: u64,
    applied: u64,
    into: In,
    out: Out,
    equality: Equality,
}

impl Session {
    /// A node that has just started: it demotes itself until it has the peer's flows, and wants to know those that
    /// its kernel has.
    pub fn new(setup: Setup, now: Instant) -> (Self, Vec<Action>) {
        let table = Table::new(setup.identity, setup.limit);
        let mut session = Self {
            setup,
            table,
            link: Link::Down,
            connection: 0,
            since: now,
            dumps: Dumps::new(now),
            demoted: true,
            joined: false,
            beat: now + BEAT,
            refusals: Refusals::default(),
        };
        let mut actions = vec![Action::Demote { reason: "sync: waiting for the peer".to_owned() }];
        session.dump(Purpose { learn: true, ..Purpose::default() }, now, &mut actions);
        (session, actions)
    }

    /// The one door.
    pub fn handle(&mut self, event: Event<'_>, now: Instant, actions: &mut Vec<Action>) {
        match event {
            Event::Numbered(identity) => self.renumber(identity, now, actions),
            Event::Connected => self.connected(now, actions),
            Event::Disconnected => self.disconnected(now),
            Event::Received(frame) => self.received(frame, now, actions),
            Event::Local(news) => self.table.local(news, now),
            Event::Drained => self.flush(now, actions),
            Event::Overrun => self.overrun(now, actions),
            Event::Applied(ticket, refused) => self.applied(ticket, refused, now, actions),
            Event::Dumped(flows) => self.dumped(flows, now, actions),
            Event::DumpedExpectations(expectations) => self.dumped_expectations(expectations, now, actions),
            Event::DumpEnded { complete } => self.dump_ended(complete, now, actions),
            Event::Serving(serving) => self.serving(serving, now, actions),
            Event::Full => self.full(now, actions),
            Event::Tick => self.tick(now, actions),
        }
    }

    /// When the next [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Instant {
        self.dumps.deadline().map_or(self.beat, |at| at.min(self.beat))
    }

    /// The table, to look at.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Name of this node.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    fn connected(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // A new connection is the end of the one before, whether that was told or not.
        self.disconnected(now);
        self.connection += 1;
        self.link = Link::Greeting { heard: now };
        self.since = now;
        let hello = Hello {
            oldest: *VERSIONS.start(),
            newest: *VERSIONS.end(),
            features: 0,
            epoch: self.setup.epoch,
            clock: self.table.clock(),
            term: self.table.term(),
            serving: self.table.is_serving(),
            name: &self.setup.name,
        };
        actions.push(Action::Send(hello.encode()));
    }

    /// With other numbers than before all that is known is learnt anew from the kernel, as after a start.
    fn renumber(&mut self, identity: Identity, now: Instant, actions: &mut Vec<Action>) {
        if identity == self.setup.identity {
            return;
        }
        self.disconnected(now);
        self.setup.identity = identity;
        self.table = self.table.renumbered(identity);
        self.dumps = Dumps::new(now);
        self.dump(Purpose { learn: true, ..Purpose::default() }, now, actions);
    }

    fn disconnected(&mut self, now: Instant) {
        if matches!(self.link, Link::Up(_)) {
            self.table.disconnected();
        }
        if !matches!(self.link, Link::Down) {
            self.link = Link::Down;
            self.since = now;
        }
    }

    /// The peer is not to be spoken with any longer.
    fn close(&mut self, why: Notice, now: Instant, actions: &mut Vec<Action>) {
        actions.extend([Action::Warn(why), Action::Disconnect]);
        self.disconnected(now);
    }

    /// Sends what waits, as far as it may.
    fn flush(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        loop {
            if up.out.is_told(&self.table) {
                actions.push(Action::Send(message::bulk_end(self.table.root(0).count)));
            }
            let flying = self.table.in_flight();
            let may = flying < EAGER || (flying < WINDOW && self.table.waiting() >= FULL);
            let Some(frame) = may.then(|| self.table.batch(now)).flatten() else { break };
            actions.push(Action::Send(frame));
        }
        if up.into.is_done() && up.out.is_done() && self.table.stage() == Stage::Bulk {
            self.table.in_step();
        }
    }

    fn serving(&mut self, serving: bool, now: Instant, actions: &mut Vec<Action>) {
        if serving == self.table.is_serving() {
            return;
        }
        self.table.set_serving(serving);
        if serving {
            self.join(actions);
        }
        if matches!(self.link, Link::Up(_)) {
            actions.push(Action::Send(message::keep_alive(serving, self.table.clock())));
        }
        let purpose = Purpose { release: serving, retain: !serving, ..Purpose::default() };
        self.dump(purpose, now, actions);
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.dumps.tick(now);
        if now < self.beat {
            return;
        }
        self.beat = now + BEAT;
        let heard = match &self.link {
            Link::Down => None,
            Link::Greeting { heard } => Some(*heard),
            Link::Up(up) => Some(up.heard),
        };
        if let Some(silent) = heard.map(|heard| now.since(heard)).filter(|silent| *silent >= SILENCE) {
            self.close(Notice::Silent(silent), now, actions);
        }
        if let Link::Up(up) = &self.link {
            actions.push(Action::Send(message::keep_alive(self.table.is_serving(), self.table.clock())));
            if self.table.stage() == Stage::InStep {
                actions.push(Action::Send(message::digest(&self.table.root(up.received))));
            }
        }
        self.tell_refusals(now, actions);
        self.watch_bulk(now, actions);
        self.settle(now, actions);
        self.flush(now, actions);
    }
}
