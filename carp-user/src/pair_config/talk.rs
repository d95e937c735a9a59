//! What the two nodes say, as JSON in a string of XML-RPC (`carp.config.follow`).

use crate::proto::config_sync::{Answer, Request, Ticket};
use carp_common::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A request of the node that is edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Ask {
    /// How it stands, in these sections.
    Stand {
        /// Their names.
        sections: Vec<String>,
        /// How the one that asks stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        here: Option<Box<Standing>>,
    },
    /// Check this and keep it.
    Stage {
        /// Number of the attempt.
        ticket: u64,
        /// The configuration.
        parcel: Box<Parcel>,
    },
    /// Use it for a time.
    Try {
        /// Number of the attempt.
        ticket: u64,
        /// For so many seconds.
        seconds: u32,
    },
    /// Use it from now on.
    Commit {
        /// Number of the attempt.
        ticket: u64,
    },
    /// Forget it.
    Abort {
        /// Number of the attempt.
        ticket: u64,
    },
}

/// A configuration on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The sections, as they were written.
    pub text: String,
    /// Their names and versions.
    pub sections: BTreeMap<String, u16>,
    /// Of their canonical form.
    pub hash: String,
    /// Skews there are higher by this.
    pub skew_add: u8,
    /// The node that it comes from.
    pub node: String,
    /// What it was applied by there.
    pub origin: String,
}

/// How it stands with one of the two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub node: String,
    /// Of what it has: that of the node that is edited while it has just that.
    pub hash: String,
    /// Number of its newest revision.
    pub revision: u32,
    /// What that came by.
    pub origin: String,
    /// It was changed there since it was pushed.
    pub changed: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Told {
    /// To `Stand`.
    Stands(Standing),
    /// See [`Answer::Staged`].
    Staged {
        /// A line each.
        changes: Vec<String>,
    },
    /// See [`Answer::Trying`].
    Trying,
    /// See [`Answer::Committed`].
    Committed,
    /// See [`Answer::Refused`].
    Refused {
        /// In words.
        why: String,
    },
    /// See [`Answer::Stale`].
    Stale {
        /// The later one.
        ticket: u64,
    },
    /// See [`Answer::Busy`].
    Busy,
}

impl Ask {
    /// What the state machine is asked, but for `Stand`.
    pub fn request(&self) -> Request {
        match self {
            Self::Stand { .. } => Request::Ask,
            Self::Stage { ticket, .. } => Request::Stage(Ticket(*ticket)),
            Self::Try { ticket, seconds } => Request::Try(Ticket(*ticket), Span::secs((*seconds).into())),
            Self::Commit { ticket } => Request::Commit(Ticket(*ticket)),
            Self::Abort { ticket } => Request::Abort(Ticket(*ticket)),
        }
    }
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Here => Self::Stands(Standing::default()),
            Answer::Staged(changes) => Self::Staged { changes },
            Answer::Trying => Self::Trying,
            Answer::Committed => Self::Committed,
            Answer::Refused(why) => Self::Refused { why },
            Answer::Stale(Ticket(ticket)) => Self::Stale { ticket },
            Answer::Busy => Self::Busy,
        }
    }
}

impl From<Told> for Answer {
    fn from(told: Told) -> Self {
        match told {
            Told::Stands(_) => Self::Here,
            Told::Staged { changes } => Self::Staged(changes),
            Told::Trying => Self::Trying,
            Told::Committed => Self::Committed,
            Told::Refused { why } => Self::Refused(why),
            Told::Stale { ticket } => Self::Stale(Ticket(ticket)),
            Told::Busy => Self::Busy,
        }
    }
}
