//! What ctnetlink gives one thread: the most that any replication can do on this machine.

use super::flows::rate;
use super::{Effort, FLOWS};
use crate::report::{Row, Unit};
use anyhow::{Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::flows::{CHUNK, clear, injector, make, make_by};
use carp_tests::lab::{Lab, Purpose, clock};
use carp_user::io::conntrack::{Events, Item, Listening};

/// What one flow takes of one thread.
#[derive(Clone, Copy, Default)]
struct Costs {
    /// To put it into a kernel that tells nobody.
    quiet: Span,
    /// ... and into one where somebody listens.
    told: Span,
    /// To hear of it.
    heard: Span,
    /// To put it into another kernel, while somebody listens to the first.
    copied: Span,
}

/// The rows, and of each run the ceiling, in thousandths of a thousand flows a second.
pub fn measure(effort: &Effort) -> Result<(Vec<Row>, Vec<u64>)> {
    let flows = effort.burst;
    let runs = (0..effort.runs).map(|_| costs(flows)).collect::<Result<Vec<_>>>()?;
    let rates =
        |of: fn(&Costs) -> Span| runs.iter().map(|run| rate(flows.into(), of(run))).collect::<Vec<_>>();
    let ceiling = rates(|costs| costs.told + costs.copied);
    let row = |name, of| Row::new(FLOWS, name, Unit::Kilo, rates(of));
    let rows = vec![
        row("one thread puts flows into a kernel", |costs| costs.quiet),
        row("... whose events somebody gets", |costs| costs.told),
        row("... and reads them", |costs| costs.heard),
        row("... and puts flows into another kernel meanwhile", |costs| costs.copied),
        Row::new(FLOWS, "ceiling: what ctnetlink's lock lets through", Unit::Kilo, ceiling.clone()),
    ];
    Ok((rows, ceiling))
}

fn costs(flows: u32) -> Result<Costs> {
    let lab = Lab::new(Purpose::Show)?;
    let [quiet, first, second] = ["quiet", "first", "second"].map(|host| lab.namespace(host));
    let (quiet, first, second) = (quiet?, first?, second?);
    let mut costs = Costs { quiet: timed(|| make(&quiet, 0..flows))?, ..Costs::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut events = first.enter(|| {
        let _guard = runtime.enter();
        Ok(Events::open(&Listening::default())?)
    })?;
    let (mut here, mut there) = (injector(&first)?, injector(&second)?);
    let mut told = 0;
    for begin in (0..flows).step_by(usize::try_from(CHUNK)?) {
        let numbers = begin..flows.min(begin + CHUNK);
        costs.told = costs.told + timed(|| make_by(&mut here, numbers.clone()))?;
        let mut note = |item| told += u32::from(matches!(item, Item::Message(_)));
        costs.heard = costs.heard
            + timed(|| {
                while events.waiting(&mut note)? {}
                Ok(())
            })?;
        costs.copied = costs.copied + timed(|| make_by(&mut there, numbers.clone()))?;
    }
    ensure!(told == flows, "{told} events of {flows} flows");
    [&quiet, &first, &second].into_iter().try_for_each(clear)?;
    Ok(costs)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Span> {
    let begun = clock::now();
    work()?;
    Ok(clock::now().since(begun))
}
