//! What a session tells of itself.

use super::{Cause, Link, Session};
use crate::proto::flow::Key;
use crate::proto::sync::table::{Count, Holding, Stage, Tally};
use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The connection.
    pub link: LinkStatus,
    /// Since when it is as it is.
    pub since: Instant,
    /// How long the oldest change has waited to be in the peer's kernel.
    pub lag: Span,
    /// How many of 4096 buckets differed when they were compared last; `None` while that is not known.
    pub differing: Option<usize>,
    /// The peer's table, while it comes.
    pub bulk: Option<Progress>,
    /// This node's table is being told.
    pub telling: bool,
    /// How many flows there are.
    pub count: Count,
    /// What was counted.
    pub tally: Tally,
    /// Flows of the peer that this node's kernel refused, and why.
    pub refused: BTreeMap<Cause, u64>,
    /// There is no room for flows of the peer.
    pub full: bool,
}

/// How it stands with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is known of it; `None` when it is not known.
    pub holding: Option<Holding>,
    /// It is in a bucket that differed when the tables were compared last.
    pub differs: bool,
}

/// How it stands with the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// There is no connection.
    Alone,
    /// The peer has not said who it is.
    Greeting,
    /// There is one, with a node of this name.
    Connected {
        /// Its name.
        peer: String,
        /// Both have each other's table.
        in_step: bool,
    },
}

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionStage {
    /// There is no connection.
    #[default]
    Alone,
    /// The peer has not said who it is.
    Greeting,
    /// The two tables are being told.
    Bulk,
    /// Both have each other's table.
    InStep,
}

impl SessionStage {
    /// As the status has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Greeting => "greeting",
            Self::Bulk => "bulk",
            Self::InStep => "in-step",
        }
    }
}

/// How far the peer's table has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Flows that have come.
    pub got: u64,
    /// Of how many, as far as the peer knew when it began.
    pub of: u64,
}

impl LinkStatus {
    /// Name of the peer, while there is a session.
    pub fn peer(&self) -> Option<&str> {
        match self {
            Self::Alone | Self::Greeting => None,
            Self::Connected { peer, .. } => Some(peer),
        }
    }
}

impl Session {
    /// Whether the peer has all that had changed here by this moment.
    pub fn has_told(&self, by: Instant) -> bool {
        self.table.oldest_waiting().is_none_or(|since| since > by)
    }

    /// How it stands with a flow.
    pub fn standing(&self, key: &Key) -> Standing {
        let differs = match &self.link {
            Link::Up(up) => up.equality.is_differing(self.table.bucket(key)),
            Link::Down | Link::Greeting { .. } => false,
        };
        Standing { holding: self.table.holding(key), differs }
    }

    /// How far it is.
    pub fn stage(&self) -> SessionStage {
        match &self.link {
            Link::Down => SessionStage::Alone,
            Link::Greeting { .. } => SessionStage::Greeting,
            Link::Up(_) if self.table.stage() == Stage::InStep => SessionStage::InStep,
            Link::Up(_) => SessionStage::Bulk,
        }
    }

    /// For people.
    pub fn status(&self, now: Instant) -> Status {
        let up = match &self.link {
            Link::Up(up) => Some(up),
            Link::Down | Link::Greeting { .. } => None,
        };
        let link = match &self.link {
            Link::Down => LinkStatus::Alone,
            Link::Greeting { .. } => LinkStatus::Greeting,
            Link::Up(up) => {
                LinkStatus::Connected { peer: up.peer.clone(), in_step: self.table.stage() == Stage::InStep }
            }
        };
        let progress = up.filter(|up| !up.into.is_done()).map(|up| up.into.progress());
        Status {
            link,
            since: self.since,
            lag: self.table.lag(now),
            differing: up.and_then(|up| up.equality.differing()),
            bulk: progress.map(|(got, of)| Progress { got, of }),
            telling: up.is_some_and(|up| !up.out.is_done()),
            count: self.table.count(),
            tally: self.table.tally(),
            refused: self.refusals.counts(),
            full: self.refusals.is_full(),
        }
    }
}
