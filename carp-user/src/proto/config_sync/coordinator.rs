//! The node that is edited: takes one configuration at a time to its peer, and says when it may be used here.

mod answered;
mod phase;
mod wanted;

use super::{Answer, Request, Ticket};
use carp_common::time::{Instant, Span};
use phase::{Errand, Job, Phase, Then};

/// How often the peer is asked how it stands: what is different there is known within twice that.
pub const ASK_EVERY: Span = Span::secs(4);
/// A request that is not answered is made so often.
const TRIES: u8 = 4;
/// A peer that cannot even be reached is given up after this time. Long enough for a second call after one whose first packet
/// was lost (TCP sends that again after a second), and short: somebody waits for `carpctl apply`, and what is used here
/// meanwhile is owed.
const SILENCE: Span = Span::secs(3);
/// A peer that is busy, or does not say how an attempt has ended, is asked again after this time.
const AGAIN: Span = Span::millis(700);
/// A peer that has refused what it is owed is offered it again after this time: somebody may have put right what was
/// wrong there.
const OFFER_AGAIN: Span = Span::secs(60);
/// The peer keeps a configuration that is to be confirmed for so much longer than this node does.
const GRACE: Span = Span::secs(10);

/// What outlives a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The peer was told, or is just told, to use the configuration of this ticket, which is on the disk beside this.
    pub doubt: Option<Ticket>,
    /// The peer is to have the configuration that is in this node's file.
    pub owed: bool,
}

/// What somebody wants to do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Use a configuration.
    Apply,
    /// Use it until it is confirmed, within this time.
    Try(Span),
    /// Only know what the peer says of it.
    Rehearse,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants a configuration to be used here, which can be.
    Wanted(Wish),
    /// What is used until it is confirmed was confirmed.
    Confirmed,
    /// It is not used any more.
    TakenBack,
    /// The peer shall have what is used here.
    Push,
    /// The peer's answer to the request of this number.
    Answered(u64, Answer),
    /// There is none: the connection broke, or the peer takes too long.
    Unanswered(u64),
    /// There is none, as there is no connection.
    Unreached(u64),
    /// To `Write`.
    Written,
    /// To `Use`: it is used, or everything is as it was.
    Used(Result<(), String>),
    /// Time has passed.
    Tick,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the peer, and tell of the answer or that there is none. What is asked before is not waited for any more. With a
    /// `Stage` goes what is wanted, or where nothing is, what is in the file.
    Call(u64, Request),
    /// Put this on the disk, with the configuration that is wanted if it says that there is a doubt.
    Write(Journal),
    /// Use what is wanted.
    Use(Use),
    /// Who wanted something waits for this.
    Tell(News),
    /// Who wanted a push does.
    TellPushed(News),
}

/// How a configuration is to be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// From now on; it goes into the file.
    Keep,
    /// Until it is confirmed.
    Try,
    /// What is used until it is confirmed, from now on.
    Confirm,
    /// The one on the disk beside the journal.
    Recover,
}

/// What came of what somebody wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Both nodes use it; what it changed on the peer.
    Both(Vec<String>),
    /// This node uses it, and the peer will when it can; why it does not yet.
    Owed(String),
    /// Neither does, and why.
    Neither(String),
    /// Whether the peer uses it is not known: this node goes where the peer is, once that says.
    Unsure,
    /// It would change this on the peer.
    Would(Vec<String>),
}

/// The node that is edited.
#[derive(Clone, Debug)]
pub struct Coordinator {
    /// Whether nothing is changed here without the peer.
    require_peer: bool,
    journal: Journal,
    next: Ticket,
    phase: Phase,
    /// The number of the request made last.
    call: u64,
    /// It was not answered.
    is_away: bool,
    /// There was not even a connection.
    is_unreached: bool,
    /// Why the peer does not take what it is owed.
    refusal: Option<String>,
    due: Instant,
    offer_at: Instant,
    /// Somebody waits to be told of a push.
    is_pushing: bool,
}

impl Coordinator {
    /// After a start of this number, with what is on the disk. `is_in_file`: the configuration that there is a doubt about
    /// is the one in the file, so this node uses it already, as it does only after its peer.
    /// The actions come first.
    pub fn start(
        require_peer: bool,
        journal: Journal,
        is_in_file: bool,
        epoch: u32,
        now: Instant,
    ) -> (Self, Vec<Action>) {
        let mut node = Self {
            require_peer,
            journal,
            next: Ticket::first_of(epoch),
            phase: Phase::Idle,
            call: 0,
            is_away: false,
            is_unreached: false,
            refusal: None,
            due: now,
            offer_at: now,
            is_pushing: false,
        };
        let actions = match journal.doubt {
            // The peer is asked nothing: it gets it once more, which changes nothing there.
            Some(_) if is_in_file => {
                node.phase = Phase::Writing(Then::Rest);
                node.write(Journal { doubt: None, owed: true })
            }
            Some(ticket) => {
                node.phase = Phase::Resolving(ticket);
                Vec::new()
            }
            None => Vec::new(),
        };
        (node, actions)
    }

    /// The one door.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Wanted(wish) => self.wanted(wish, now),
            Event::Confirmed => self.confirmed(),
            Event::TakenBack => self.taken_back(now),
            Event::Push => self.push(now),
            Event::Answered(call, answer) if call == self.call => {
                if std::mem::take(&mut self.is_away) {
                    self.offer_at = now;
                }
                self.answered(Some(answer), now)
            }
            Event::Unanswered(call) if call == self.call => self.unanswered(false, now),
            Event::Unreached(call) if call == self.call => self.unanswered(true, now),
            // To a request that is not waited for any more.
            Event::Answered(..) | Event::Unanswered(_) | Event::Unreached(_) => Vec::new(),
            Event::Written => self.written(now),
            Event::Used(outcome) => self.used(outcome, now),
            Event::Tick if now >= self.due => self.tick(now),
            Event::Tick => Vec::new(),
        }
    }

    /// When it wants to be told of time.
    pub const fn deadline(&self) -> Instant {
        self.due
    }

    /// What is on its disk.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The peer has not answered lately.
    pub const fn is_away(&self) -> bool {
        self.is_away
    }

    /// Why the peer does not take what it is owed.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    fn unanswered(&mut self, is_unreached: bool, now: Instant) -> Vec<Action> {
        (self.is_away, self.is_unreached) = (true, is_unreached);
        self.answered(None, now)
    }

    fn written(&mut self, now: Instant) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Writing(Then::Commit(job)) => self.commit(job, now),
            Phase::Writing(Then::Use(how, news)) => {
                self.phase = Phase::Using(Some(news));
                vec![Action::Use(how)]
            }
            Phase::Writing(Then::Tell(news)) => {
                self.rest_and_ask(now);
                vec![Action::Tell(news)]
            }
            Phase::Writing(Then::TellPushed(news)) => {
                self.rest_and_ask(now);
                vec![Action::TellPushed(news)]
            }
            Phase::Writing(Then::Rest) => {
                self.rest(now);
                Vec::new()
            }
            phase @ (Phase::Idle
            | Phase::Asking
            | Phase::Staging(..)
            | Phase::Trying(_)
            | Phase::Committing(..)
            | Phase::Aborting
            | Phase::Resolving(_)
            | Phase::OnTrial(_)
            | Phase::Using(_)) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn used(&mut self, outcome: Result<(), String>, now: Instant) -> Vec<Action> {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        match (phase, outcome) {
            (Phase::OnTrial(job), Ok(())) => {
                let changes = job.as_ref().map(|job| job.changes.clone());
                self.phase = Phase::OnTrial(job);
                vec![Action::Tell(changes.map_or_else(|| News::Owed(AWAY.to_owned()), News::Both))]
            }
            (Phase::OnTrial(job), Err(why)) => {
                self.rest(now);
                let abort = job.map(|job| self.abort(job.ticket)).unwrap_or_default();
                [Action::Tell(News::Neither(why))].into_iter().chain(abort).collect()
            }
            (Phase::Using(news), Ok(())) => {
                let owed = matches!(news, Some(News::Owed(_)));
                self.settle(Journal { doubt: None, owed }, news)
            }
            // The peer may have it: it gets back what is used here.
            (Phase::Using(news), Err(why)) => {
                self.settle(Journal { doubt: None, owed: true }, news.map(|_| News::Neither(why)))
            }
            (phase, Ok(()) | Err(_)) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Idle if self.journal.owed && !self.is_away && now >= self.offer_at => {
                self.stage(Errand::Deliver, now)
            }
            Phase::Idle => {
                self.phase = Phase::Asking;
                self.call(Request::Ask)
            }
            Phase::Resolving(ticket) => self.call(Request::Abort(*ticket)),
            Phase::Staging(job, _) => self.call(Request::Stage(job.ticket)),
            Phase::Committing(job, _) => self.call(Request::Commit(job.ticket)),
            // It is due no more.
            Phase::Asking
            | Phase::Trying(_)
            | Phase::Aborting
            | Phase::Writing(_)
            | Phase::OnTrial(_)
            | Phase::Using(_) => {
                self.due = Instant::MAX;
                Vec::new()
            }
        }
    }

    fn stage(&mut self, errand: Errand, now: Instant) -> Vec<Action> {
        if errand == Errand::Deliver {
            self.offer_at = now + OFFER_AGAIN;
        }
        let job = Job { ticket: self.next, errand, changes: Vec::new(), since: now };
        self.next = self.next.next();
        let request = Request::Stage(job.ticket);
        // Nobody waits long for a peer that is known to be away.
        self.phase = Phase::Staging(job, if self.is_away { TRIES } else { 1 });
        self.call(request)
    }

    fn commit(&mut self, job: Job, now: Instant) -> Vec<Action> {
        let request = Request::Commit(job.ticket);
        self.phase = Phase::Committing(Job { since: now, ..job }, 1);
        self.call(request)
    }

    /// Whether a request that was made so often and not answered, or answered by `Busy`, is made again.
    fn makes_again(&self, job: &Job, tries: u8, now: Instant) -> bool {
        let is_given_up = self.is_away && self.is_unreached && now.since(job.since) >= SILENCE;
        tries < TRIES && !is_given_up
    }

    fn abort(&mut self, ticket: Ticket) -> Vec<Action> {
        self.phase = Phase::Aborting;
        self.call(Request::Abort(ticket))
    }

    fn call(&mut self, request: Request) -> Vec<Action> {
        self.due = Instant::MAX;
        self.call += 1;
        vec![Action::Call(self.call, request)]
    }

    fn doubt(&mut self, job: Job) -> Vec<Action> {
        // What became of a former doubt will not be known: the peer is owed what is used here, whatever that is.
        let owed = self.journal.owed || self.journal.doubt.is_some();
        let journal = Journal { doubt: Some(job.ticket), owed };
        self.phase = Phase::Writing(Then::Commit(job));
        self.write(journal)
    }

    /// It is used here without the peer, which gets it later.
    fn owe(&mut self, why: String, how: Use) -> Vec<Action> {
        self.phase = Phase::Writing(Then::Use(how, News::Owed(why)));
        self.write(Journal { doubt: None, owed: true })
    }

    fn settle(&mut self, journal: Journal, news: Option<News>) -> Vec<Action> {
        self.phase = Phase::Writing(news.map_or(Then::Rest, Then::Tell));
        self.write(journal)
    }

    fn write(&mut self, journal: Journal) -> Vec<Action> {
        self.due = Instant::MAX;
        self.journal = journal;
        vec![Action::Write(journal)]
    }

    /// Somebody is just told what has come of a change, and looks whether it is so: what is known of the peer is from before it.
    fn rest_and_ask(&mut self, now: Instant) {
        self.rest(now);
        if self.phase == Phase::Idle && !self.is_away {
            self.due = now;
        }
    }

    /// Nothing is to be done until it is time to ask, or to deliver.
    fn rest(&mut self, now: Instant) {
        if let Some(ticket) = self.journal.doubt {
            self.phase = Phase::Resolving(ticket);
            self.due = now + AGAIN;
            return;
        }
        self.phase = Phase::Idle;
        let ask_at = now + ASK_EVERY;
        let is_deliverable = self.journal.owed && !self.is_away;
        self.due = if is_deliverable { ask_at.min(self.offer_at.max(now)) } else { ask_at };
    }
}

const BUSY: &str = "another configuration is on its way to the peer: try again";
const AWAY: &str = "the peer does not answer";
const PEER_BUSY: &str = "the peer is busy with another change: try again";
const IN_DOUBT: &str = "whether the peer uses a former configuration is not known, and it does not answer \
                        (require_peer): try again when it does";
