//! What the two nodes' machines do, and what the network does to what is said.

use super::{CONNECT, Fate, PATIENCE, STEP, Step, Who, World};
use crate::following::machine::Revision;
use carp_common::time::Span;
use carp_user::proto::config_sync::coordinator::{self, News, Use};
use carp_user::proto::config_sync::{Answer, participant};
use std::collections::BTreeSet;

/// How long something is tried, where it was not said.
const TRIAL: Span = Span::secs(20);

impl World {
    pub(super) fn editor_does(&mut self, action: coordinator::Action) {
        let of = self.editor.start;
        match action {
            coordinator::Action::Call(call, request) => {
                let content = self.editor.wanted.unwrap_or(self.editor.disk.file);
                let is_unreached = !self.up;
                let patience = if is_unreached { CONNECT } else { PATIENCE };
                self.after(patience, Step::Timeout { call, of, is_unreached });
                self.send(Step::Request { call, request, content, of });
            }
            coordinator::Action::Write(journal) => {
                self.editor.disk.book = journal;
                if journal.doubt.is_some() && self.editor.wanted.is_some() {
                    self.editor.disk.beside = self.editor.wanted;
                }
                self.tell_editor(coordinator::Event::Written);
            }
            coordinator::Action::Use(how) => self.use_here(how),
            coordinator::Action::Tell(news) => self.told(news),
            coordinator::Action::TellPushed(_) => {}
        }
    }

    fn use_here(&mut self, how: Use) {
        let of = self.editor.start;
        let wanted = match how {
            Use::Recover => self.editor.disk.beside,
            Use::Keep | Use::Try | Use::Confirm => self.editor.wanted,
        };
        let Some(revision) = wanted else {
            self.breach = Some(format!("{how:?} of nothing"));
            return;
        };
        if let Err(why) = usable(&self.unusable[0], revision) {
            self.tell_editor(coordinator::Event::Used(Err(why)));
            return;
        }
        self.editor.running = revision;
        self.editor.trial = how == Use::Try;
        if keeps(how) {
            self.after(STEP, Step::EditorFile { revision, of });
        } else {
            self.after(TRIAL, Step::TrialEnds { who: Who::Editor, of, revision });
            self.tell_editor(coordinator::Event::Used(Ok(())));
        }
    }

    fn told(&mut self, news: News) {
        let Some(revision) = self.editor.wanted.take() else { return };
        let (here, there) = (self.editor.running, self.follower.disk.file);
        let is_true = match &news {
            // What is on trial there a crash may have ended since.
            News::Both(_) => here == revision && (there == revision || self.editor.trial),
            News::Owed(_) => here == revision,
            News::Neither(_) | News::Would(_) => here != revision || self.editor.trial,
            News::Unsure => true,
        };
        if !is_true && !self.forgets {
            self.breach = Some(format!("told {news:?} of {revision}, but {here} here and {there} there"));
        }
        if self.editor.trial {
            // Whoever does not confirm it, or is refused then, has it taken back.
            if let News::Neither(_) | News::Unsure = news {
                self.editor.go_back();
                self.told.insert(revision, news);
                self.tell_editor(coordinator::Event::TakenBack);
            }
        } else {
            self.told.insert(revision, news);
        }
    }

    pub(super) fn follower_does(&mut self, action: participant::Action) {
        match action {
            participant::Action::Answer(answer) => {
                if let Some((call, of)) = self.asked.take() {
                    self.send(Step::Answer { call, answer, of });
                }
            }
            participant::Action::TurnAway => {
                let (call, of) = self.last_asked;
                self.send(Step::Answer { call, answer: Answer::Busy, of });
            }
            participant::Action::Check(_) => {
                let outcome = usable(&self.inadmissible, self.incoming).map(|()| Vec::new());
                self.follower.wanted = outcome.is_ok().then_some(self.incoming);
                self.tell_follower(participant::Event::Checked(outcome));
            }
            participant::Action::Write(ledger) => {
                self.follower.disk.book = ledger;
                if ledger.staged.is_some() && self.follower.wanted.is_some() {
                    self.follower.disk.beside = self.follower.wanted.take();
                }
                self.tell_follower(participant::Event::Written);
            }
            participant::Action::Use(ticket, within) => {
                if ticket < self.highest_committed {
                    self.breach = Some(format!("{ticket:?} is used after {:?}", self.highest_committed));
                }
                self.use_there(within.map(|within| (ticket, within)));
                if within.is_none() {
                    self.highest_committed = ticket;
                }
            }
            participant::Action::GoBack => self.follower.go_back(),
        }
    }

    fn use_there(&mut self, trial: Option<(carp_user::proto::config_sync::Ticket, Span)>) {
        let of = self.follower.start;
        let Some(revision) = self.follower.disk.beside else {
            self.breach = Some("nothing is staged and is to be used".to_owned());
            return;
        };
        if let Err(why) = usable(&self.unusable[1], revision) {
            self.follower.go_back();
            self.tell_follower(participant::Event::Used(Err(why)));
            return;
        }
        self.follower.running = revision;
        self.follower.trial = trial.is_some();
        match trial {
            Some((_, within)) => {
                self.after(within, Step::TrialEnds { who: Who::Follower, of, revision });
                self.tell_follower(participant::Event::Used(Ok(())));
            }
            None => self.after(STEP, Step::FollowerFile { revision, of }),
        }
    }

    pub(super) fn trial_ends(&mut self, who: Who, of: u32, revision: Revision) {
        match who {
            Who::Editor
                if self.editor.trial && self.editor.start == of && self.editor.running == revision =>
            {
                // While it is being confirmed it goes on.
                if self.editor.wanted.is_some() {
                    self.after(Span::secs(1), Step::TrialEnds { who, of, revision });
                    return;
                }
                self.editor.go_back();
                self.told.insert(revision, News::Neither("not confirmed".to_owned()));
                self.tell_editor(coordinator::Event::TakenBack);
            }
            Who::Follower
                if self.follower.trial && self.follower.start == of && self.follower.running == revision =>
            {
                self.follower.go_back();
            }
            Who::Editor | Who::Follower => {}
        }
    }

    /// Over the network.
    fn send(&mut self, message: Step) {
        self.messages += 1;
        let chance = if self.rng.chance(self.faults.rough) {
            let span = self.rng.span(Span::ZERO, Span::secs(30));
            match self.rng.below(3) {
                0 => Fate::Lost,
                1 => Fate::Twice(span),
                _ => Fate::Late(span),
            }
        } else {
            Fate::Arrives
        };
        let fate = self.faults.fates.get(&self.messages).copied().unwrap_or(chance);
        let fate = if self.up { fate } else { Fate::Lost };
        match fate {
            Fate::Arrives => self.after(STEP, message),
            Fate::Lost => {}
            Fate::Twice(later) => {
                self.after(STEP, message.clone());
                self.after(later, message);
            }
            Fate::Late(later) => self.after(later, message),
        }
    }
}

/// A revision must not be one of these when it is used.
fn usable(bad: &BTreeSet<Revision>, revision: Revision) -> Result<(), String> {
    if bad.contains(&revision) { Err(format!("{revision} cannot be used here")) } else { Ok(()) }
}

const fn keeps(how: Use) -> bool {
    match how {
        Use::Keep | Use::Confirm | Use::Recover => true,
        Use::Try => false,
    }
}
