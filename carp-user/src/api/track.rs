//! Tracks, as the control socket tells of them.

use crate::proto::track::{Finding, Outcome};
use carp_common::time::Instant;
use serde::{Deserialize, Serialize};

/// What is looked at again and again, and demotes the node while it fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Its name; the demotion is called `track NAME`.
    pub name: String,
    /// What it looks at.
    pub what: String,
    /// Added to every skew while it fails.
    pub demote: u8,
    /// It fails.
    pub failing: bool,
    /// Milliseconds since it does, or does not.
    pub since_ms: u64,
    /// Whether the last attempt was good; left out before the first has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<bool>,
    /// What it came to.
    pub last: String,
    /// Attempts in a row that were otherwise than `failing` says ...
    pub turning: u8,
    /// ... and how many of them turn it.
    pub turns_after: u8,
}

impl Track {
    /// As it stands now.
    pub fn of(finding: &Finding, now: Instant) -> Self {
        let (last_good, last) = match &finding.last {
            None => (None, "no outcome yet".to_owned()),
            Some(Outcome::Good(text)) => (Some(true), text.clone()),
            Some(Outcome::Bad(text)) => (Some(false), text.clone()),
        };
        let (turning, turns_after) = finding.turning;
        Self {
            name: finding.name.clone(),
            what: finding.what.clone(),
            demote: finding.amount,
            failing: finding.failing.is_some(),
            since_ms: now.since(finding.since).as_millis(),
            last_good,
            last,
            turning,
            turns_after,
        }
    }
}
