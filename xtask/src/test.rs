//! `test`: every check in order, counted in the last line.

mod steps;
mod tally;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::command::{is_root, stopwatch};
use crate::setup::{self, Scope};
use steps::Step;

pub use tally::Tally;

/// What to run.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                everything; as root also the XDP and namespace tests
  cargo xtask test fmt clippy     only these, in the usual order
  cargo xtask test --no-skip      what cannot run counts as failed, as it does with CI=true")]
pub struct Args {
    /// Steps to run; none means all
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// Show the steps and stop
    #[arg(long)]
    list: bool,
    /// Fail when a step cannot run; the environment variable CI=true says the same
    #[arg(long)]
    no_skip: bool,
}

/// How a step ended.
pub enum Outcome {
    /// It did what its command says, and counts as one.
    Passed,
    /// Test runs, counted one by one.
    Ran(Tally),
    /// It cannot run here, and why.
    Skipped(&'static str),
}

/// Runs the steps, then says how each ended. The last line is `N passed, N failed, N skipped`.
pub fn verb(args: &Args) -> Result<ExitCode> {
    if args.list {
        for step in Step::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
            println!("{:8}{}", step.get_name(), step.get_help().map(ToString::to_string).unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Step::plan(&args.steps);
    install_for(&plan)?;
    let mut total = Tally::default();
    let mut summary = Vec::new();
    let mut is_built = true;
    for step in plan {
        println!("\n==> {}", step.name());
        let (outcome, took) = stopwatch(|| {
            if step.needs_programs() && !is_built {
                return Ok(Outcome::Skipped("the BPF programs did not build"));
            }
            step.run()
        });
        is_built &= step != Step::Ebpf || outcome.is_ok();
        summary.push(describe(step, &outcome, took));
        total.add(count(&outcome));
    }
    println!("\n==> summary");
    for line in summary {
        println!("{line}");
    }
    println!("{total}");
    let skip_fails = args.no_skip || env::var("CI").is_ok_and(|value| value == "true");
    let is_good = total.failed == 0 && (total.skipped == 0 || !skip_fails);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install_for(plan: &[Step]) -> Result<()> {
    if plan.iter().any(|step| matches!(step, Step::Fmt | Step::Clippy)) {
        setup::ensure_lints()?;
    }
    if plan.iter().any(|step| *step == Step::Ebpf || step.needs_programs()) {
        // Without root the steps that need the test tools are skipped, so nobody has to install them.
        let scope = if plan.contains(&Step::Vm) { Scope::Vm } else { Scope::Test };
        setup::ensure(if is_root() { scope } else { Scope::Build })?;
    }
    Ok(())
}

fn count(outcome: &Result<Outcome>) -> Tally {
    match outcome {
        Ok(Outcome::Passed) => Tally { passed: 1, ..Tally::default() },
        Ok(Outcome::Ran(tally)) => *tally,
        Ok(Outcome::Skipped(_)) => Tally { skipped: 1, ..Tally::default() },
        Err(_) => Tally { failed: 1, ..Tally::default() },
    }
}

fn describe(step: Step, outcome: &Result<Outcome>, took: Duration) -> String {
    let said = match outcome {
        Ok(Outcome::Passed) => "passed".to_owned(),
        Ok(Outcome::Ran(tally)) => tally.to_string(),
        Ok(Outcome::Skipped(why)) => format!("skipped: {why}"),
        Err(error) => format!("FAILED: {error:#}"),
    };
    let line = format!("{:8}{:>4}.{} s  {said}", step.name(), took.as_secs(), took.subsec_millis() / 100);
    println!("<== {line}");
    line
}
