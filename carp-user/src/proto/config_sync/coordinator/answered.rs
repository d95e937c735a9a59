//! What follows from an answer of the peer, or from none.

use super::{
    AGAIN, AWAY, Action, Coordinator, Errand, GRACE, Journal, News, PEER_BUSY, Phase, Request, TRIES, Then,
    Use,
};
use super::{Answer, Job};
use carp_common::time::Instant;

impl Coordinator {
    /// Every answer in every phase that waits for one.
    pub(super) fn answered(&mut self, answer: Option<Answer>, now: Instant) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Asking | Phase::Aborting => {
                // It uses what it should have forgotten.
                if answer == Some(Answer::Committed) && !self.journal.owed {
                    self.phase = Phase::Writing(Then::Rest);
                    return self.write(Journal { owed: true, ..self.journal });
                }
                self.rest(now);
                Vec::new()
            }
            Phase::Staging(job, tries) => self.staged(job, tries, answer, now),
            Phase::Trying(job) => self.tried(job, answer),
            Phase::Committing(job, tries) => self.committed(job, tries, answer, now),
            Phase::Resolving(ticket) => match answer {
                Some(Answer::Committed) => {
                    self.phase = Phase::Using(None);
                    vec![Action::Use(Use::Recover)]
                }
                Some(Answer::Refused(_)) => {
                    self.phase = Phase::Writing(Then::Rest);
                    self.write(Journal { doubt: None, ..self.journal })
                }
                // What became of it is not known any more: the peer gets what is used here.
                Some(Answer::Stale(_)) => {
                    self.phase = Phase::Writing(Then::Rest);
                    self.write(Journal { doubt: None, owed: true })
                }
                Some(Answer::Busy | Answer::Here | Answer::Staged(_) | Answer::Trying) | None => {
                    self.phase = Phase::Resolving(ticket);
                    self.due = now + AGAIN;
                    Vec::new()
                }
            },
            phase @ (Phase::Idle | Phase::Writing(_) | Phase::OnTrial(_) | Phase::Using(_)) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn staged(&mut self, mut job: Job, tries: u8, answer: Option<Answer>, now: Instant) -> Vec<Action> {
        match (answer, job.errand) {
            (Some(Answer::Staged(changes)), errand) => {
                job.changes = changes;
                match errand {
                    Errand::Apply | Errand::Confirm => self.doubt(job),
                    Errand::Deliver => self.commit(job, now),
                    Errand::Try(within) => {
                        let request = Request::Try(job.ticket, within + GRACE);
                        self.phase = Phase::Trying(job);
                        self.call(request)
                    }
                    Errand::Rehearse => {
                        let news = News::Would(std::mem::take(&mut job.changes));
                        std::iter::once(Action::Tell(news)).chain(self.abort(job.ticket)).collect()
                    }
                }
            }
            // The peer knows later tickets: this node has lost count.
            (Some(Answer::Stale(last)), _) if tries < TRIES => {
                self.next = self.next.max(last.next());
                job.ticket = self.next;
                self.next = self.next.next();
                let request = Request::Stage(job.ticket);
                self.phase = Phase::Staging(job, tries + 1);
                self.call(request)
            }
            (Some(Answer::Refused(why)), _) => self.refused(&job, why, now),
            (Some(Answer::Busy) | None, _) if self.makes_again(&job, tries, now) => {
                self.due = now + AGAIN;
                self.phase = Phase::Staging(job, tries + 1);
                Vec::new()
            }
            (None, Errand::Apply | Errand::Confirm) if !self.require_peer => {
                self.owe(AWAY.to_owned(), Use::Keep)
            }
            (None, Errand::Try(_)) if !self.require_peer => {
                self.phase = Phase::OnTrial(None);
                vec![Action::Use(Use::Try)]
            }
            (None, _) => self.refused(&job, AWAY.to_owned(), now),
            (Some(Answer::Busy), _) => self.refused(&job, PEER_BUSY.to_owned(), now),
            (Some(Answer::Committed | Answer::Here | Answer::Trying | Answer::Stale(_)), _) => {
                self.refused(&job, ODD.to_owned(), now)
            }
        }
    }

    fn tried(&mut self, job: Job, answer: Option<Answer>) -> Vec<Action> {
        match answer {
            Some(Answer::Trying) => {
                self.phase = Phase::OnTrial(Some(job));
                vec![Action::Use(Use::Try)]
            }
            Some(Answer::Refused(why)) => {
                std::iter::once(Action::Tell(News::Neither(why))).chain(self.abort(job.ticket)).collect()
            }
            None if !self.require_peer => {
                self.phase = Phase::OnTrial(None);
                vec![Action::Use(Use::Try)]
            }
            None
            | Some(Answer::Here | Answer::Staged(_) | Answer::Committed | Answer::Stale(_) | Answer::Busy) => {
                let why = if self.is_away { AWAY } else { ODD }.to_owned();
                std::iter::once(Action::Tell(News::Neither(why))).chain(self.abort(job.ticket)).collect()
            }
        }
    }

    fn committed(&mut self, job: Job, tries: u8, answer: Option<Answer>, now: Instant) -> Vec<Action> {
        match (answer, job.errand) {
            (Some(Answer::Committed), Errand::Deliver) => {
                self.refusal = None;
                let was_pushing = std::mem::take(&mut self.is_pushing);
                let news = was_pushing.then_some(News::Both(job.changes));
                self.phase = Phase::Writing(news.map_or(Then::Rest, Then::TellPushed));
                self.write(Journal { owed: false, ..self.journal })
            }
            (Some(Answer::Committed), errand) => {
                self.refusal = None;
                self.phase = Phase::Using(Some(News::Both(job.changes)));
                let how = if errand == Errand::Confirm { Use::Confirm } else { Use::Keep };
                vec![Action::Use(how)]
            }
            (Some(Answer::Refused(why)), Errand::Deliver) => self.refused(&job, why, now),
            (Some(Answer::Refused(why)), _) => {
                self.settle(Journal { doubt: None, ..self.journal }, Some(News::Neither(why)))
            }
            (Some(Answer::Stale(_) | Answer::Here | Answer::Staged(_) | Answer::Trying), _) => {
                let news = (job.errand != Errand::Deliver).then(|| News::Neither(ODD.to_owned()));
                self.settle(Journal { doubt: None, owed: true }, news)
            }
            (Some(Answer::Busy) | None, _) if self.makes_again(&job, tries, now) => {
                self.due = now + AGAIN;
                self.phase = Phase::Committing(job, tries + 1);
                Vec::new()
            }
            // It stays owed.
            (Some(Answer::Busy) | None, Errand::Deliver) => self.refused(&job, AWAY.to_owned(), now),
            (Some(Answer::Busy) | None, errand) if !self.require_peer => {
                let how = if errand == Errand::Confirm { Use::Confirm } else { Use::Keep };
                self.owe(AWAY.to_owned(), how)
            }
            (Some(Answer::Busy) | None, _) => {
                self.phase = Phase::Resolving(job.ticket);
                self.due = now + AGAIN;
                vec![Action::Tell(News::Unsure)]
            }
        }
    }

    /// The peer does not have it and will not, by this ticket.
    fn refused(&mut self, job: &Job, why: String, now: Instant) -> Vec<Action> {
        self.rest(now);
        if job.errand != Errand::Deliver {
            return vec![Action::Tell(News::Neither(why))];
        }
        let was_pushing = std::mem::take(&mut self.is_pushing);
        let news = was_pushing.then(|| Action::TellPushed(News::Owed(why.clone())));
        // Being away is told otherwise, and ends by itself.
        self.refusal = Some(why).filter(|_| !self.is_away);
        news.into_iter().collect()
    }
}

const ODD: &str = "the peer answered what makes no sense: is it of another version?";
