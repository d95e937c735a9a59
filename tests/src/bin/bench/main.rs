//! The benchmarks: what the datapath and replication take, next to what they must take at most. Namespaces only: nothing
//! of this machine's own network is touched, and all is gone at the end.

mod adverts;
mod cpu;
mod dropping;
mod failover;
mod fence;
mod flood;
mod forwarding;
mod frames;
mod programs;
mod receiving;
mod report;
mod road;
mod scale;
mod size;
mod stages;
mod streams;
mod switching;
mod sync;

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::kernel::runs_live_frames;
use clap::{Parser, Subcommand, ValueEnum};
use report::{Row, Verdict};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures carp on this machine, as root.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The XDP and tc programs, and a gateway with them
    Datapath(Datapath),
    /// Replication of tracked connections
    Sync(Sync),
    /// Moves from one gateway to the other, wanted and not, beside keepalived
    Failover(Failover),
}

#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 every must is met; 1 otherwise.")]
struct Failover {
    /// Only this fault; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<failover::Fault>,
    /// Only this contender; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    contender: Vec<failover::Contender>,
    /// Trials of each fault
    #[arg(long, value_name = "N", default_value_t = 10)]
    trials: usize,
    /// Write the measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw who owned the addresses and which probes were lost, into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// One trial each, to see that everything works; no must is looked at
    #[arg(long)]
    brief: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 every must is met; 1 otherwise.")]
struct Sync {
    /// Only this part; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<sync::Part>,
    /// Runs of each measurement, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Connections of a whole table
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    flows: u32,
    /// Write the measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// As few connections as will do to see that everything works; no must is looked at
    #[arg(long)]
    brief: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 every must is met; 1 otherwise.")]
struct Datapath {
    /// Only this part; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Part>,
    /// Runs of each measurement, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Seconds of flood
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// Write the measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// As few frames as will do to see that everything works; no must is looked at
    #[arg(long)]
    brief: bool,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each stage of the programs takes
    Stages,
    /// Frames for a VIP that is not served, beside nftables and the kernel
    Dropping,
    /// Frames through a gateway that serves, with and without carp
    Forwarding,
    /// Forged adverts at a backup
    Flood,
    /// As many virtual hosts as there can be
    Scale,
}

/// How much to do.
struct Effort {
    /// Of each measurement.
    runs: usize,
    /// Of a program on one frame.
    repeat: u32,
    /// Sent in one burst.
    frames: u32,
    /// How long TCP goes on at a time.
    stream: Span,
    /// Turns in one run, where two sides are measured in turn.
    rounds: usize,
    /// How long forged adverts go on.
    flood: Span,
    /// Links with as many virtual hosts, at most.
    links: u8,
    /// Virtual hosts on a link, at most.
    hosts: u8,
}

impl Effort {
    fn new(args: &Datapath) -> Self {
        let (runs, flood) = (args.runs.max(1), Span::secs(args.seconds));
        match args.brief {
            false => Self {
                runs,
                flood,
                repeat: 200_000,
                frames: 1_000_000,
                stream: Span::millis(100),
                rounds: 16,
                links: 16,
                hosts: 255,
            },
            true => Self {
                runs,
                flood,
                repeat: 100,
                frames: 10_000,
                stream: Span::millis(20),
                rounds: 1,
                links: 2,
                hosts: 3,
            },
        }
    }
}

fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::Datapath(args) => datapath(&args),
        What::Sync(args) => sync(&args),
        What::Failover(args) => failover(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn datapath(args: &Datapath) -> Result<ExitCode> {
    ensure!(runs_live_frames(), "Linux 5.18 is needed: older ones run no program on frames that it may send");
    let json = Json::make(args.json.as_ref(), args.brief)?;
    let effort = Effort::new(args);
    let mut all = Vec::new();
    for part in Part::value_variants() {
        if args.only.is_empty() || args.only.contains(part) {
            all.extend(json.show(part.title(), part.measure(&effort)?));
        }
    }
    json.end(&all)
}

fn sync(args: &Sync) -> Result<ExitCode> {
    let json = Json::make(args.json.as_ref(), args.brief)?;
    let runs = args.runs.max(1);
    let effort = match args.brief {
        false => sync::Effort {
            table: args.flows,
            burst: 100_000,
            single: 500,
            traffic: Span::secs(2),
            moves: runs.div_ceil(2),
            rest: Span::secs(3),
            runs,
        },
        true => sync::Effort {
            table: 2_000,
            burst: 1_000,
            single: 20,
            traffic: Span::millis(100),
            moves: 1,
            rest: Span::secs(1),
            runs: 1,
        },
    };
    let mut all = Vec::new();
    for part in sync::Part::value_variants() {
        if args.only.is_empty() || args.only.contains(part) {
            all.extend(json.show(part.title(), part.measure(&effort)?));
        }
    }
    json.end(&all)
}

fn failover(args: &Failover) -> Result<ExitCode> {
    use failover::{Contender, Fault};
    let json = Json::make(args.json.as_ref(), args.brief)?;
    let contenders = if args.contender.is_empty() { Contender::value_variants() } else { &args.contender };
    let trials = if args.brief { 1 } else { args.trials.max(1) };
    let (mut all, mut outcomes) = (Vec::new(), Vec::new());
    for fault in Fault::value_variants() {
        if args.only.is_empty() || args.only.contains(fault) {
            let outcome = failover::measure(*fault, contenders, trials)?;
            for (title, rows) in outcome.tables() {
                all.extend(json.show(title, rows));
            }
            outcomes.push(outcome);
        }
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, failover::draw(&outcomes))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    json.end(&all)
}

/// Where the numbers go.
struct Json<'a> {
    file: Option<&'a PathBuf>,
    brief: bool,
}

impl<'a> Json<'a> {
    fn make(file: Option<&'a PathBuf>, brief: bool) -> Result<Self> {
        if let Some(file) = file {
            // Better said now than after the measuring.
            std::fs::File::create(file).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(Self { file, brief })
    }

    /// Prints rows under a title. In brief nothing is judged.
    fn show(&self, title: &str, mut rows: Vec<Row>) -> Vec<Row> {
        if self.brief {
            rows.iter_mut().for_each(|row| row.must = None);
        }
        print!("{}", report::table(title, &rows));
        rows
    }

    fn end(&self, all: &[Row]) -> Result<ExitCode> {
        if let Some(file) = self.file {
            std::fs::write(file, report::json(all)).with_context(|| format!("writing {}", file.display()))?;
        }
        let count = |wanted| all.iter().filter(|row: &&Row| row.verdict() == wanted).count();
        let failed = count(Verdict::Fail);
        println!("\n{} musts met, {failed} missed, {} absent", count(Verdict::Pass), count(Verdict::Absent));
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Self::Stages => "Stages: one frame through the programs, again and again",
            Self::Dropping => "Dropping: frames without an skb, for each second of the receiving CPU",
            Self::Forwarding => {
                "Forwarding: TCP through a gateway, and frames without an skb for each second of its CPU"
            }
            Self::Flood => "Flood: forged adverts at the backup of a valid master",
            Self::Scale => "Scale: from one address to sixteen thousand, a frame to any of them",
        }
    }

    fn measure(self, effort: &Effort) -> Result<Vec<Row>> {
        match self {
            Self::Stages => stages::measure(effort),
            Self::Dropping => dropping::measure(effort),
            Self::Forwarding => forwarding::measure(effort),
            Self::Flood => flood::measure(effort),
            Self::Scale => scale::measure(effort),
        }
    }
}
