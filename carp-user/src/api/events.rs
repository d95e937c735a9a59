//! What happened to a node, and why, as `carpctl events` shows it.

use carp_common::pace::Pace;
use serde::{Deserialize, Serialize};

/// Most events of one answer. Policy for more: whoever asks goes on behind the last one.
pub const EVENTS_AT_ONCE: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 at the daemon's start.
    pub number: u64,
    /// Milliseconds since 1970, by a clock that may jump.
    pub wall_ms: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`, which does not.
    pub monotonic_ns: u64,
    /// The virtual host that it is about, such as `lan0@1`; none: the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The daemon has started.
    Started {
        /// Its version.
        version: String,
    },
    /// The daemon was told to stop.
    Stopping,
    /// A role changed.
    Role {
        /// Before.
        from: String,
        /// After.
        to: String,
        /// Why.
        reason: String,
        /// Base/skew that this node competed with when its role had changed last, demotion included.
        rank_before: String,
        /// The same now.
        rank: String,
        /// The master heard last, if any ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        master: Option<String>,
        /// ... and what it competes with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        master_rank: Option<String>,
    },
    /// The node has taken over, and everything that belongs to that is done.
    TakenOver {
        /// What it did, in this order, and how long each step took.
        steps: Vec<Step>,
        /// Microseconds from the decision to the last step.
        total_us: u64,
    },
    /// The datapath serves from now on.
    Serves,
    /// The datapath is fenced: nothing of the VIPs is answered or let through from now on.
    Fenced,
    /// A demotion came, or changed.
    Demoted {
        /// Its name.
        name: String,
        /// Added to every skew.
        amount: u8,
        /// Why.
        reason: String,
        /// Of all demotions.
        sum: i32,
    },
    /// A demotion is lifted.
    Lifted {
        /// Its name.
        name: String,
        /// Why it was in force.
        reason: String,
        /// Of those that are left.
        sum: i32,
    },
    /// Another node is heard for the first time, or again.
    PeerHeard {
        /// Its address.
        address: String,
    },
    /// Another node is not heard any more.
    PeerLost {
        /// Its address.
        address: String,
    },
    /// Another node is a master, too, while this one serves.
    TwoMasters {
        /// In words.
        text: String,
    },
    /// Something to look at.
    Warning {
        /// In words.
        text: String,
    },
    /// Something worth knowing.
    News {
        /// In words.
        text: String,
    },
    /// Another configuration is used.
    Configured {
        /// What it came by.
        origin: String,
        /// What it changed, a line each.
        changes: Vec<String>,
    },
    /// A configuration could not be used; the one before goes on.
    ConfigurationRefused {
        /// What it came by.
        origin: String,
        /// Why.
        message: String,
    },
    /// A configuration was not confirmed in time, and is taken back.
    ConfigurationTakenBack,
    /// The session of replication is another thing now.
    Sync {
        /// `alone`, `greeting`, `bulk`, `in-step`.
        state: String,
    },
    /// Somebody asked for a move, maintenance, or their end.
    Asked {
        /// For what.
        text: String,
    },
    /// What somebody asked for is done, or not.
    Answered {
        /// What came of it.
        text: String,
    },
}

/// A step of a take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `advert`: the others were told; `datapath`: frames are answered and let through; `announce`: switches and
    /// neighbours were told; `addresses`: addresses and routes are in place.
    pub step: String,
    /// Microseconds since the step before, or since the decision.
    pub us: u64,
}

/// As it is written.
pub fn rank(pace: Pace) -> String {
    format!("{}/{}", pace.base, pace.skew)
}
