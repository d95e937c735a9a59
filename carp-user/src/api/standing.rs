//! Where a virtual host stands, in the status: what it waits for, who could take over, what holds it back.

use crate::proto::gate::Bar;
use crate::proto::restraint::Held as Restrained;
use crate::proto::standing;
use carp_common::time::Instant;
use serde::{Deserialize, Serialize};

/// Where a virtual host stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it is configured to take over from a worse master.
    pub preempt: bool,
    /// As a master: the node that takes over without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<Heir>,
    /// As a backup: the master that it is the heir of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir_of: Option<String>,
    /// Its datapath takes over by itself when the master is silent.
    pub armed: bool,
    /// What keeps it from taking over from a worse master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// How it stands with its gate, where it is or was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// The master is heard by others of its group, and not by this one: a degraded path.
    #[serde(default)]
    pub silent_path: bool,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// A node that can be handed the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// Its address.
    pub address: String,
    /// Milliseconds since it was heard.
    pub age_ms: u64,
}

/// What holds a backup back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Held {
    /// It handed over, as `carpctl failover` asked.
    Failover {
        /// Milliseconds ago.
        since_ms: u64,
    },
    /// It has come back, and `preempt_delay` is not over.
    PreemptDelay {
        /// Milliseconds left.
        left_ms: u64,
    },
}

/// Who is asked before a take-over (`[[hook]] when = "gate"`), and has not let it pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Gate {
    /// It has yet to answer.
    Asked {
        /// Milliseconds ago.
        since_ms: u64,
    },
    /// It refused.
    Vetoed {
        /// Why.
        why: String,
        /// Milliseconds until it may be asked again.
        left_ms: u64,
    },
}

/// What a virtual host waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// In words, beginning with "for".
    pub what: String,
    /// Milliseconds at most; 0 when that is not known.
    pub left_ms: u64,
}

impl Standing {
    /// Of what the node knows.
    pub fn of(standing: &standing::Standing, now: Instant) -> Self {
        Self {
            preempt: standing.preempt,
            heir: standing
                .heir
                .map(|(address, age)| Heir { address: address.to_string(), age_ms: age.as_millis() }),
            heir_of: standing.heir_of.map(|(master, _)| master.to_string()),
            armed: standing.armed,
            held: standing.held.map(|held| match held {
                Restrained::Ceded(at) => Held::Failover { since_ms: now.since(at).as_millis() },
                Restrained::Waits(left) => Held::PreemptDelay { left_ms: left.as_millis() },
            }),
            gate: Gate::of(&standing.gate, now),
            silent_path: standing.silent_path,
            waits: standing
                .waits
                .map(|(wait, left)| Waits { what: wait.text().to_owned(), left_ms: left.as_millis() }),
        }
    }
}

impl Gate {
    fn of(bar: &Bar, now: Instant) -> Option<Self> {
        match bar {
            Bar::Open | Bar::Shut => None,
            Bar::Asked(at) => Some(Self::Asked { since_ms: now.since(*at).as_millis() }),
            Bar::Vetoed(why, until) => {
                Some(Self::Vetoed { why: why.clone(), left_ms: until.since(now).as_millis() })
            }
        }
    }
}
