//! Replication of tracked connections, beside conntrackd in the same run.

mod ceiling;
mod contest;
mod couple;
mod flows;
mod joining;
mod moving;
mod room;
mod traffic;

use crate::report::{Row, ratio};
use anyhow::Result;
use carp_common::time::Span;
use clap::ValueEnum;

const FLOWS: &str = "flows";
const TRAFFIC: &str = "traffic";
const TABLE: &str = "table";

/// How much to do.
pub struct Effort {
    /// Flows of a whole table.
    pub table: u32,
    /// Flows of a burst.
    pub burst: u32,
    /// Single flows whose way is timed, in each run.
    pub single: u32,
    /// How long packets of new connections go through the gateway at a time.
    pub traffic: Span,
    /// Moves away from a node and back, planned and not.
    pub moves: usize,
    /// How long the two stay as they are before a move.
    pub rest: Span,
    /// Of each measurement.
    pub runs: usize,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Flows made by ctnetlink, and how fast that is at best
    Flows,
    /// Packets of new connections through the gateway
    Traffic,
    /// A full table: a standby that joins, and moves
    Table,
}

impl Part {
    /// What it is about.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Flows => "Flows: made by ctnetlink in one kernel, until another one has them",
            Self::Traffic => {
                "Traffic: packets of new connections through a gateway that translates their sources"
            }
            Self::Table => "Table: a full one, and a standby that joins and takes over",
        }
    }

    /// Its rows.
    pub fn measure(self, effort: &Effort) -> Result<Vec<Row>> {
        let _room = room::make()?;
        match self {
            Self::Flows => {
                let (mut rows, ceiling) = ceiling::measure(effort)?;
                rows.extend(contest::measure(effort, &ceiling)?);
                Ok(rows)
            }
            Self::Traffic => traffic::measure(effort),
            Self::Table => {
                let (mut rows, mut couple) = joining::measure(effort)?;
                rows.extend(moving::measure(effort, &mut couple)?);
                couple.end()?;
                Ok(rows)
            }
        }
    }
}

/// Run by run: `part` as much as `whole`.
fn of(part: &[u64], whole: &[u64]) -> Vec<u64> {
    part.iter().zip(whole).map(|(part, whole)| ratio(*part, *whole)).collect()
}
