//! A standby that joins a full table.

use super::couple::{By, Couple};
use super::flows::{held, settled};
use super::{Effort, TABLE};
use crate::report::{Must, Row, Unit};
use anyhow::{Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::flows::make;

/// The rows, and the two with the full table.
pub fn measure(effort: &Effort) -> Result<(Vec<Row>, Couple)> {
    let mut couple = Couple::configure(By::Carp)?;
    let Couple { gw1, gw2, pair, .. } = &mut couple;
    make(pair.gw1(), 0..effort.table)?;
    clock::sleep(Span::secs(1));
    let wanted = held(pair.gw1())?;
    ensure!(wanted >= effort.table, "{wanted} flows in the kernel");
    let before = gw1.most_memory()?;
    let begun = clock::now();
    gw2.run()?;
    let answered = clock::now();
    let (took, lost) = settled(pair.gw2(), effort.table, begun)?;
    let one = |name: &str, unit, number| Row::new(TABLE, name, unit, vec![number]);
    let each = |bytes: u64| bytes.saturating_sub(20 << 20).saturating_mul(1000) / u64::from(effort.table);
    let rows = vec![
        one("fresh standby has the whole table", Unit::Millis, took.as_micros())
            .must(Must::AtMost(6_000_000))
            .note(format!("{} flows; {} of it until carpd answers", effort.table, answered.since(begun))),
        one("of these are missing", Unit::Count, u64::from(lost) * 1000).must(Must::AtMost(0)),
        one("memory a flow above 20 MB, serving", Unit::Bytes, each(gw1.most_memory()?.max(before)))
            .must(Must::AtMost(100_000)),
        one("memory a flow above 20 MB, standby", Unit::Bytes, each(gw2.most_memory()?))
            .must(Must::AtMost(100_000)),
    ];
    Ok((rows, couple))
}
