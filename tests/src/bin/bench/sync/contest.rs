//! Flows made by ctnetlink on the one gateway, as fast as it takes them and one at a time: with carpd and with conntrackd
//! in turn, each with gateways of its own, as a socket that listens to events anywhere makes all kernels' tables slower.

use super::couple::{By, Couple};
use super::flows::{held, make, rate, settled};
use super::{Effort, PART, of};
use crate::report::{Must, Row, Unit};
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_user::io::conntrack::{Events, Listening};

/// Of one side, one number for each run.
#[derive(Default)]
struct Side {
    rates: Vec<u64>,
    spent: Vec<u64>,
    missing: Vec<u64>,
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
        for (by, side) in turns {
            sides[side].run(by, effort)?;
        }
    }
    let [ours, theirs] = sides;
    let shares = of(&ours.rates, ceiling).into_iter().map(|share| share * 100).collect();
    Ok(vec![
        Row::new(PART, "new flows into the standby's kernel", Unit::Kilo, ours.rates.clone())
            .note(format!("bursts of {}", effort.burst)),
        Row::new(PART, "the same with conntrackd", Unit::Kilo, theirs.rates.clone()),
        Row::new(PART, "as many as with conntrackd", Unit::Times, of(&ours.rates, &theirs.rates))
            .must(Must::AtLeast(2500)),
        Row::new(PART, "of the ceiling", Unit::Percent, shares).must(Must::AtLeast(75_000)),
        Row::new(PART, "CPU of both daemons for a flow", Unit::Micros, ours.spent.clone()),
        Row::new(PART, "of both conntrackd", Unit::Micros, theirs.spent.clone()),
        Row::new(PART, "as much as conntrackd", Unit::Times, of(&ours.spent, &theirs.spent))
            .must(Must::AtMost(400)),
        Row::new(PART, "flows that never came", Unit::Count, ours.missing).must(Must::AtMost(0)),
        Row::new(PART, "with conntrackd", Unit::Count, theirs.missing),
        Row::new(PART, "a single flow to the standby's kernel, median", Unit::Millis, ours.median.clone())
            .must(Must::AtMost(300)),
        Row::new(PART, "with conntrackd", Unit::Millis, theirs.median.clone()),
        Row::new(PART, "as long as with conntrackd", Unit::Times, of(&ours.median, &theirs.median))
            .must(Must::AtMost(1000)),
        Row::new(PART, "a single flow, the slowest of a hundred", Unit::Millis, ours.slowest.clone())
            .must(Must::AtMost(1000)),
        Row::new(PART, "with conntrackd", Unit::Millis, theirs.slowest.clone()),
        Row::new(PART, "as long as with conntrackd", Unit::Times, of(&ours.slowest, &theirs.slowest))
            .must(Must::AtMost(1000)),
    ])
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
        gw2.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut events = Events::open(&Listening::default())?;
                let mut nanos = Vec::new();
                for number in 0..flows {
                    clock::sleep(Span::millis(1));
                    let mut seen = 0;
                    while events.waiting(&mut |_| seen += 1)? {}
                    let begun = clock::now();
                    make(gw1, number..number + 1)?;
                    events.next(&mut |_| seen += 1).await?;
                    nanos.push(clock::now().since(begun).as_nanos());
                }
                Ok(nanos)
            })
        })
    }
}
