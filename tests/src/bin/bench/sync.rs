//! Replication of tracked connections, beside conntrackd in the same run.

mod ceiling;
mod contest;
mod couple;
mod flows;
mod joining;
mod room;

use crate::report::Row;
use anyhow::Result;

const PART: &str = "sync";

/// How much to do.
pub struct Effort {
    /// Flows of a whole table.
    pub table: u32,
    /// Flows of a burst.
    pub burst: u32,
    /// Single flows whose way is timed, in each run.
    pub single: u32,
    /// Of each measurement.
    pub runs: usize,
}

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let _room = room::Room::make()?;
    let (mut rows, ceiling) = ceiling::measure(effort)?;
    rows.extend(contest::measure(effort, &ceiling)?);
    let (joined, couple) = joining::measure(effort)?;
    rows.extend(joined);
    couple.end()?;
    Ok(rows)
}
