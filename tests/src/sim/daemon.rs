//! How a daemon goes about its work: it takes what its node answers and carries it out step by step,
//! unless it is starved in between.

use super::machine::{Daemon, Freeze, News, Todo};
use super::mutant::Mutant;
use super::oracle::{Answer, Rule, slot};
use super::scenario::{GROUP, Manners};
use super::story::What;
use super::world::{Happening, World};
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Changes, Event};
use carp_user::proto::keyring;
use std::collections::VecDeque;

/// Actions that wait to be carried out; more means that a node never comes to rest.
const MOST_TODO: usize = 10_000;

impl World {
    /// Has the node handle an event, and carries out what it wants. Nothing when no daemon runs.
    pub(super) fn feed(&mut self, node: usize, event: Event<'_>) {
        let todo = self.ask(node, event).into_iter().map(Todo::Act).collect();
        self.perform(node, todo);
    }

    /// Carries out a list; what a send leads to comes after what was wanted before.
    pub(super) fn perform(&mut self, node: usize, mut todo: VecDeque<Todo>) {
        while let Some(next) = todo.pop_front() {
            if let Some((in_send, span)) = self.freezes(node) {
                let local = self.local(node);
                todo.push_front(if in_send { begun(next, local) } else { next });
                self.tell(What::Frozen(node, span));
                return self.pause(node, span, todo);
            }
            todo.extend(self.act(node, next).into_iter().map(Todo::Act));
            if todo.len() > MOST_TODO {
                let text = format!("n{node} wants ever more done");
                return self.oracle.fail(self.now, Rule::Confused, text);
            }
        }
        if self.machines[node].running().is_some() {
            if std::mem::take(&mut self.machines[node].stopping) {
                self.retire(node);
            }
            self.arm(node);
        }
    }

    /// The daemon gets no CPU for so long.
    pub(super) fn pause(&mut self, node: usize, span: Span, todo: VecDeque<Todo>) {
        self.skip_beats(node);
        let machine = &mut self.machines[node];
        machine.pause(todo);
        machine.pause += 1;
        let number = machine.pause;
        self.plan(self.now + span, Happening::Resume { node, number });
    }

    /// The daemon runs again: it finishes what it was at, looks at everything that came in
    /// meanwhile, in order, and only then at the time (invariant 10).
    pub(super) fn resume(&mut self, node: usize) {
        let Some(todo) = self.machines[node].wake() else { return };
        self.tell(What::Resumed(node));
        let lost = self.beats_again(node);
        self.perform(node, todo);
        let tells_first = lost && self.rng.chance(500);
        if tells_first {
            self.lose_pulse(node);
        }
        self.drain(node);
        if lost && !tells_first {
            self.lose_pulse(node);
        }
    }

    /// Fetches what the kernel has kept, then looks at the time.
    pub(super) fn drain(&mut self, node: usize) {
        if self.rng.chance(500) {
            self.drain_news(node);
        }
        while self.machines[node].running().is_some()
            && let Some(arrival) = self.machines[node].kernel.queue.pop_front()
        {
            self.hear(node, &arrival);
        }
        self.drain_news(node);
        self.feed(node, Event::Tick);
    }

    /// Brings the daemon news, or keeps them until it has CPU.
    pub(super) fn notify(&mut self, node: usize, news: News) {
        match &self.machines[node].daemon {
            Daemon::Absent => {}
            Daemon::Running(_) => self.learn(node, news),
            Daemon::Paused(..) => self.machines[node].kernel.inbox.push_back(news),
        }
    }

    /// One answer of the node, judged.
    pub(super) fn ask(&mut self, node: usize, event: Event<'_>) -> Vec<Action> {
        let local = self.local(node);
        let mutant = self.mutant;
        let Some(running) = self.machines[node].running() else { return Vec::new() };
        let mut actions = running.handle(event, local);
        if let Some(mutant) = mutant {
            mutant.meddle(&mut actions, local);
        }
        self.judge(node, local, &actions);
        actions
    }

    fn drain_news(&mut self, node: usize) {
        while self.machines[node].running().is_some()
            && let Some(news) = self.machines[node].kernel.inbox.pop_front()
        {
            self.learn(node, news);
        }
    }

    fn learn(&mut self, node: usize, news: News) {
        match news {
            News::Link(link, state) => self.feed(node, Event::Link { link, state }),
            News::Command(command) => self.feed(node, Event::Command(command)),
            News::Reload(generation) => self.reload(node, generation),
            News::Sign(sign, at) => self.feed(node, Event::Sign { group: GROUP, sign, at }),
            News::Stop => {
                self.machines[node].stopping = true;
                self.feed(node, Event::Stop);
            }
        }
    }

    fn reload(&mut self, node: usize, generation: u8) {
        let wanted = self.scenario.setup((node, generation), 0, 0).hosts;
        let local = self.local(node);
        let machine = &mut self.machines[node];
        let Some(running) = machine.running() else { return };
        let changes = Changes::between(running.setups(), wanted, local).expect("there is room");
        if changes.changed.iter().any(|(_, host)| keyring::is_too_much(host)) {
            // carpctl says so, and whoever asked for it tries again.
            return self.news_after(node, Span::secs(1), News::Reload(generation));
        }
        machine.generation = generation;
        self.feed(node, Event::Configure(changes));
    }

    fn judge(&mut self, node: usize, local: Instant, actions: &[Action]) {
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Changed(transition) => self.tell(What::Role(node, *transition)),
                Action::Warn { host: _, warning } => self.tell(What::Warning(node, *warning)),
                Action::Window { .. }
                | Action::Advertise { .. }
                | Action::Send { .. }
                | Action::Announce { .. }
                | Action::Challenge { .. }
                | Action::Watch { .. }
                | Action::Tell { .. }
                | Action::Ask(_)
                | Action::Demoted(_)
                | Action::Peer { .. }
                | Action::Serving { .. } => {}
            }
        }
        let owned: Vec<_> = actions.iter().map(|action| (action.clone(), self.subject(action))).collect();
        let windows = &self.machines[node].kernel.windows;
        self.oracle.judge(&Answer { node, now: self.now, local, windows, actions: &owned });
    }

    /// The virtual host whose advertisement an action sends.
    fn subject(&self, action: &Action) -> Option<usize> {
        match action {
            Action::Advertise { host, .. } => Some(slot(*host)),
            Action::Send { link: on, frame } => {
                let Some(Ok(heard)) = Heard::parse(frame.bytes()) else { return None };
                self.host_of(*on, heard.advert.vhid)
            }
            Action::Window { .. }
            | Action::Announce { .. }
            | Action::Challenge { .. }
            | Action::Watch { .. }
            | Action::Changed(_)
            | Action::Tell { .. }
            | Action::Ask(_)
            | Action::Demoted(_)
            | Action::Peer { .. }
            | Action::Serving { .. }
            | Action::Warn { .. } => None,
        }
    }

    /// Whether the daemon freezes now, in the middle of a send or not, and for how long.
    fn freezes(&mut self, node: usize) -> Option<(bool, Span)> {
        let freeze = self.machines[node].freeze.take()?;
        match freeze.after {
            0 => Some((freeze.in_send, freeze.span)),
            after => {
                self.machines[node].freeze = Some(Freeze { after: after - 1, ..freeze });
                None
            }
        }
    }

    /// Does one thing; what the node wants done after it.
    fn act(&mut self, node: usize, todo: Todo) -> Vec<Action> {
        let local = self.local(node);
        match begun(todo, local) {
            Todo::Transmit { host, link, errand, frame, at } => {
                let ok = self.transmit(node, link, frame) || self.mutant == Some(Mutant::Boastful);
                self.ask(node, Event::Sent { host, errand, at, ok })
            }
            Todo::Act(Action::Window { host, window: after }) => {
                if let Some(before) = self.machines[node].kernel.write(slot(host), after, local) {
                    self.tell(What::Window { node, host: slot(host), before, after, local });
                }
                Vec::new()
            }
            Todo::Act(Action::Send { link, frame } | Action::Announce { link, frame, .. }) => {
                if !self.transmit(node, link, frame) {
                    self.lose(node, link, frame);
                }
                Vec::new()
            }
            Todo::Act(Action::Challenge { host, challenge }) => {
                self.machines[node].kernel.challenge(slot(host), challenge);
                Vec::new()
            }
            Todo::Act(Action::Watch { watched, .. }) => {
                self.watch_master(node, watched);
                Vec::new()
            }
            Todo::Act(
                Action::Advertise { .. }
                | Action::Changed(_)
                | Action::Tell { .. }
                | Action::Ask(_)
                | Action::Demoted(_)
                | Action::Peer { .. }
                | Action::Serving { .. }
                | Action::Warn { .. },
            ) => Vec::new(),
        }
    }

    /// The daemon has left in order: nothing of it may still serve.
    fn retire(&mut self, node: usize) {
        let local = self.local(node);
        let machine = &mut self.machines[node];
        if machine.kernel.windows.iter().any(|window| window.is_leased(local)) {
            let text = format!("n{node} has stopped and left a window open");
            self.oracle.fail(self.now, Rule::LateFence, text);
        }
        machine.kill();
        machine.kernel.queue.clear();
        self.oracle.reborn(node);
    }

    /// Sees to it that the node's deadline is met, or a little later.
    fn arm(&mut self, node: usize) {
        let late = self.lateness();
        let machine = &mut self.machines[node];
        let deadline = machine.running().and_then(|node| node.deadline());
        if deadline != machine.deadline {
            machine.deadline = deadline;
            machine.tick += 1;
            if let Some(deadline) = deadline {
                let (number, at) = (machine.tick, machine.clock.when(deadline).max(self.now) + late);
                self.plan(at, Happening::Tick { node, number });
            }
        }
    }

    pub(super) fn lateness(&mut self) -> Span {
        match self.manners {
            Manners::Exact => Span::ZERO,
            Manners::Sloppy if self.rng.chance(10) => self.rng.span(Span::ZERO, Span::millis(100)),
            Manners::Prompt | Manners::Sloppy => self.rng.span(Span::micros(1), Span::millis(2)),
        }
    }
}

/// An advertisement whose clock has been read; anything else as it is.
fn begun(todo: Todo, at: Instant) -> Todo {
    match todo {
        Todo::Act(Action::Advertise { host, link, errand, frame }) => {
            Todo::Transmit { host, link, errand, frame, at }
        }
        other @ (Todo::Act(_) | Todo::Transmit { .. }) => other,
    }
}
