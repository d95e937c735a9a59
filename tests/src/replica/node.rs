//! One machine: a session, its kernel, and the shell between them, which takes its time.

use super::kernel::{Kernel, Said, tcp_state};
use carp_common::time::{Instant, Span};
use carp_user::proto::flow::{Flow, Key};
use carp_user::proto::sync::identity::Identity;
use carp_user::proto::sync::session::{Action, Cause, Event, Notice, Session, Setup, Ticket};
use carp_user::proto::sync::table::Instruction;
use std::collections::VecDeque;

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What the daemon thinks.
    pub session: Session,
    /// What its kernel has.
    pub kernel: Kernel,
    /// Serves virtual hosts.
    pub serving: bool,
    /// Ranks lower, and why.
    pub demoted: Option<String>,
    /// What people were told.
    pub notices: Vec<Notice>,
    /// Frames that are to be sent.
    pub out: Vec<Vec<u8>>,
    /// It wants the connection closed.
    pub hangs_up: bool,
    /// Flows that replication removed from the kernel since this was last looked at.
    pub removed: Vec<Flow>,
    /// Flows whose TCP state went back, likewise.
    pub went_back: Vec<(u8, Flow)>,
    applied: VecDeque<(Instant, Ticket, Refused)>,
    part: Option<(Instant, Vec<Flow>)>,
    refused: Refused,
}

/// What the kernel did not take.
type Refused = Vec<(Key, Cause)>;

/// Most flows of a machine.
pub const LIMIT: usize = 10_000;

impl Machine {
    /// One that starts, with what its kernel has.
    pub fn start(name: &str, epoch: u64, kernel: Kernel, now: Instant) -> Self {
        let setup = Setup { name: name.to_owned(), epoch, limit: LIMIT, identity: Identity::new([3, 4]) };
        let (session, actions) = Session::new(setup, now);
        let mut machine = Self {
            session,
            kernel,
            serving: false,
            demoted: None,
            notices: Vec::new(),
            out: Vec::new(),
            hangs_up: false,
            removed: Vec::new(),
            went_back: Vec::new(),
            applied: VecDeque::new(),
            part: None,
            refused: Vec::new(),
        };
        machine.obey(actions, now);
        machine
    }

    /// The daemon starts anew, and the kernel keeps what it has; but what it has said is lost.
    pub fn restart(&mut self, epoch: u64, now: Instant) {
        let mut kernel = self.kernel.clone();
        (kernel.said, kernel.overrun) = (VecDeque::new(), false);
        *self = Self::start(self.session.name(), epoch, kernel, now);
    }

    /// Something happens to the session.
    pub fn tell(&mut self, event: Event<'_>, now: Instant) {
        let mut actions = Vec::new();
        self.session.handle(event, now, &mut actions);
        self.obey(actions, now);
    }

    /// It serves, or no longer does.
    pub fn serve(&mut self, serving: bool, now: Instant) {
        self.listen(usize::MAX, now);
        self.serving = serving;
        self.tell(Event::Serving(serving), now);
    }

    /// A frame comes.
    pub fn receive(&mut self, frame: &[u8], now: Instant) {
        if self.serving {
            self.listen(usize::MAX, now);
        }
        self.tell(Event::Received(frame), now);
    }

    fn obey(&mut self, actions: Vec<Action>, now: Instant) {
        for action in actions {
            match action {
                Action::Send(frame) => self.out.push(frame),
                Action::Kernel(instruction) => self.follow(&instruction),
                // The kernel's answers take a millisecond.
                Action::Apply(ticket) => {
                    let refused = std::mem::take(&mut self.refused);
                    self.applied.push_back((now + Span::millis(1), ticket, refused));
                }
                Action::StartDump => {
                    self.kernel.start_dump();
                    self.part = None;
                }
                Action::Disconnect => self.hangs_up = true,
                Action::Demote { reason } => self.demoted = Some(reason),
                Action::Undemote => self.demoted = None,
                Action::Warn(notice) => self.notices.push(notice),
            }
        }
    }

    fn follow(&mut self, instruction: &Instruction) {
        let unheard = |key: &Key| self.kernel.said.iter().any(|said| said.key() == *key);
        match instruction {
            // What the kernel has said and nobody has heard, nobody can heed.
            Instruction::Remove(key) if unheard(key) => {}
            Instruction::Inject(flow, _) if unheard(&flow.key) => {}
            Instruction::Remove(key) => {
                self.removed.extend(self.kernel.flows.get(key).map(|(flow, _)| *flow));
            }
            Instruction::Inject(flow, _) => {
                let before =
                    self.kernel.flows.get(&flow.key).filter(|(before, _)| before.reply == flow.reply);
                let before = before.map(|(before, _)| tcp_state(before));
                if let Some(before) = before.filter(|before| *before > tcp_state(flow)) {
                    self.went_back.push((before, *flow));
                }
            }
            Instruction::Insert(..)
            | Instruction::Keep(..)
            | Instruction::Expect(_)
            | Instruction::Cancel(_) => {}
        }
        self.refused.extend(self.kernel.follow(instruction).err().map(|key| (key, Cause::Full)));
    }

    /// What the shell does at this time: at most `heard` events of the kernel are heard.
    pub fn work(&mut self, heard: usize, now: Instant) {
        while let Some((_, ticket, refused)) = self.applied.pop_front_if(|(at, ..)| *at <= now) {
            self.tell(Event::Applied(ticket, &refused), now);
        }
        self.listen(heard, now);
        self.read_dump(now);
        if self.session.deadline() <= now {
            self.tell(Event::Tick, now);
        }
    }

    /// Hears what the kernel has said.
    fn listen(&mut self, most: usize, now: Instant) {
        let mut any = false;
        for _ in 0..most {
            let Some(said) = self.kernel.said.pop_front() else { break };
            self.hear(&said, now);
            any = true;
        }
        // The socket says so when what it holds has been read.
        if self.kernel.said.is_empty() && std::mem::take(&mut self.kernel.overrun) {
            self.tell(Event::Overrun, now);
        }
        if any {
            self.tell(Event::Drained, now);
        }
    }

    fn hear(&mut self, said: &Said, now: Instant) {
        self.tell(Event::Local(said.news()), now);
    }

    /// A part is read when the session wants it, and looked at a moment later.
    fn read_dump(&mut self, now: Instant) {
        if let Some((_, part)) = self.part.take_if(|(at, _)| *at <= now) {
            if part.is_empty() {
                self.tell(Event::DumpEnded { complete: true }, now);
            } else {
                self.tell(Event::Dumped(&part), now);
            }
        }
        if self.part.is_none() && self.kernel.is_dumping() && self.session.wants_dump() {
            self.part = Some((now + Span::micros(500), self.kernel.read_dump()));
        }
    }

    /// Whether nothing is under way inside this machine.
    pub fn is_idle(&self) -> bool {
        let kernel = self.kernel.said.is_empty() && !self.kernel.overrun && !self.kernel.is_dumping();
        kernel && self.applied.is_empty() && self.part.is_none() && self.out.is_empty()
    }
}
