//! What people want, in every phase.

use super::{AWAY, Action, BUSY, Coordinator, Errand, IN_DOUBT, Job, Journal, News, Phase, Then, Use, Wish};
use carp_common::time::Instant;

impl Coordinator {
    pub(super) fn wanted(&mut self, wish: Wish, now: Instant) -> Vec<Action> {
        let errand = match wish {
            Wish::Apply => Errand::Apply,
            Wish::Try(within) => Errand::Try(within),
            Wish::Rehearse => Errand::Rehearse,
        };
        match &self.phase {
            // What the peer is just told, or was before a crash, does not matter any more: this comes later.
            Phase::Idle | Phase::Asking | Phase::Aborting => self.stage(errand, now),
            Phase::Resolving(_) if !self.require_peer => self.stage(errand, now),
            Phase::Staging(Job { errand: Errand::Deliver, .. }, _)
            | Phase::Committing(Job { errand: Errand::Deliver, .. }, _) => {
                let pushed = std::mem::take(&mut self.is_pushing);
                let pushed = pushed.then(|| Action::TellPushed(News::Neither(BUSY.to_owned())));
                pushed.into_iter().chain(self.stage(errand, now)).collect()
            }
            Phase::Resolving(_) => vec![Action::Tell(News::Neither(IN_DOUBT.to_owned()))],
            Phase::Staging(..)
            | Phase::Trying(_)
            | Phase::Committing(..)
            | Phase::Writing(_)
            | Phase::OnTrial(_)
            | Phase::Using(_) => vec![Action::Tell(News::Neither(BUSY.to_owned()))],
        }
    }

    pub(super) fn confirmed(&mut self) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::OnTrial(Some(job)) => self.doubt(Job { errand: Errand::Confirm, ..job }),
            Phase::OnTrial(None) => self.owe(AWAY.to_owned(), Use::Confirm),
            phase @ (Phase::Idle
            | Phase::Asking
            | Phase::Staging(..)
            | Phase::Trying(_)
            | Phase::Committing(..)
            | Phase::Aborting
            | Phase::Resolving(_)
            | Phase::Writing(_)
            | Phase::Using(_)) => {
                self.phase = phase;
                vec![Action::Tell(News::Neither(BUSY.to_owned()))]
            }
        }
    }

    pub(super) fn taken_back(&mut self, now: Instant) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::OnTrial(Some(job)) => self.abort(job.ticket),
            Phase::OnTrial(None) => {
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
            | Phase::Writing(_)
            | Phase::Using(_)) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    pub(super) fn push(&mut self, now: Instant) -> Vec<Action> {
        self.is_pushing = true;
        self.offer_at = now;
        match &self.phase {
            Phase::Idle | Phase::Asking | Phase::Aborting => {
                // Whoever asks for it wants to know now.
                self.is_away = false;
                self.phase = Phase::Writing(Then::Rest);
                self.write(Journal { owed: true, ..self.journal })
            }
            Phase::Staging(Job { errand: Errand::Deliver, .. }, _)
            | Phase::Committing(Job { errand: Errand::Deliver, .. }, _) => Vec::new(),
            Phase::Staging(..)
            | Phase::Trying(_)
            | Phase::Committing(..)
            | Phase::Resolving(_)
            | Phase::Writing(_)
            | Phase::OnTrial(_)
            | Phase::Using(_) => {
                self.is_pushing = false;
                vec![Action::TellPushed(News::Neither(BUSY.to_owned()))]
            }
        }
    }
}
