//! What the node that is edited is doing, and for what.

use super::{News, Ticket, Use};
use carp_common::time::{Instant, Span};

/// What it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// A request, and how often it was made.
    Asking,
    Staging(Job, u8),
    Trying(Job),
    Committing(Job, u8),
    /// The peer is told to forget this; why is known.
    Aborting,
    /// After a crash: whether the peer uses this ticket.
    Resolving(Ticket),
    /// The journal is written; then this.
    Writing(Then),
    /// It is used here until it is confirmed, and by the peer too if that is a job.
    OnTrial(Option<Job>),
    /// Being used here; then this is told, if somebody waits.
    Using(Option<News>),
}

/// What follows when the journal is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Commit(Job),
    Use(Use, News),
    Tell(News),
    TellPushed(News),
    Rest,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub ticket: Ticket,
    pub errand: Errand,
    /// What it changes on the peer.
    pub changes: Vec<String>,
    /// When the peer was first asked what it is asked now.
    pub since: Instant,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Apply,
    Try(Span),
    /// What was tried is to be kept.
    Confirm,
    Rehearse,
    /// The peer is owed what is used here.
    Deliver,
}
