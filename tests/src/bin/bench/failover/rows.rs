//! What was seen, next to what must be.

use super::Outcome;
use super::contender::Contender;
use super::fault::{Fault, Kind};
use super::trial::{Phase, STREAMS, Trial};
use crate::report::{Must, Row, Unit, median};

/// Not once anything.
const NEVER: Must = Must::NeverAbove(0);
/// Milliseconds that a planned move may hold a reply back.
const PLANNED_GAP: Must = Must::AtMost(5_000);
/// Probes that a dead or frozen daemon may cost where its master is asked whether it serves, and that a dead network may
/// where it is asked every millisecond; thousandths.
const DAEMON_LOST: Must = Must::NeverAbove(20_000);
const NETWORK_LOST: u64 = 10_000;

/// What may be seen of one contender in one phase.
#[derive(Default)]
struct Limits {
    lost: Option<Must>,
    gap: Option<Must>,
    two_masters: Option<Must>,
    two_windows: Option<Must>,
    broken: Option<Must>,
}

/// Of the fault.
pub fn there(outcome: &Outcome) -> Vec<Row> {
    let half = outcome.half_of_keepalived();
    let limits = |contender: Contender| {
        let detect = contender.detect();
        let fastest = detect.filter(|interval| *interval == 1).map(|_| NETWORK_LOST);
        let network = half.into_iter().chain(fastest).min().map(Must::AtMost);
        match (outcome.fault, outcome.fault.kind()) {
            // No node can know that it is the one cut off.
            (Fault::CutOff, _) => Limits { lost: network, two_windows: None, ..Limits::one_master() },
            (_, Kind::Planned) => Limits::unnoticed(),
            (_, Kind::Daemon) => {
                let lost = detect.map(|_| DAEMON_LOST);
                Limits { lost, broken: Some(NEVER), ..Limits::one_master() }
            }
            (_, Kind::Network) => Limits { lost: network, ..Limits::one_master() },
        }
    };
    rows(outcome, outcome.fault.name(), |trial| &trial.there, limits)
}

/// Of what follows.
pub fn back(outcome: &Outcome) -> Vec<Row> {
    rows(outcome, outcome.fault.back(), |trial| &trial.back, |_| Limits::unnoticed())
}

fn rows(
    outcome: &Outcome,
    part: &'static str,
    phase: impl Fn(&Trial) -> &Phase,
    limits: impl Fn(Contender) -> Limits,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (contender, trials) in &outcome.contenders {
        let limits = limits(*contender);
        let phases: Vec<&Phase> = trials.iter().map(&phase).collect();
        let mut row = |what: &str, unit, of: &dyn Fn(&Phase) -> u64, must: Option<Must>| {
            let runs = phases.iter().map(|phase| of(phase)).collect();
            let row = Row::new(part, format!("{}: {what}", contender.name()), unit, runs);
            rows.push(Row { must: must.filter(|_| contender.is_ours()), ..row });
        };
        row("probes lost", Unit::Count, &|phase| phase.lost * 1000, limits.lost);
        row("longest extra gap", Unit::Millis, &|phase| phase.extra_gap.as_micros(), limits.gap);
        row("two masters", Unit::Millis, &|phase| phase.two_masters.as_micros(), limits.two_masters);
        if contender.is_ours() {
            let two = |phase: &Phase| phase.two_windows.as_micros();
            row("both datapaths serve", Unit::Millis, &two, limits.two_windows);
        }
        row("nobody owns an address", Unit::Millis, &|phase| phase.nobody.as_micros(), None);
        row("connections broken", Unit::Count, &|phase| phase.broken * 1000, limits.broken);
        let missed = phases.iter().filter(|phase| !phase.done).count();
        if let Some(row) = rows.last_mut() {
            row.note = format!("of {STREAMS}{}", incomplete(missed));
        }
    }
    rows
}

/// It did not come to what was waited for.
fn incomplete(missed: usize) -> String {
    if missed == 0 { String::new() } else { format!("; incomplete in {missed} trials") }
}

impl Limits {
    const fn unnoticed() -> Self {
        let (never, gap) = (Some(NEVER), Some(PLANNED_GAP));
        Self { lost: never, gap, broken: never, ..Self::one_master() }
    }

    const fn one_master() -> Self {
        let never = Some(NEVER);
        Self { lost: None, gap: None, two_masters: never, two_windows: never, broken: None }
    }
}

impl Outcome {
    /// Half of the probes that plain keepalived lost, thousandths.
    fn half_of_keepalived(&self) -> Option<u64> {
        let (_, trials) =
            self.contenders.iter().find(|(contender, _)| *contender == Contender::Keepalived)?;
        let lost: Vec<u64> = trials.iter().map(|trial| trial.there.lost * 1000).collect();
        Some(median(&lost)? / 2)
    }
}
