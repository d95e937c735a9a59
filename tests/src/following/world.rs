//! The two nodes, the network between them, and the oracle.

use super::machine::{Editor, Follower, Revision};
use crate::sim::rng::Rng;
use carp_common::time::{Instant, Span};
use carp_user::proto::config_sync::coordinator::{self, Coordinator, News, Wish};
use carp_user::proto::config_sync::participant::{self, Participant};
use carp_user::proto::config_sync::{Answer, Request, Ticket};
use std::collections::{BTreeMap, BTreeSet};

/// How long the one that is edited waits for an answer, and for a connection.
const PATIENCE: Span = Span::secs(5);
const CONNECT: Span = Span::secs(2);
/// A step of a node takes so long: writing, checking, using.
const STEP: Span = Span::millis(20);

/// A rule that was broken.
pub type Breach = String;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It does not.
    Lost,
    /// Twice: at once, and after this time.
    Twice(Span),
    /// After this time.
    Late(Span),
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The one that is edited.
    Editor,
    /// The one that follows.
    Follower,
}

/// What goes wrong, by number of the message or of the step.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Of messages, both ways counted together.
    pub fates: BTreeMap<u64, Fate>,
    /// After a step of that node.
    pub kills: BTreeMap<u64, Who>,
    /// Chance by which other messages have a fate, in a thousand.
    pub rough: u64,
}

/// What is going to happen.
#[derive(Clone, Debug)]
enum Step {
    Request {
        call: u64,
        request: Request,
        content: Revision,
        of: u32,
    },
    Answer {
        call: u64,
        answer: Answer,
        of: u32,
    },
    Timeout {
        call: u64,
        of: u32,
        /// There is no connection.
        is_unreached: bool,
    },
    Editor {
        action: coordinator::Action,
        of: u32,
    },
    Follower {
        action: participant::Action,
        of: u32,
    },
    /// The second half of a use: the file.
    EditorFile {
        revision: Revision,
        of: u32,
    },
    FollowerFile {
        revision: Revision,
        of: u32,
    },
    TrialEnds {
        who: Who,
        of: u32,
        revision: Revision,
    },
    Boot(Who),
}

/// Everything.
pub struct World {
    /// Now.
    pub now: Instant,
    /// The one that is edited.
    pub editor: Editor,
    /// The one that follows.
    pub follower: Follower,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether messages arrive at all.
    pub up: bool,
    /// Configurations that the follower's machine does not admit, and those that only using shows to be wrong.
    pub inadmissible: BTreeSet<Revision>,
    /// Those that cannot be used: there, here.
    pub unusable: [BTreeSet<Revision>; 2],
    /// What was told, by configuration.
    pub told: BTreeMap<Revision, News>,
    /// Messages and steps so far.
    pub messages: u64,
    /// Of both nodes.
    pub steps: u64,
    queue: BTreeMap<(Instant, u64), Step>,
    count: u64,
    rng: Rng,
    /// The request that the follower works on, and the one that came last.
    asked: Option<(u64, u32)>,
    last_asked: (u64, u32),
    /// What came with it.
    incoming: Revision,
    highest_committed: Ticket,
    require_peer: bool,
    breach: Option<Breach>,
    /// Whether writes are lost in a crash: the oracle has to see that.
    pub forgets: bool,
}

impl World {
    /// Both with the same configuration, up.
    pub fn new(require_peer: bool, seed: u64) -> Self {
        let mut world = Self {
            now: Instant::from_nanos(1),
            editor: Editor::new(1),
            follower: Follower::new(1),
            faults: Faults::default(),
            up: true,
            inadmissible: BTreeSet::new(),
            unusable: [BTreeSet::new(), BTreeSet::new()],
            told: BTreeMap::new(),
            messages: 0,
            steps: 0,
            queue: BTreeMap::new(),
            count: 0,
            rng: Rng::new(seed),
            asked: None,
            last_asked: (0, 0),
            incoming: 0,
            highest_committed: Ticket::default(),
            require_peer,
            breach: None,
            forgets: false,
        };
        world.boot(Who::Editor);
        world.boot(Who::Follower);
        world
    }

    /// Somebody wants this at the one that is edited.
    pub fn want(&mut self, revision: Revision, wish: Wish) {
        // As the daemon does: one at a time.
        if self.editor.pure.is_none() || self.editor.wanted.is_some() || self.editor.trial {
            return;
        }
        self.editor.wanted = Some(revision);
        self.tell_editor(coordinator::Event::Wanted(wish));
    }

    /// Somebody confirms what is on trial.
    pub fn confirm(&mut self) {
        if self.editor.trial && self.editor.wanted.is_none() {
            self.editor.wanted = Some(self.editor.running);
            self.tell_editor(coordinator::Event::Confirmed);
        }
    }

    /// Somebody wants it pushed.
    pub fn push(&mut self) {
        self.tell_editor(coordinator::Event::Push);
    }

    /// A crash now; it is up again after a time.
    pub fn kill(&mut self, who: Who, down: Span) {
        match who {
            Who::Editor => self.editor.crash(),
            Who::Follower => {
                self.follower.crash();
                self.asked = None;
                if self.forgets {
                    self.follower.disk.book = participant::Ledger::default();
                }
            }
        }
        self.after(down, Step::Boot(who));
    }

    /// Time passes.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn pass(&mut self, span: Span) -> Result<(), Breach> {
        let end = self.now + span;
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let ticks = [
                self.editor.pure.as_ref().map(Coordinator::deadline),
                self.follower.pure.as_ref().and_then(Participant::deadline),
            ];
            let tick = ticks.into_iter().flatten().min();
            let Some(at) = next.into_iter().chain(tick).min().filter(|at| *at <= end) else { break };
            let is_step = next == Some(at);
            self.now = self.now.max(at);
            if is_step {
                let Some((_, step)) = self.queue.pop_first() else { break };
                self.take(step);
            } else {
                self.tell_editor(coordinator::Event::Tick);
                self.tell_follower(participant::Event::Tick);
            }
            if let Some(breach) = self.breach.take() {
                return Err(breach);
            }
        }
        self.now = end;
        Ok(())
    }

    /// After a long quiet time both are on one configuration, and on one that nobody was told is refused.
    ///
    /// # Errors
    /// When they are not.
    pub fn settled(&self) -> Result<(), Breach> {
        let (editor, follower) = (&self.editor, &self.follower);
        if editor.running != editor.disk.file || follower.running != follower.disk.file {
            return Err(format!("one runs what is not in its file: {editor:?} {follower:?}"));
        }
        let here = editor.disk.file;
        if let Some(News::Neither(why)) = self.told.get(&here) {
            return Err(format!("{here} is used and was refused: {why}"));
        }
        let Some(pure) = &editor.pure else { return Err("it is down".to_owned()) };
        if pure.journal().doubt.is_some() {
            return Err(format!("still in doubt: {:?}", pure.journal()));
        }
        if here == follower.disk.file {
            return Ok(());
        }
        // It was used while the other was away, and the other has a reason that is shown.
        let is_bad = self.inadmissible.contains(&here) || self.unusable[1].contains(&here);
        if is_bad && pure.refusal().is_some() && pure.journal().owed {
            return Ok(());
        }
        Err(format!(
            "{here} here and {} there, told {:?}: {editor:?} {follower:?}",
            follower.disk.file, self.told
        ))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Request { call, request, content, of } => self.request((call, of), request, content),
            Step::Answer { call, answer, of } if of == self.editor.start => {
                self.tell_editor(coordinator::Event::Answered(call, answer));
            }
            Step::Timeout { call, of, is_unreached } if of == self.editor.start => {
                let event =
                    if is_unreached { coordinator::Event::Unreached } else { coordinator::Event::Unanswered };
                self.tell_editor(event(call));
            }
            Step::Editor { action, of } if of == self.editor.start && self.editor.pure.is_some() => {
                self.editor_does(action);
                self.stepped();
            }
            Step::Follower { action, of } if of == self.follower.start && self.follower.pure.is_some() => {
                self.follower_does(action);
                self.stepped();
            }
            Step::EditorFile { revision, of } if of == self.editor.start && self.editor.pure.is_some() => {
                self.editor.disk.file = revision;
                self.stepped();
                self.tell_editor(coordinator::Event::Used(Ok(())));
            }
            Step::FollowerFile { revision, of }
                if of == self.follower.start && self.follower.pure.is_some() =>
            {
                self.follower.disk.file = revision;
                self.stepped();
                self.tell_follower(participant::Event::Used(Ok(())));
            }
            Step::TrialEnds { who, of, revision } => self.trial_ends(who, of, revision),
            Step::Boot(who) => self.boot(who),
            // Of a start that is over.
            Step::Answer { .. }
            | Step::Timeout { .. }
            | Step::Editor { .. }
            | Step::Follower { .. }
            | Step::EditorFile { .. }
            | Step::FollowerFile { .. } => {}
        }
    }

    /// One more step was done: perhaps the last of this node.
    fn stepped(&mut self) {
        self.steps += 1;
        if let Some(who) = self.faults.kills.remove(&self.steps) {
            self.kill(who, Span::secs(2));
        }
    }

    fn boot(&mut self, who: Who) {
        let now = self.now;
        match who {
            Who::Editor if self.editor.pure.is_none() => {
                self.editor.boot();
                let disk = &self.editor.disk;
                let is_in_file = disk.beside == Some(disk.file);
                let (pure, actions) =
                    Coordinator::start(self.require_peer, disk.book, is_in_file, self.editor.start, now);
                self.editor.pure = Some(pure);
                self.do_editor(actions);
            }
            Who::Follower if self.follower.pure.is_none() => {
                self.follower.boot();
                let disk = &self.follower.disk;
                let is_in_file = disk.beside == Some(disk.file);
                let (pure, actions) = Participant::start(disk.book, is_in_file, now);
                self.follower.pure = Some(pure);
                self.do_follower(actions);
            }
            Who::Editor | Who::Follower => {}
        }
    }

    fn request(&mut self, from: (u64, u32), request: Request, content: Revision) {
        let Some(pure) = &self.follower.pure else { return };
        self.last_asked = from;
        let actions = pure.clone().handle(participant::Event::Asked(request), self.now);
        let is_turned_away = actions.contains(&participant::Action::TurnAway);
        if !is_turned_away {
            self.asked = Some(from);
            self.incoming = content;
        }
        self.tell_follower(participant::Event::Asked(request));
    }

    fn tell_editor(&mut self, event: coordinator::Event) {
        let now = self.now;
        let actions = self.editor.pure.as_mut().map(|pure| pure.handle(event, now));
        self.do_editor(actions.unwrap_or_default());
    }

    fn tell_follower(&mut self, event: participant::Event) {
        let now = self.now;
        let actions = self.follower.pure.as_mut().map(|pure| pure.handle(event, now));
        self.do_follower(actions.unwrap_or_default());
    }

    fn do_editor(&mut self, actions: Vec<coordinator::Action>) {
        let of = self.editor.start;
        for action in actions {
            self.after(STEP, Step::Editor { action, of });
        }
    }

    fn do_follower(&mut self, actions: Vec<participant::Action>) {
        let of = self.follower.start;
        for action in actions {
            match action {
                // At once: the next request has another answer.
                participant::Action::Answer(_) | participant::Action::TurnAway => self.follower_does(action),
                participant::Action::Check(_)
                | participant::Action::Write(_)
                | participant::Action::Use(..)
                | participant::Action::GoBack => self.after(STEP, Step::Follower { action, of }),
            }
        }
    }

    fn after(&mut self, span: Span, step: Step) {
        self.count += 1;
        self.queue.insert((self.now + span, self.count), step);
    }
}

mod deeds;
