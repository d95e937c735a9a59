//! The node that follows: one request at a time, and nothing is answered before it is written down.

use super::{Answer, Decision, Request, Ticket};
use carp_common::time::{Instant, Span};

/// What was staged and is not asked for again within this time is forgotten: the other node would come back with it
/// under another ticket.
pub const FORGET: Span = Span::secs(600);

/// What outlives a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The highest ticket that is over, and how it ended.
    pub decided: Option<(Ticket, Decision)>,
    /// The one whose configuration is on the disk beside this.
    pub staged: Option<Ticket>,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request, which is answered once.
    Asked(Request),
    /// To `Check`: what using it would change, or why it cannot be used.
    Checked(Result<Vec<String>, String>),
    /// To `Write`.
    Written,
    /// To `Use`: it is used (and in the file), or everything is as it was.
    Used(Result<(), String>),
    /// Time has passed.
    Tick,
}

/// What it wants done; for each but `Answer` it is told the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer the request that is being worked on.
    Answer(Answer),
    /// Answer the one that came last: another is being worked on.
    TurnAway,
    /// Look whether the configuration that came with this ticket can be used here.
    Check(Ticket),
    /// Put this on the disk, with the configuration that was checked last if it is the one staged.
    Write(Ledger),
    /// Use what is staged: for so long at most, or from now on and put it into the file.
    Use(Ticket, Option<Span>),
    /// What is used for the time being, if it still is, shall not be used any more.
    GoBack,
}

/// The node that follows.
#[derive(Clone, Debug)]
pub struct Participant {
    ledger: Ledger,
    task: Task,
    /// The ticket that is used for the time being.
    trying: Option<Ticket>,
    /// When what is staged was last asked for.
    staged_at: Instant,
}

/// What it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Nothing,
    Checking(Ticket),
    /// Then it says this.
    Writing(Option<Answer>),
    Trying(Ticket),
    Committing(Ticket),
}

impl Participant {
    /// After a start, with what is on the disk. `is_in_file`: the configuration that is staged is the one in the file, so
    /// the crash came between the two steps of a commit. The actions come first.
    pub fn start(ledger: Ledger, is_in_file: bool, now: Instant) -> (Self, Vec<Action>) {
        let mut node = Self { ledger, task: Task::Nothing, trying: None, staged_at: now };
        let actions = match ledger.staged {
            Some(ticket) if is_in_file => node.decide(ticket, Decision::Committed, None),
            Some(_) | None => Vec::new(),
        };
        (node, actions)
    }

    /// The one door.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let task = self.task.clone();
        match (event, task) {
            (Event::Asked(Request::Ask), Task::Nothing) => vec![Action::Answer(Answer::Here)],
            (Event::Asked(request), Task::Nothing) => self.asked(request, now),
            (
                Event::Asked(_),
                Task::Checking(_) | Task::Writing(_) | Task::Trying(_) | Task::Committing(_),
            ) => vec![Action::TurnAway],
            (Event::Checked(outcome), Task::Checking(ticket)) => self.checked(ticket, outcome),
            (Event::Written, Task::Writing(answer)) => {
                self.task = Task::Nothing;
                answer.map(Action::Answer).into_iter().collect()
            }
            (Event::Used(outcome), Task::Trying(ticket)) => {
                self.task = Task::Nothing;
                vec![Action::Answer(match outcome {
                    Ok(()) => {
                        self.trying = Some(ticket);
                        Answer::Trying
                    }
                    Err(why) => Answer::Refused(why),
                })]
            }
            (Event::Used(Ok(())), Task::Committing(ticket)) => {
                self.decide(ticket, Decision::Committed, Some(Answer::Committed))
            }
            (Event::Used(Err(why)), Task::Committing(ticket)) => {
                self.decide(ticket, Decision::Aborted, Some(Answer::Refused(why)))
            }
            (Event::Tick, Task::Nothing) => self.forget(now),
            // Time goes on while something is done, and an outcome that nobody waits for is none.
            (Event::Tick, Task::Checking(_) | Task::Writing(_) | Task::Trying(_) | Task::Committing(_))
            | (Event::Checked(_), Task::Nothing | Task::Writing(_) | Task::Trying(_) | Task::Committing(_))
            | (Event::Written, Task::Nothing | Task::Checking(_) | Task::Trying(_) | Task::Committing(_))
            | (Event::Used(_), Task::Nothing | Task::Checking(_) | Task::Writing(_)) => Vec::new(),
        }
    }

    /// When it wants to be told of time.
    pub fn deadline(&self) -> Option<Instant> {
        self.ledger.staged.map(|_| self.staged_at + FORGET)
    }

    /// What is on its disk.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn asked(&mut self, request: Request, now: Instant) -> Vec<Action> {
        match request {
            Request::Ask => vec![Action::Answer(Answer::Here)],
            Request::Stage(ticket) => self.stage(ticket, now),
            Request::Try(ticket, within) => match self.verdict(ticket) {
                Some(answer) => vec![Action::Answer(answer)],
                None if self.ledger.staged == Some(ticket) => {
                    self.staged_at = now;
                    self.task = Task::Trying(ticket);
                    vec![Action::Use(ticket, Some(within))]
                }
                None => vec![Action::Answer(Answer::Refused(NOT_STAGED.to_owned()))],
            },
            Request::Commit(ticket) => match self.verdict(ticket) {
                Some(answer) => vec![Action::Answer(answer)],
                None if self.ledger.staged == Some(ticket) => {
                    self.task = Task::Committing(ticket);
                    vec![Action::Use(ticket, None)]
                }
                // Decided, so that its stage, should that come yet, is none.
                None => {
                    let answer = Answer::Refused(NOT_STAGED.to_owned());
                    self.decide(ticket, Decision::Aborted, Some(answer))
                }
            },
            Request::Abort(ticket) => match self.verdict(ticket) {
                Some(answer) => vec![Action::Answer(answer)],
                None => {
                    let answer = Answer::Refused(TAKEN_BACK.to_owned());
                    let back = (self.trying.take() == Some(ticket)).then_some(Action::GoBack);
                    back.into_iter().chain(self.decide(ticket, Decision::Aborted, Some(answer))).collect()
                }
            },
        }
    }

    fn stage(&mut self, ticket: Ticket, now: Instant) -> Vec<Action> {
        match (self.verdict(ticket), self.ledger.staged) {
            (Some(answer), _) => vec![Action::Answer(answer)],
            (None, Some(staged)) if staged > ticket => vec![Action::Answer(Answer::Stale(staged))],
            (None, _) => {
                self.staged_at = now;
                self.task = Task::Checking(ticket);
                let back = self.trying.take().map(|_| Action::GoBack);
                back.into_iter().chain([Action::Check(ticket)]).collect()
            }
        }
    }

    fn checked(&mut self, ticket: Ticket, outcome: Result<Vec<String>, String>) -> Vec<Action> {
        match outcome {
            Ok(changes) => {
                self.ledger.staged = Some(ticket);
                self.write(Some(Answer::Staged(changes)))
            }
            Err(why) => {
                self.task = Task::Nothing;
                vec![Action::Answer(Answer::Refused(why))]
            }
        }
    }

    /// What is said of a ticket that is over; nothing of one that is not.
    fn verdict(&self, ticket: Ticket) -> Option<Answer> {
        let (decided, decision) = self.ledger.decided?;
        if ticket < decided {
            return Some(Answer::Stale(decided));
        }
        (ticket == decided).then(|| match decision {
            Decision::Committed => Answer::Committed,
            Decision::Aborted => Answer::Refused(TAKEN_BACK.to_owned()),
        })
    }

    /// This ticket is over, and so are those before it.
    fn decide(&mut self, ticket: Ticket, decision: Decision, answer: Option<Answer>) -> Vec<Action> {
        self.ledger.decided = Some((ticket, decision));
        self.ledger.staged = self.ledger.staged.filter(|staged| *staged > ticket);
        self.trying = self.trying.filter(|trying| *trying > ticket);
        self.write(answer)
    }

    fn write(&mut self, answer: Option<Answer>) -> Vec<Action> {
        self.task = Task::Writing(answer);
        vec![Action::Write(self.ledger)]
    }

    fn forget(&mut self, now: Instant) -> Vec<Action> {
        match self.ledger.staged {
            Some(ticket) if now.since(self.staged_at) >= FORGET => {
                self.trying = None;
                self.decide(ticket, Decision::Aborted, None)
            }
            Some(_) | None => Vec::new(),
        }
    }
}

const NOT_STAGED: &str = "it was not staged here";
const TAKEN_BACK: &str = "it was taken back";
