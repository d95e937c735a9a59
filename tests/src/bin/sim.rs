//! `sim`: hunts for broken rules with random runs, replays one run, tries mutants.

use anyhow::{Context, bail};
use carp_tests::sim::chance;
use carp_tests::sim::hunt::{self, Caught, Draw, Until};
use carp_tests::sim::mutant::Mutant;
use clap::Parser;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

/// Seeds within which a mutant must be caught.
const WITHIN: u64 = 200;

/// Whole nodes on a virtual clock, with everything going wrong that may; exits with 1 when a rule
/// was broken.
#[derive(Parser)]
struct Arguments {
    /// Replay the run of this seed and print its timeline.
    #[arg(long, value_name = "S", conflicts_with_all = ["count", "mutants"])]
    seed: Option<u64>,
    /// Hunt over so many seeds.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    count: u64,
    /// First seed of the hunt.
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Break all nodes in this way.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Runs of gateways: virtual hosts on two segments that move as one.
    #[arg(long)]
    groups: bool,
    /// Try every mutant and say which seed catches it, by which rule.
    #[arg(long)]
    mutants: bool,
    /// In a timeline: also every advert, and every renewal of a window.
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mutant = arguments.mutant.as_deref().map(mutant).transpose()?;
    let draw: Draw = if arguments.groups { chance::gateways } else { chance::scenario };
    let outcome = if arguments.mutants {
        try_mutants()
    } else if let Some(seed) = arguments.seed {
        replay(draw, seed, mutant, arguments.verbose)
    } else {
        search(draw, arguments.from, arguments.count, mutant)
    };
    match outcome {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // The reader of the timeline has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn mutant(name: &str) -> anyhow::Result<Mutant> {
    let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
    Mutant::from_name(name).with_context(|| format!("no mutant {name:?}; there are {}", names.join(", ")))
}

fn replay(draw: Draw, seed: u64, mutant: Option<Mutant>, verbose: bool) -> anyhow::Result<bool> {
    let world = hunt::run(draw, seed, mutant);
    let mut out = std::io::stdout().lock();
    writeln!(out, "seed {seed}: {}", world.cast())?;
    for line in world.story().iter().filter(|line| verbose || !line.what.is_detail()) {
        writeln!(out, "{line}")?;
    }
    match world.failure() {
        Some(failure) => writeln!(out, "seed {seed} BROKEN: {failure}")?,
        None => writeln!(out, "seed {seed} clean")?,
    }
    Ok(world.failure().is_none())
}

fn search(draw: Draw, from: u64, count: u64, mutant: Option<Mutant>) -> anyhow::Result<bool> {
    let is_terminal = std::io::stderr().is_terminal();
    let step = if is_terminal { 64 } else { 2048 };
    let caught = hunt::hunt(draw, from, count, mutant, Until::Done, |done, failed| {
        if done % step == 0 {
            eprint!("{done} of {count} seeds, {failed} broken{}", if is_terminal { "\r" } else { "\n" });
        }
    });
    let mut out = std::io::stdout().lock();
    for Caught { seed, mutant, failure } in &caught {
        let mutant = mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
        writeln!(out, "seed {seed}: {failure}\n    replay: cargo xtask sim --seed {seed}{mutant}")?;
    }
    writeln!(out, "{count} seeds from {from}: {} broken", caught.len())?;
    Ok(caught.is_empty())
}

fn try_mutants() -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut escaped = Vec::new();
    for mutant in Mutant::ALL {
        let name = mutant.name();
        match hunt::catch(mutant, WITHIN) {
            Some(Caught { seed, failure, .. }) => {
                writeln!(out, "{name:14} caught by seed {seed}: {failure}")?;
            }
            None => escaped.push(name),
        }
    }
    if !escaped.is_empty() {
        bail!("not caught within {WITHIN} seeds: {}; the oracle has grown blunt", escaped.join(", "));
    }
    Ok(true)
}
