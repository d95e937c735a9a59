//! A model of the kernel's table of connections: what is in it, and what it says of itself.

use carp_user::proto::flow::{Expectation, Flow, Ids, Key, ProtocolState, Tcp, Tuple};
use carp_user::proto::sync::table::{Instruction, Lifetime, News};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::ops::Bound;

/// Flows that a dump shows at once.
const PART: usize = 7;

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// What is in it, and how long that lives.
    pub flows: BTreeMap<Key, (Flow, Lifetime)>,
    /// Connections that it waits for.
    pub expected: Vec<Expectation>,
    /// What it has said and nobody has heard.
    pub said: VecDeque<Said>,
    /// How much of that there may be.
    pub room: usize,
    /// More was said than there was room for.
    pub overrun: bool,
    /// Instructions for these flows fail.
    pub refuses: Option<fn(&Key) -> bool>,
    dump: Option<Option<Key>>,
}

/// News, to be kept.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    /// A flow is new.
    Began(Flow),
    /// It has changed.
    Changed(Flow),
    /// It is no more.
    Ended(Key),
}

impl Said {
    /// Of which flow.
    pub const fn key(&self) -> Key {
        match self {
            Self::Began(flow) | Self::Changed(flow) => flow.key,
            Self::Ended(key) => *key,
        }
    }

    /// As an event's.
    pub const fn news(&self) -> News<'_> {
        match self {
            Self::Began(flow) => News::Began(flow),
            Self::Changed(flow) => News::Changed(flow),
            Self::Ended(key) => News::Ended(key),
        }
    }
}

/// A TCP flow of this number, translated to this port.
pub fn flow(number: u16, port: u16, state: u8) -> Flow {
    let (inside, outside) = (Ipv4Addr::new(10, 0, 0, 2).into(), Ipv4Addr::new(198, 51, 100, 1).into());
    let server = Ipv4Addr::new(192, 0, 2, 1).into();
    let tuple = |source, destination, ids| Tuple { source, destination, protocol: 6, ids };
    let original = tuple(inside, server, Ids::Ports { source: number, destination: 443 });
    let plain = Flow::untranslated(original).expect("ports are answered");
    Flow {
        reply: tuple(server, outside, Ids::Ports { source: 443, destination: port }),
        status: 0x18e,
        timeout: 300,
        state: ProtocolState::Tcp(Tcp { state, ..Tcp::default() }),
        ..plain
    }
}

/// The state of TCP of such a flow.
pub const fn tcp_state(flow: &Flow) -> u8 {
    match flow.state {
        ProtocolState::Tcp(tcp) => tcp.state,
        ProtocolState::None | ProtocolState::Sctp(_) => 0,
    }
}

impl Kernel {
    /// An empty one, which holds so much that nobody has heard.
    pub fn new(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    fn say(&mut self, said: Said) {
        if self.said.len() < self.room {
            self.said.push_back(said);
        } else {
            self.overrun = true;
        }
    }

    /// A packet makes a flow, or changes it.
    pub fn packet(&mut self, flow: Flow) {
        let before = self.flows.insert(flow.key, (flow, Lifetime::Protocol));
        self.say(if before.is_some() { Said::Changed(flow) } else { Said::Began(flow) });
    }

    /// A flow ends.
    pub fn end(&mut self, key: Key) {
        if self.flows.remove(&key).is_some() {
            self.say(Said::Ended(key));
        }
    }

    /// Whether it did as it was told.
    pub fn follow(&mut self, instruction: &Instruction) -> Result<(), Key> {
        match instruction {
            Instruction::Inject(flow, _) if self.refuses.is_some_and(|refuses| refuses(&flow.key)) => {
                return Err(flow.key);
            }
            // A translation is not changed.
            Instruction::Inject(flow, _)
                if self.flows.get(&flow.key).is_some_and(|(is, _)| is.reply != flow.reply) =>
            {
                return Err(flow.key);
            }
            Instruction::Inject(flow, lifetime) => {
                self.flows.insert(flow.key, (*flow, *lifetime));
            }
            Instruction::Insert(flow, lifetime) => {
                self.flows.entry(flow.key).or_insert((*flow, *lifetime));
            }
            Instruction::Keep(flow, lifetime) => {
                self.flows.entry(flow.key).and_modify(|(_, lives)| *lives = *lifetime);
            }
            Instruction::Remove(key) => {
                self.flows.remove(key);
            }
            Instruction::Expect(expectation) => self.expected.push(*expectation),
            Instruction::Cancel(key) => {
                self.expected.retain(|it| (it.master.zone, it.tuple) != (key.zone, key.original));
            }
        }
        Ok(())
    }

    /// Begins a dump.
    pub fn start_dump(&mut self) {
        self.dump = Some(None);
    }

    /// Whether one runs.
    pub const fn is_dumping(&self) -> bool {
        self.dump.is_some()
    }

    /// The next part of the dump; an empty one is its end.
    pub fn read_dump(&mut self) -> Vec<Flow> {
        let from = match self.dump.flatten() {
            Some(key) => Bound::Excluded(key),
            None => Bound::Unbounded,
        };
        let part = self.flows.range((from, Bound::Unbounded)).take(PART);
        let part: Vec<Flow> = part.map(|(_, (flow, _))| *flow).collect();
        self.dump = part.last().map(|last| Some(last.key));
        part
    }
}
