//! How late the daemon wakes for what it has to do at a certain time, in the status.

use crate::proto::lateness::Lateness;
use serde::{Deserialize, Serialize};

/// Wake-ups since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeUps {
    /// How many there were.
    pub count: u64,
    /// Half of them were not later, microseconds: the end of a bucket.
    pub p50_us: u64,
    /// 99 of a hundred were not later.
    pub p99_us: u64,
    /// The latest.
    pub max_us: u64,
    /// How many were late by less than 1 us, and then by less than 2, 4, 8 us and so on, each without those before it; up to
    /// the last that is not zero.
    pub buckets: Vec<u64>,
}

impl WakeUps {
    /// Of what was counted.
    pub fn of(lateness: &Lateness) -> Self {
        let counts = lateness.counts();
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        Self {
            count: lateness.count(),
            p50_us: lateness.percentile(50).as_micros(),
            p99_us: lateness.percentile(99).as_micros(),
            max_us: lateness.worst().as_micros(),
            buckets: counts.iter().take(used).copied().collect(),
        }
    }
}
