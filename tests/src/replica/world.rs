//! Two machines, the link between them, and the truth.

use super::kernel::{Kernel, tcp_state};
use super::node::Machine;
use crate::sim::rng::Rng;
use carp_common::time::{Instant, Span};
use carp_user::proto::flow::{Flow, Key, Tuple};
use carp_user::proto::sync::session::{Event, LinkStatus};
use carp_user::proto::sync::table::Stage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long a frame is under way at the least.
const LATENCY: Span = Span::micros(200);
/// How long nodes without a connection take to make one.
const REDIAL: Span = Span::millis(100);

/// Frames with the time at which each arrives.
type Line = VecDeque<(Instant, Vec<u8>)>;

/// All of it.
#[derive(Clone, Debug)]
pub struct World {
    /// The two.
    pub machines: [Machine; 2],
    /// The time.
    pub now: Instant,
    /// Flows that live, whoever knows of them, with their replies.
    pub alive: BTreeMap<Key, Tuple>,
    /// The link carries frames.
    pub up: bool,
    /// Something happened by which a node may have to believe that an ended flow lives, until its timeout.
    pub forgot: bool,
    /// What is known of some flows is not agreed on: roles changed, or a daemon started, while something was under way.
    pub disputed: bool,
    /// Flows that have ended since nothing was under way: if the other node goes on with one, either may be right.
    pub ended: BTreeSet<Key>,
    /// Who has had all of the other's flows since its start.
    pub whole: [bool; 2],
    /// Roles changed while something was under way: who serves now may be a packet behind in what a flow contains.
    pub swapped: bool,
    /// What is under way to each.
    connection: Option<[Line; 2]>,
    redial: Instant,
    epoch: u64,
    rng: Rng,
}

/// What must hold and does not.
pub type Breach = String;

impl World {
    /// Two machines that start; the first one serves.
    pub fn new(rng: Rng) -> Self {
        let now = Instant::ZERO + Span::secs(1000);
        let machine = |name, epoch| Machine::start(name, epoch, Kernel::new(200), now);
        let mut machines = [machine("a", 1), machine("b", 2)];
        machines[0].serve(true, now);
        Self {
            machines,
            now,
            alive: BTreeMap::new(),
            up: true,
            forgot: false,
            swapped: false,
            disputed: false,
            ended: BTreeSet::new(),
            whole: [false; 2],
            connection: None,
            redial: now + REDIAL,
            epoch: 3,
            rng,
        }
    }

    /// Time passes; everybody does what is due.
    pub fn pass(&mut self, span: Span) -> Result<(), Breach> {
        self.now = self.now + span;
        self.dial();
        self.deliver();
        for machine in &mut self.machines {
            let heard = self.rng.index(30);
            machine.work(heard, self.now);
        }
        let hang_up = self.machines.each_mut().map(|machine| std::mem::take(&mut machine.hangs_up));
        if hang_up.contains(&true) {
            self.cut();
        }
        self.dispatch();
        self.check()
    }

    /// Time passes in small steps.
    pub fn pass_slowly(&mut self, span: Span, step: Span) -> Result<(), Breach> {
        let end = self.now + span;
        while self.now < end {
            self.pass(step)?;
        }
        Ok(())
    }

    fn dial(&mut self) {
        if self.connection.is_none() && self.up && self.redial <= self.now {
            self.connection = Some([Line::new(), Line::new()]);
            for machine in &mut self.machines {
                machine.out.clear();
                machine.tell(Event::Connected, self.now);
            }
        }
    }

    /// The connection breaks. What is under way is lost, but for a part of it that has just arrived.
    pub fn cut(&mut self) {
        let Some(lines) = self.connection.take() else { return };
        self.redial = self.now + REDIAL;
        for (to, line) in lines.into_iter().enumerate() {
            let arrived = self.rng.index(line.len() + 1);
            for (_, frame) in line.into_iter().take(arrived) {
                self.machines[to].receive(&frame, self.now);
            }
            self.machines[to].tell(Event::Disconnected, self.now);
            self.machines[to].out.clear();
        }
    }

    fn deliver(&mut self) {
        for to in 0..2 {
            while let Some((_, frame)) =
                self.connection.as_mut().and_then(|lines| lines[to].pop_front_if(|(at, _)| *at <= self.now))
            {
                self.machines[to].receive(&frame, self.now);
            }
        }
    }

    /// What is to be sent goes on its way.
    fn dispatch(&mut self) {
        for from in 0..2 {
            let frames = std::mem::take(&mut self.machines[from].out);
            let Some(lines) = &mut self.connection else { continue };
            let line = &mut lines[1 - from];
            // As TCP does: later, and never before what was sent earlier.
            let late = if self.rng.chance(20) { Span::millis(self.rng.below(250)) } else { Span::ZERO };
            let soonest = self.now + LATENCY + late;
            let at = line.back().map_or(soonest, |(last, _)| soonest.max(*last));
            line.extend(frames.into_iter().map(|frame| (at, frame)));
        }
    }

    /// On a node that serves alone no flow is removed that lives, and TCP does not go back.
    fn check(&mut self) -> Result<(), Breach> {
        if self.is_settled() {
            self.agree();
        }
        for machine in &mut self.machines {
            if self.disputed || !machine.serving {
                machine.removed.clear();
                machine.went_back.clear();
                continue;
            }
            let name = machine.session.name().to_owned();
            if let Some(flow) = machine.removed.drain(..).find(|flow| lives(&self.alive, flow)) {
                return Err(format!("{name} is told to remove {flow:?}, which lives"));
            }
            if let Some((before, flow)) = machine.went_back.drain(..).next() {
                return Err(format!(
                    "{name} is told to set TCP from {before} back to {}: {flow:?}",
                    tcp_state(&flow)
                ));
            }
        }
        Ok(())
    }

    /// All has been told. Of two flows with one key, which there can be when roles change before all was told, the master's
    /// is the one.
    fn agree(&mut self) {
        self.whole = [true; 2];
        let master = self.machines.iter().find(|machine| machine.serving);
        if let (true, Some(master)) = (std::mem::take(&mut self.disputed), master) {
            let has = |key: &Key| master.kernel.flows.contains_key(key);
            self.alive.retain(|key, _| has(key) || !self.ended.contains(key));
            for (key, reply) in &mut self.alive {
                *reply = master.kernel.flows.get(key).map_or(*reply, |(flow, _)| flow.reply);
            }
        }
        self.ended.clear();
    }

    /// Whether nothing is under way, anywhere.
    pub fn is_settled(&self) -> bool {
        let idle = self.connection.as_ref().is_some_and(|lines| lines.iter().all(VecDeque::is_empty));
        let settled = |machine: &Machine| {
            let table = machine.session.table();
            table.stage() == Stage::InStep && table.waiting() + table.in_flight() == 0 && machine.is_idle()
        };
        let both = self.machines.iter().all(|machine| machine.serving);
        idle && !both && self.machines.iter().all(settled)
    }

    /// The roles change from here on; what the new master has is what lives.
    pub fn dispute(&mut self) {
        if !self.is_settled() {
            (self.disputed, self.forgot, self.swapped) = (true, true, true);
            let Some(master) = self.machines.iter().find(|machine| machine.serving) else { return };
            let has = |key: &Key, reply: &Tuple| {
                master.kernel.flows.get(key).is_some_and(|(flow, _)| flow.reply == *reply)
            };
            self.alive.retain(|key, reply| has(key, reply));
        }
    }

    /// A machine dies with its kernel's table, and is started anew. What the other one was known to have
    /// must be there.
    pub fn crash(&mut self, dead: usize) -> Result<(), Breach> {
        let survivor = &self.machines[1 - dead];
        let died = &self.machines[dead];
        let confirmed = died.kernel.flows.iter().filter(|(key, (flow, _))| {
            // What has ended, or is another's, may be known to have ended there.
            died.serving
                && self.whole[1 - dead]
                && !self.disputed
                && lives(&self.alive, flow)
                && died.session.table().holding(key).is_some_and(|holding| holding.confirmed && holding.local)
        });
        for (key, (flow, _)) in confirmed {
            match survivor.kernel.flows.get(key) {
                None => return Err(format!("{key:?} was confirmed and is not on the survivor")),
                // What the kernel has not said yet, or what was lost and no dump has shown, cannot have been told.
                Some((found, _))
                    if !self.swapped
                        && died.kernel.said.is_empty()
                        && !died.kernel.overrun
                        && !died.kernel.is_dumping()
                        && found != flow =>
                {
                    return Err(format!("was confirmed: {flow:?}; is on the survivor: {found:?}"));
                }
                Some(_) => {}
            }
        }
        self.cut();
        self.epoch += 1;
        let name = self.machines[dead].session.name().to_owned();
        let served = self.machines[dead].serving;
        self.machines[dead] = Machine::start(&name, self.epoch, Kernel::new(200), self.now);
        self.forgot = true;
        self.whole[dead] = false;
        if served {
            self.swapped = true;
            self.machines[1 - dead].serve(true, self.now);
        }
        let left = &self.machines[1 - dead].kernel.flows;
        self.alive.retain(|key, reply| left.get(key).is_some_and(|(flow, _)| flow.reply == *reply));
        Ok(())
    }

    /// A daemon starts anew; its kernel keeps its table.
    pub fn restart(&mut self, which: usize) {
        self.cut();
        self.epoch += 1;
        let serving = self.machines[which].serving;
        self.machines[which].restart(self.epoch, self.now);
        // What its kernel had said and it had not heard, nobody will.
        (self.forgot, self.disputed, self.swapped) = (true, true, true);
        self.machines[which].serve(serving, self.now);
    }

    /// After quiet: both kernels have all that lives, the same, and both nodes say so.
    pub fn settled(&self) -> Result<(), Breach> {
        let [a, b] = &self.machines;
        for machine in &self.machines {
            let name = machine.session.name();
            let status = machine.session.status(self.now);
            if !matches!(status.link, LinkStatus::Connected { in_step: true, .. }) {
                return Err(format!("{name} is not in step: {status:?}"));
            }
            if status.differing != Some(0) || status.bulk.is_some() || status.count.waiting > 0 {
                return Err(format!("{name} is not done: {status:?}"));
            }
            let (known, held) = (status.count.local + status.count.replicated, machine.kernel.flows.len());
            if known != held {
                return Err(format!("{name} knows {known} flows and has {held}"));
            }
            if let Some(reason) = &machine.demoted {
                return Err(format!("{name} is still demoted: {reason}"));
            }
            let has = |(key, reply): &(&Key, &Tuple)| {
                machine.kernel.flows.get(key).is_some_and(|(flow, _)| flow.reply == **reply)
            };
            if let Some(alive) = self.alive.iter().find(|alive| !has(alive)) {
                let about = |at: usize| {
                    let (machine, key) = (&self.machines[at], alive.0);
                    (machine.serving, machine.kernel.flows.get(key), machine.session.table().holding(key))
                };
                return Err(format!(
                    "{name} does not have {alive:?}, which lives: {:?} {:?}",
                    about(0),
                    about(1)
                ));
            }
            if let Some(key) =
                machine.kernel.flows.keys().find(|key| machine.session.table().holding(key).is_none())
            {
                return Err(format!("{name} does not know {key:?} of its own kernel"));
            }
            let mut flows = machine.kernel.flows.values().map(|(flow, _)| flow);
            if let (false, Some(flow)) = (self.forgot, flows.find(|flow| !lives(&self.alive, flow))) {
                return Err(format!("{name} has {flow:?}, which has ended"));
            }
        }
        for (key, (flow, _)) in &a.kernel.flows {
            match b.kernel.flows.get(key) {
                None => return Err(format!("only a has {flow:?}")),
                Some((other, _)) if !self.swapped && other != flow => {
                    return Err(format!("a has {flow:?}, b {other:?}"));
                }
                Some(_) => {}
            }
        }
        match b.kernel.flows.keys().find(|key| !a.kernel.flows.contains_key(key)) {
            Some(key) => Err(format!("only b has {key:?}")),
            None => Ok(()),
        }
    }
}

fn lives(alive: &BTreeMap<Key, Tuple>, flow: &Flow) -> bool {
    alive.get(&flow.key) == Some(&flow.reply)
}
