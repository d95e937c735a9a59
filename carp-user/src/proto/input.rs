//! What an election is told, and what follows.

use super::detect::Sign;
use super::election::Terms;
use super::event::{Family, Reason, Role};
use super::tenure::LATENCY;
use carp_common::pace::Pace;
use carp_common::time::Instant;

/// What an election is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The link is up and has the addresses to advertise from.
    Up(Reason),
    /// It has not, or the node leaves.
    Down(Reason),
    /// An authenticated advertisement of another node.
    Heard {
        /// Family that it came in.
        family: Family,
        /// When the kernel got it.
        at: Instant,
        /// What its sender competes with.
        pace: Pace,
        /// Byte 4, its sender's demotion in OpenBSD's sense.
        demote: u8,
        /// Who leads when both are equal.
        tie: Tie,
        /// A backup may preempt this sender now.
        may_preempt: bool,
    },
    /// The claim that was announced against a worse master has settled.
    Preempt,
    /// The old master gave the role to this node.
    HandedOver {
        /// When the kernel got that message.
        at: Instant,
    },
    /// The gate lets pass what was wanted for this reason.
    Granted {
        /// Why it was wanted.
        reason: Reason,
        /// What made it has just happened.
        is_news: bool,
    },
    /// The daemon before this one was master, and its lease still runs.
    Resume,
    /// This node gives the role to another one, as somebody asked.
    Yield,
    /// This node's lease is over, so others may have taken over.
    LeaseLapsed,
    /// Somebody asked for a role.
    Force {
        /// MASTER, or else BACKUP.
        master: bool,
    },
    /// The others of its group take over, or give way.
    Group {
        /// MASTER, or else BACKUP.
        master: bool,
        /// What made them has just happened.
        is_news: bool,
    },
    /// The master does not answer any more, in time or at all.
    Vanished(Sign),
    /// The sum of all demotions, from now on.
    Demotion(i32),
    /// The configuration, from now on.
    Terms(Terms),
    /// Time has passed.
    Tick,
}

/// Outcome of an equal rank between two masters. A backup never preempts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// This node leads.
    Ours,
    /// The other one leads.
    Theirs,
}

/// What follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The role changed, for this reason.
    pub change: Option<(Role, Reason)>,
    /// Advertise now.
    pub advertise: bool,
    /// This master heard another one that has to give way.
    pub contested: bool,
    /// A backup would have taken over, for this reason, but for its gate.
    pub wished: Option<Reason>,
}

impl Input {
    /// Whether what it tells of has just happened. Of what waited longer to be read, others may have made something already.
    pub fn is_news(self, now: Instant) -> bool {
        match self {
            Self::Heard { at, .. } | Self::HandedOver { at } => now.since(at) <= LATENCY,
            Self::Group { is_news, .. } | Self::Granted { is_news, .. } => is_news,
            Self::Up(_)
            | Self::Down(_)
            | Self::Preempt
            | Self::Resume
            | Self::Yield
            | Self::LeaseLapsed
            | Self::Force { .. }
            | Self::Vanished(_)
            | Self::Demotion(_)
            | Self::Terms(_)
            | Self::Tick => true,
        }
    }
}
