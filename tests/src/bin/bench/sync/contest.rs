//! Flows made by ctnetlink on the one gateway, as fast as it takes them and one at a time: with carpd and with conntrackd
//! in turn, each with gateways of its own, as a socket that listens to events anywhere makes all kernels' tables slower.

use super::couple::{By, Couple};
use super::flows::{held, rate, settled};
use super::{Effort, FLOWS, of};
use crate::report::{Must, Row, Unit};
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::flows::{injector, make, make_by};
use carp_user::io::conntrack::{Events, Listening};

/// A tenth more is what two runs of the same differ by.
const NO_WORSE: Must = Must::AtMost(1100);

/// Of one side, one number for each run.
#[derive(Default)]
struct Side {
    /// Thousandths of a thousand a second into the standby's kernel.
    rates: Vec<u64>,
    /// Nanoseconds of both daemons' CPU for each.
    spent: Vec<u64>,
    missing: Vec<u64>,
    /// Microseconds of a single flow.
    median: Vec<u64>,
    slowest: Vec<u64>,
}

pub fn measure(effort: &Effort, ceiling: &[u64]) -> Result<Vec<Row>> {
    let mut sides = [Side::default(), Side::default()];
    for run in 0..effort.runs {
        let mut turns = [(By::Carp, 0), (By::Conntrackd, 1)];
        if run % 2 == 1 {
            turns.reverse();
        }
        for (by, side) in turns.into_iter().filter(|(by, _)| by.is_there()) {
            sides[side].run(by, effort)?;
        }
    }
    let [ours, theirs] = sides;
    let shares = of(&ours.rates, ceiling).into_iter().map(|share| share * 100).collect();
    let (most, times) = (of(ceiling, &theirs.rates), of(&ours.rates, &theirs.rates));
    let work = of(&ours.spent, &theirs.spent);
    let row = |name: &str, unit, runs| Row::new(FLOWS, name, unit, runs);
    let mut rows = vec![
        row("new flows into the standby's kernel", Unit::Kilo, ours.rates)
            .note(format!("bursts of {}", effort.burst)),
        row("... with conntrackd", Unit::Kilo, theirs.rates),
        row("of the ceiling", Unit::Percent, shares).must(Must::AtLeast(75_000)),
        row("as many as with conntrackd", Unit::Times, times),
        row("... as the ceiling would be", Unit::Times, most),
        row("CPU of both daemons for each", Unit::Micros, ours.spent),
        row("... of both conntrackd", Unit::Micros, theirs.spent),
        row("as much as conntrackd", Unit::Times, work),
        row("flows that never came", Unit::Count, ours.missing).must(Must::AtMost(0)),
        row("... with conntrackd", Unit::Count, theirs.missing),
    ];
    rows.extend(ways("a single flow to the standby's kernel, median", 300, ours.median, theirs.median));
    rows.extend(ways("a single flow, the slowest of a hundred", 1000, ours.slowest, theirs.slowest));
    Ok(rows)
}

/// Of single flows; microseconds.
fn ways(name: &str, limit: u64, ours: Vec<u64>, theirs: Vec<u64>) -> [Row; 3] {
    let times = of(&ours, &theirs);
    [
        Row::new(FLOWS, name, Unit::Millis, ours).must(Must::AtMost(limit)),
        Row::new(FLOWS, "... with conntrackd", Unit::Millis, theirs),
        Row::new(FLOWS, "as long as with conntrackd", Unit::Times, times).must(NO_WORSE),
    ]
}

impl Side {
    fn run(&mut self, by: By, effort: &Effort) -> Result<()> {
        let mut couple = Couple::start(by)?;
        clock::sleep(Span::millis(500));
        let mut nanos = couple.singles(effort.single)?;
        nanos.sort_unstable();
        let at = |part: usize| nanos.get(nanos.len() * part / 100).copied().unwrap_or(0) / 1000;
        self.median.push(at(50));
        self.slowest.push(at(99));
        let wanted = held(couple.pair.gw2())? + effort.burst;
        let (before, begun) = (couple.spent()?, clock::now());
        make(couple.pair.gw1(), effort.single..effort.single + effort.burst)?;
        let (took, missing) = settled(couple.pair.gw2(), wanted, begun)?;
        self.rates.push(rate((effort.burst - missing).into(), took));
        self.spent.push(couple.spent()?.less(before).as_nanos() / u64::from(effort.burst));
        self.missing.push(u64::from(missing) * 1000);
        couple.end()
    }
}

impl Couple {
    /// Nanoseconds from before a flow is made on the one to its event on the other.
    fn singles(&self, flows: u32) -> Result<Vec<u64>> {
        let [gw1, gw2] = &self.pair.gateways;
        let mut injector = injector(gw1)?;
        gw2.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut events = Events::open(&Listening::default())?;
                let mut nanos = Vec::new();
                for number in 0..flows {
                    clock::sleep(Span::millis(1));
                    let mut seen = 0;
                    while events.waiting(&mut |_| seen += 1)? {}
                    let begun = clock::now();
                    make_by(&mut injector, number..number + 1)?;
                    events.next(&mut |_| seen += 1).await?;
                    nanos.push(clock::now().since(begun).as_nanos());
                }
                Ok(nanos)
            })
        })
    }
}
