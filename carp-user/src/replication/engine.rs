//! The loop of replication.

use super::load::{Load, REST};
use super::shifts::Shifts;
use super::translation::{cause, is_for_the_peer, key, order, told};
use super::{Kernel, Question, Start, State, Wanted, open_kernel, open_peer};
use crate::api::{FlowQuery, FlowStanding, Place};
use crate::io::conntrack::{Dump, Item, Order, Refusal, Timeouts, expectations};
use crate::io::peer::{Happening, Peer};
use crate::io::{address, clock};
use crate::proto::flow::Flow;
use crate::proto::sync::filter::Filter;
use crate::proto::sync::session::{Action, Event, Session, SessionStage, Setup, Ticket};
use crate::proto::sync::table::{Instruction, Lifetime, News, REPLICA_LIFETIME};
use anyhow::Result;
use carp_common::time::{Instant, Span};
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot, watch};

/// How often its state is told anew, and the node's own addresses are read.
const TELL_EVERY: Span = Span::secs(1);

/// What others see of it: the demotion, how far the session is, and its state.
type Ends = (watch::Receiver<Option<String>>, watch::Receiver<SessionStage>, watch::Receiver<State>);

/// The session with everything around it.
pub(super) struct Engine {
    session: Session,
    kernel: Kernel,
    timeouts: Timeouts,
    filter: Filter,
    shifts: Shifts,
    peer: Peer,
    dump: Option<Dump>,
    /// Reused for each part of a dump.
    flows: Vec<Flow>,
    /// What the kernel has said last; reused, too.
    items: Vec<Item>,
    load: Load,
    /// What the kernel is to do next, in order.
    instructions: Vec<Instruction>,
    wanted: watch::Receiver<Wanted>,
    questions: mpsc::Receiver<Question>,
    /// Who waits for the peer to have all by a moment; the daemon asks once at a time.
    drains: Vec<(Instant, oneshot::Sender<()>)>,
    full: u64,
    demotion: watch::Sender<Option<String>>,
    stage: watch::Sender<SessionStage>,
    state: watch::Sender<State>,
    tell_at: Instant,
}

/// What woke the loop.
enum Woken {
    Wanted,
    Unwanted,
    Peer(Happening),
    Kernel,
    Dump,
    Asked(Question),
    Time,
}

impl Engine {
    /// Opens all of it. Call it inside a tokio runtime.
    pub(super) fn open(
        start: &Start,
        wanted: watch::Receiver<Wanted>,
        questions: mpsc::Receiver<Question>,
    ) -> Result<(Self, Ends)> {
        let ends = [start.sync.address, start.sync.peer].map(|address| (address, start.sync.port).into());
        let filter = Filter { session: Some(ends), rules: start.sync.rules.clone(), ..Filter::default() };
        let (kernel, settings) = open_kernel(&filter)?;
        let peer = open_peer(&start.sync);
        let now = clock::now();
        let setup = Setup {
            name: start.node.clone(),
            epoch: start.epoch.into(),
            limit: usize::try_from(settings.max)?,
            identity: start.sync.keys.key.identity(),
        };
        let (session, actions) = Session::new(setup, now);
        let (demotion, demoted) = watch::channel(None);
        let (stage, reached) = watch::channel(SessionStage::default());
        let (state, told) = watch::channel(State::Running(Box::new(session.status(now))));
        let mut engine = Self {
            session,
            kernel,
            timeouts: Timeouts::read(),
            filter,
            shifts: Shifts::default(),
            peer,
            dump: None,
            flows: Vec::new(),
            items: Vec::new(),
            load: Load::default(),
            instructions: Vec::new(),
            wanted,
            questions,
            drains: Vec::new(),
            full: 0,
            demotion,
            stage,
            state,
            tell_at: now,
        };
        engine.read_own_addresses();
        engine.perform(actions);
        Ok((engine, (demoted, reached, told)))
    }

    /// Until nobody wants it any more, or the kernel fails it. A node that replicates nothing any more is demoted for
    /// nothing, too.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::error!(%error, "connections are not replicated any more: restart carpd");
            self.demotion.send_replace(None);
            self.state.send_replace(State::Ended(error.to_string()));
        }
    }

    async fn serve(&mut self) -> Result<()> {
        loop {
            let woken = self.next().await?;
            let now = clock::now();
            match woken {
                Woken::Unwanted => return Ok(()),
                Woken::Wanted => {
                    self.catch_up(now)?;
                    self.obey(now);
                }
                Woken::Peer(Happening::Connected) => {
                    if let Some(key) = self.peer.key() {
                        self.tell(Event::Numbered(key.identity()), now);
                    }
                    self.tell(Event::Connected, now);
                }
                Woken::Peer(Happening::Disconnected) => self.tell(Event::Disconnected, now),
                Woken::Peer(Happening::Frame(frame)) => {
                    if self.session.table().is_serving() {
                        self.catch_up(now)?;
                    }
                    self.tell(Event::Received(&frame), now);
                }
                Woken::Kernel => {
                    let flood = self.load.heard(self.items.len(), now);
                    self.listen(now);
                    if flood && self.dump.is_none() {
                        // What is to be sent leaves before.
                        tokio::task::yield_now().await;
                        clock::rest(REST);
                    }
                }
                Woken::Dump => self.read_dump(now)?,
                Woken::Asked(Question::Told(tell)) => {
                    self.catch_up(now)?;
                    self.drains.push((now, tell));
                }
                Woken::Asked(Question::Flows { flows, answer }) => {
                    answer(flows.iter().map(|query| self.standing(query)).collect());
                }
                Woken::Time => {}
            }
            self.tell_shifts(now)?;
            if self.session.deadline() <= now {
                self.tell(Event::Tick, now);
            }
            let stage = self.session.stage();
            self.stage.send_if_modified(|last| std::mem::replace(last, stage) != stage);
            let told = self.drains.extract_if(.., |(by, _)| self.session.has_told(*by));
            told.for_each(|(_, tell)| {
                let _gone = tell.send(());
            });
            if self.tell_at <= now {
                self.tell_at = now + TELL_EVERY;
                self.read_own_addresses();
                self.state.send_replace(State::Running(Box::new(self.session.status(now))));
            }
        }
    }

    /// Whatever comes first; of several, any: no flood of one kind keeps out another.
    async fn next(&mut self) -> Result<Woken> {
        let due = self.session.deadline().min(self.tell_at);
        let due = self.shifts.due().map_or(due, |at| at.min(due)).since(clock::now());
        let dumps = self.dump.is_some() && self.session.wants_dump();
        let mut take = |item| self.items.push(item);
        tokio::select! {
            changed = self.wanted.changed() => Ok(changed.map_or(Woken::Unwanted, |()| Woken::Wanted)),
            event = self.peer.heard() => Ok(Woken::Peer(event)),
            heard = self.kernel.events.next(&mut take) => {
                heard.map(|()| Woken::Kernel).map_err(Into::into)
            }
            Some(question) = self.questions.recv() => Ok(Woken::Asked(question)),
            () = std::future::ready(()), if dumps => Ok(Woken::Dump),
            () = tokio::time::sleep(due.std()) => Ok(Woken::Time),
        }
    }

    fn obey(&mut self, now: Instant) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.peer.set_keys(wanted.keys);
        self.tell(Event::Serving(wanted.serving), now);
        if std::mem::replace(&mut self.full, wanted.full) != wanted.full {
            self.tell(Event::Full, now);
        }
    }

    /// Hears what the kernel has said by now, so that it counts as earlier than what comes next. A flood of it does not
    /// end, so it is not heard to its end.
    fn catch_up(&mut self, now: Instant) -> Result<()> {
        /// Each is up to a thousand events.
        const MOST: usize = 16;
        let mut take = |item| self.items.push(item);
        for _ in 0..MOST {
            if !self.kernel.events.waiting(&mut take)? {
                break;
            }
        }
        self.listen(now);
        Ok(())
    }

    /// What the kernel has said.
    fn listen(&mut self, now: Instant) {
        let mut actions = Vec::new();
        for item in self.items.drain(..) {
            match item {
                Item::Message(message) if !is_for_the_peer(&self.filter, &message.news) => {}
                Item::Message(message) => {
                    self.shifts.hear(&message.news, now);
                    told(&message.news, &mut |news| {
                        self.session.handle(Event::Local(news), now, &mut actions);
                    });
                }
                Item::Overrun => self.session.handle(Event::Overrun, now, &mut actions),
            }
        }
        self.session.handle(Event::Drained, now, &mut actions);
        self.perform(actions);
    }

    fn tell_shifts(&mut self, now: Instant) -> Result<()> {
        if self.shifts.due().is_some_and(|due| due <= now) {
            // What has ended by now is not looked at any more.
            self.catch_up(now)?;
            let mut shifted = self.shifts.look();
            shifted.retain(|flow| self.filter.carries(flow));
            shifted.iter().for_each(|flow| self.tell(Event::Local(News::Changed(flow)), now));
            self.tell(Event::Drained, now);
        }
        Ok(())
    }

    fn read_dump(&mut self, now: Instant) -> Result<()> {
        let Some(dump) = &mut self.dump else { return Ok(()) };
        let ended = match dump.part(&mut self.flows) {
            Ok(true) => None,
            Ok(false) => Some(true),
            Err(error) => {
                tracing::debug!(%error, "reading the kernel's connections");
                Some(false)
            }
        };
        let mut flows = std::mem::take(&mut self.flows);
        flows.retain(|flow| self.filter.carries(flow));
        self.tell(Event::Dumped(&flows), now);
        self.flows = flows;
        let Some(complete) = ended else { return Ok(()) };
        self.dump = None;
        // What has ended meanwhile and was not shown is not amiss.
        self.catch_up(now)?;
        let listed = expectations();
        if let Ok(expectations) = &listed {
            self.tell(Event::DumpedExpectations(expectations), now);
        }
        self.tell(Event::DumpEnded { complete: complete && listed.is_ok() }, now);
        Ok(())
    }

    fn standing(&self, query: &FlowQuery) -> FlowStanding {
        let Some(flow) = query.flow() else {
            return FlowStanding { place: Place::NotReplicated, differs: false };
        };
        FlowStanding::of(self.session.standing(&flow.key), self.filter.carries(&flow))
    }

    /// What cannot be read stays as it was.
    fn read_own_addresses(&mut self) {
        match address::own() {
            Ok(own) => self.filter.own = own,
            Err(error) => tracing::debug!(%error, "reading this node's addresses"),
        }
    }

    fn tell(&mut self, event: Event<'_>, now: Instant) {
        let mut actions = Vec::new();
        self.session.handle(event, now, &mut actions);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(frame) => self.peer.send(frame),
                Action::Kernel(instruction) => self.instructions.push(self.timed(instruction)),
                Action::Apply(ticket) => actions.extend(self.apply(Some(ticket))),
                Action::StartDump => self.start_dump(),
                Action::Disconnect => self.peer.disconnect(),
                Action::Demote { reason } => {
                    self.demotion.send_if_modified(|demotion| {
                        demotion.replace(reason.clone()).as_ref() != Some(&reason)
                    });
                }
                Action::Undemote => {
                    self.demotion.send_if_modified(|demotion| demotion.take().is_some());
                }
                Action::Warn(notice) => tracing::warn!("sync: {notice}"),
            }
            if actions.is_empty() && !self.instructions.is_empty() {
                actions.extend(self.apply(None));
            }
        }
    }

    /// With the lifetime that it is to have here.
    fn timed(&self, mut instruction: Instruction) -> Instruction {
        match &mut instruction {
            Instruction::Inject(flow, lifetime)
            | Instruction::Insert(flow, lifetime)
            | Instruction::Keep(flow, lifetime) => {
                flow.timeout = match lifetime {
                    Lifetime::Replica => seconds(REPLICA_LIFETIME),
                    Lifetime::Protocol => self.timeouts.of(flow),
                };
            }
            Instruction::Remove(_) | Instruction::Expect(_) | Instruction::Cancel(_) => {}
        }
        instruction
    }

    fn start_dump(&mut self) {
        match Dump::start(None) {
            Ok(dump) => self.dump = Some(dump),
            Err(error) => {
                tracing::warn!(%error, "reading the kernel's connections");
                self.tell(Event::DumpEnded { complete: false }, clock::now());
            }
        }
    }

    /// Has the kernel do what is collected, and tells the session.
    fn apply(&mut self, ticket: Option<Ticket>) -> Vec<Action> {
        let mut refused = Vec::new();
        let orders: Vec<Order<'_>> = self.instructions.iter().map(order).collect();
        let instructions = &self.instructions;
        let mut note = |index: usize, refusal: Refusal| {
            let Some(instruction) = instructions.get(index) else { return };
            tracing::debug!(?instruction, ?refusal, "the kernel refused");
            refused.extend(key(instruction).map(|key| (key, cause(refusal))));
        };
        if let Err(error) = self.kernel.injector.carry_out(&orders, &mut note) {
            tracing::warn!(%error, "writing connections into the kernel's table");
        }
        drop(orders);
        self.instructions.clear();
        let mut actions = Vec::new();
        if let Some(ticket) = ticket {
            self.session.handle(Event::Applied(ticket, &refused), clock::now(), &mut actions);
        }
        actions
    }
}

fn seconds(span: Span) -> u32 {
    u32::try_from(span.as_nanos() / Span::secs(1).as_nanos()).unwrap_or(u32::MAX)
}
