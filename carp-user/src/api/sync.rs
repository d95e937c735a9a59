//! Replication, in the status.

use crate::proto::sync::message::BUCKETS;
use crate::proto::sync::session::{Cause, LinkStatus, Status, TABLE_FULL};
use crate::replication::State;
use carp_common::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How replication of tracked connections stands; a second old at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// `alone`, `greeting`, `bulk`, `in-step`; or `ended`, and then only `error` says more.
    pub state: String,
    /// Why it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What somebody has to see to: its name, a colon, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
    /// Name of the peer, while there is a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Milliseconds since the session began, or since there is none.
    pub since_ms: u64,
    /// Microseconds that the oldest change has waited to be in the peer's kernel.
    pub lag_us: u64,
    /// Buckets of the two tables that differed when they were compared last ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing: Option<usize>,
    /// ... of so many.
    pub buckets: usize,
    /// Of the peer's whole table, while it comes: flows that have come, and how many there will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<(u64, u64)>,
    /// Flows that this node changed last.
    pub local: usize,
    /// Flows that the peer changed last.
    pub replicated: usize,
    /// Changes that wait to be sent.
    pub waiting: usize,
    /// Flows that both nodes have.
    pub shared: u64,
    /// What was counted since the start: `stale`, `over-limit`, `dropped`, `missed`, `untold`, `renewed`, `refused`, and of
    /// these by what the kernel said `refused-full`, `-taken`, `-helper`, `-master`, `-unfit`, `-other`.
    pub counters: BTreeMap<String, u64>,
}

impl Sync {
    /// Of what replication says of itself.
    pub fn of(state: &State, now: Instant) -> Self {
        match state {
            State::Running(status) => Self::running(status, now),
            State::Ended(error) => {
                Self { state: "ended".to_owned(), error: Some(error.clone()), ..Self::default() }
            }
        }
    }

    fn running(status: &Status, now: Instant) -> Self {
        let (state, peer) = match &status.link {
            LinkStatus::Alone => ("alone", None),
            LinkStatus::Greeting => ("greeting", None),
            LinkStatus::Connected { peer, in_step: false } => ("bulk", Some(peer.clone())),
            LinkStatus::Connected { peer, in_step: true } => ("in-step", Some(peer.clone())),
        };
        let tally = status.tally;
        let counters = [
            ("stale", tally.stale),
            ("over-limit", tally.over_limit),
            ("dropped", tally.dropped),
            ("missed", tally.missed),
            ("untold", tally.untold),
            ("renewed", tally.renewed),
            ("refused", status.refused.values().sum()),
        ];
        let causes = Cause::ALL.map(|cause| (cause.name(), status.refused.get(&cause).copied().unwrap_or(0)));
        Self {
            state: state.to_owned(),
            error: None,
            alarm: status.full.then(|| TABLE_FULL.to_owned()),
            peer,
            since_ms: now.since(status.since).as_millis(),
            lag_us: status.lag.as_micros(),
            differing: status.differing,
            buckets: BUCKETS,
            bulk: status.bulk.map(|bulk| (bulk.got, bulk.of)),
            local: status.count.local,
            replicated: status.count.replicated,
            waiting: status.count.waiting,
            shared: status.count.shared,
            counters: counters
                .into_iter()
                .chain(causes)
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }
}
