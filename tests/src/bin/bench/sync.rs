//! Replication of tracked connections: two gateways, and one that makes connections in the first one's kernel as fast as
//! ctnetlink takes them.

use crate::cpu;
use crate::report::{Must, Row, Unit, ratio};
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::flows::{Room, make};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::{Events, Listening, count};
use std::fs;

const PART: &str = "sync";
const PATIENCE: Span = Span::secs(120);
/// Single flows whose way is timed.
const SINGLE: u32 = 1000;
/// What `nf_conntrack_max` and `nf_conntrack_buckets` have to be for all that is made here.
const ROOM: [(&str, u64); 2] = [("nf_conntrack_max", 1 << 21), ("nf_conntrack_buckets", 1 << 19)];

/// How much to do.
pub struct Effort {
    /// Flows of a whole table.
    pub table: u32,
    /// Flows of a burst.
    pub burst: u32,
    /// Bursts.
    pub runs: usize,
}

/// The two daemons.
struct Both {
    pair: Pair,
    gw1: Carpd,
    gw2: Carpd,
    /// Flows made so far.
    made: u32,
}

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let _room = Room::set(&ROOM)?;
    let ceiling = ceiling(effort)?;
    let mut rows = vec![Row::new(PART, "one thread puts flows into a kernel", Unit::Kilo, ceiling.clone())];
    let pair = Pair::new(Purpose::Show)?;
    let config = Config::gateway().with_sync();
    let gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    gw1.wait_serving(PATIENCE)?;
    let gw2 = Carpd::configure(&pair.lab, pair.gw2(), &config.of_backup())?;
    let mut both = Both { pair, gw1, gw2, made: 0 };
    rows.extend(both.bulk(effort)?);
    rows.extend(both.bursts(effort, &ceiling)?);
    rows.extend(both.latency()?);
    Ok(rows)
}

/// Flows a second, in thousandths of a thousand, of a namespace where nobody listens.
fn ceiling(effort: &Effort) -> Result<Vec<u64>> {
    let lab = Lab::new(Purpose::Show)?;
    let runs = (0..effort.runs).map(|run| {
        let alone = lab.namespace(&format!("alone{run}"))?;
        let begun = clock::now();
        make(&alone, 0..effort.burst)?;
        Ok(rate(effort.burst, clock::now().since(begun)))
    });
    runs.collect()
}

impl Both {
    /// A standby that starts beside a full table.
    fn bulk(&mut self, effort: &Effort) -> Result<Vec<Row>> {
        let Self { pair, gw1, gw2, made } = self;
        make(pair.gw1(), 0..effort.table)?;
        *made = effort.table;
        clock::sleep(Span::secs(1));
        let wanted = held(pair.gw1())?;
        ensure!(wanted >= effort.table, "{wanted} flows in the kernel");
        let before = memory(gw1)?;
        let begun = clock::now();
        gw2.run()?;
        let answered = clock::now();
        let (took, lost) = settled(pair.gw2(), effort.table, begun)?;
        let one = |name: &str, unit, number| Row::new(PART, name, unit, vec![number]);
        let each = |kib: u64| {
            kib.saturating_mul(1024).saturating_sub(20 << 20).saturating_mul(1000) / u64::from(effort.table)
        };
        Ok(vec![
            one("fresh standby has the whole table", Unit::Millis, took.as_micros())
                .must(Must::AtMost(6_000_000))
                .note(format!("{} flows; {} of it until carpd answers", effort.table, answered.since(begun))),
            one("of these are missing", Unit::Count, u64::from(lost) * 1000).must(Must::AtMost(0)),
            one("memory a flow above 20 MB, serving", Unit::Bytes, each(memory(gw1)?.max(before)))
                .must(Must::AtMost(100_000)),
            one("memory a flow above 20 MB, standby", Unit::Bytes, each(memory(gw2)?))
                .must(Must::AtMost(100_000)),
        ])
    }

    /// New flows as fast as they can be made.
    fn bursts(&mut self, effort: &Effort, ceiling: &[u64]) -> Result<Vec<Row>> {
        let (mut rates, mut shares, mut spents, mut missing) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for run in 0..effort.runs {
            let Self { pair, gw1, gw2, made } = self;
            let wanted = held(pair.gw2())? + effort.burst;
            let mut spent = || {
                Ok::<_, anyhow::Error>(
                    cpu::of_process(gw1.process()?.id())? + cpu::of_process(gw2.process()?.id())?,
                )
            };
            let (before, begun) = (spent()?, clock::now());
            make(pair.gw1(), *made..*made + effort.burst)?;
            *made += effort.burst;
            let (took, lost) = settled(pair.gw2(), wanted, begun)?;
            let rate = rate(effort.burst, took);
            rates.push(rate);
            shares.push(100 * ratio(rate, *ceiling.get(run).unwrap_or(&1)));
            spents.push(spent()?.less(before).as_nanos() / u64::from(effort.burst));
            missing += lost;
        }
        Ok(vec![
            Row::new(PART, "new flows into the standby's kernel", Unit::Kilo, rates)
                .note(format!("bursts of {}", effort.burst)),
            Row::new(PART, "of what one thread puts there", Unit::Percent, shares),
            Row::new(PART, "CPU of both daemons for a flow", Unit::Micros, spents),
            Row::new(PART, "of all these are missing", Unit::Count, vec![u64::from(missing) * 1000])
                .must(Must::AtMost(0)),
        ])
    }

    /// From before a flow is made on the one to its event on the other.
    fn latency(&mut self) -> Result<Vec<Row>> {
        let first = self.made;
        self.made += SINGLE;
        let (gw1, gw2) = (self.pair.gw1().clone(), self.pair.gw2());
        let mut nanos = gw2.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut events = Events::open(&Listening::default())?;
                let mut nanos = Vec::new();
                for number in first..first + SINGLE {
                    clock::sleep(Span::millis(1));
                    let mut seen = 0;
                    while events.waiting(&mut |_| seen += 1)? {}
                    let begun = clock::now();
                    make(&gw1, number..number + 1)?;
                    events.next(&mut |_| seen += 1).await?;
                    nanos.push(clock::now().since(begun).as_nanos());
                }
                Ok(nanos)
            })
        })?;
        nanos.sort_unstable();
        let at = |part: usize| nanos.get(nanos.len() * part / 100).copied().unwrap_or(0);
        let one = |name: &str, nanos: u64| Row::new(PART, name, Unit::Millis, vec![nanos / 1000]);
        Ok(vec![
            one("a single flow to the standby's kernel, median", at(50)).must(Must::AtMost(300)),
            one("the same, the slowest of a hundred", at(99)).must(Must::AtMost(1000)),
        ])
    }
}

/// When all are there, and how many never come.
fn settled(namespace: &Namespace, wanted: u32, begun: Instant) -> Result<(Span, u32)> {
    let (mut last, mut changed) = (0, clock::now());
    loop {
        let (held, now) = (held(namespace)?, clock::now());
        if held >= wanted {
            return Ok((now.since(begun), 0));
        }
        if held != last {
            (last, changed) = (held, now);
        }
        if now.since(changed) > Span::secs(5) {
            return Ok((changed.since(begun), wanted - held));
        }
        ensure!(now.since(begun) < PATIENCE, "{held} of {wanted} flows after {PATIENCE}");
        clock::sleep(Span::millis(2));
    }
}

fn held(namespace: &Namespace) -> Result<u32> {
    namespace.enter(|| Ok(count()?))
}

/// Kibibytes.
fn memory(carpd: &mut Carpd) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", carpd.process()?.id()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Thousandths of a thousand a second.
fn rate(flows: u32, span: Span) -> u64 {
    u64::from(flows) * 1_000_000 / span.as_micros().max(1)
}
