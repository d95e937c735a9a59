//! `vmtest`: the tests that need a kernel, on Debian's kernels, in virtual machines. Nobody has to be root, and nothing
//! of this machine is touched.

mod archive;
mod cpio;
mod guest;
mod kernel;
mod modules;
mod payload;
mod qemu;
mod report;
mod transcript;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::bpf;
use crate::command::{stopwatch, target_dir};
use crate::setup::{self, Scope};
use crate::targets;
use crate::test::{Outcome, Tally};
use archive::Archive;
use kernel::Kernel;
use payload::Payload;
use qemu::{End, Machine, Time};
use report::{Column, Ran, Results};
use transcript::Transcript;

/// The matrix: every long-term series since the oldest that we support, and the newest kernel.
const MATRIX: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "newest"];
/// And what it runs: what a kernel decides (the datapath, fail-over, conntrack, privileges), longest first. What else could run
/// in a guest (words, files, formats of others) says the same on every kernel, and runs there when it is named.
const KERNEL_DECIDES: [&str; 20] = [
    "lab_sync",
    "lab_kinds",
    "lab_traffic",
    "lab_ftp",
    "lab_sync_link",
    "lab_pair",
    "lab_ucarp",
    "lab_leftovers",
    "lab_io",
    "lab_conntrack",
    "lab_flowtable",
    "lab_stacked",
    "lab_datapath",
    "lab_resume",
    "lab_egress",
    "lab_armed",
    "lab_privilege",
    "xdp_loader",
    "xdp_stages",
    "xdp_budget",
];
/// What `cargo xtask test` boots.
const OLDEST_AND_NEWEST: [&str; 2] = ["5.10", "newest"];
/// And what it runs there, with parts of names of tests where all would take too long: loading and attaching, pins and
/// replacement, each stage, armed windows, and a killed master. Emulated, a load takes seconds.
const QUICK: [(&str, &[&str]); 5] = [
    ("lab_armed", &[]),
    ("lab_pair", &["a_killed_daemon"]),
    ("xdp_budget", &[]),
    ("xdp_loader", &["opening_pins", "another_build"]),
    ("xdp_stages", &["the_table", "arming::"]),
];
/// Targets that stay on the host: tshark with its hundred libraries says nothing about a kernel.
const NOT_IN_A_GUEST: [&str; 1] = ["lab_dissector"];
/// The last results.
const RESULTS: &str = "results.json";
/// Machines at a time: one for each processor of a small machine, and with more, timers of real time get late.
const AT_A_TIME: usize = 2;

/// What to boot, and what to run there.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask vmtest                             every kernel, every test that a kernel decides
  cargo xtask vmtest --kernel 5.10 xdp_          one kernel, the tests of the datapath
  cargo xtask vmtest --kernel 6.1 lab_pair -- --nocapture killed    one test, with all that it says
  cargo xtask vmtest --write                     every kernel, and the table into docs/kernels.md

The last result of each test on each kernel is kept in target/vmtest/results.json.")]
pub struct Args {
    /// 5.10, 6.1, 6.12, 6.18 or another series that Debian has, `newest`, or `all`; may be repeated
    #[arg(long = "kernel", value_name = "SERIES", default_value = "all", value_parser = series)]
    kernels: Vec<Vec<Series>>,
    /// Write the table of the last results, of this run and of those before, into docs/kernels.md
    #[arg(long)]
    write: bool,
    /// Test targets, or beginnings of their names; none means those that a kernel decides
    targets: Vec<String>,
    /// For the test programs
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Which kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// The newest that Debian has.
    Newest,
    /// The newest of `6.1`.
    Numbered(String),
}

/// A test target, and words for it: parts of the names of the tests to run, or options.
#[derive(Clone)]
struct Task {
    target: String,
    arguments: Vec<String>,
}

/// One machine's work: each target gets a fresh guest, so that none depends on what another did there.
struct Job {
    kernel: Kernel,
    task: Task,
}

/// The verb. The last line is `N passed, N failed, N skipped`; a kernel that cannot be had is skipped, and as it was
/// asked for, that is a failure.
pub fn verb(args: &Args) -> Result<ExitCode> {
    let wanted = args.kernels.concat();
    let task = |target| Task { target, arguments: args.arguments.clone() };
    let tasks: Vec<Task> = chosen(&args.targets)?.into_iter().map(task).collect();
    setup::ensure(Scope::Vm)?;
    bpf::build()?;
    let (columns, absent) = boot(&wanted, &tasks)?;
    if args.write {
        Results::read(&work().join(RESULTS)).write_document(&MATRIX, &KERNEL_DECIDES)?;
    }
    let total = summary(&columns, absent);
    println!("{total}");
    Ok(if total.failed + total.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The step of `cargo xtask test`: oldest and newest kernel, and of the tests what tells most.
pub fn step() -> Result<Outcome> {
    if !setup::has(Scope::Vm) {
        return Ok(Outcome::Skipped("QEMU or a tool for it is missing; `cargo xtask vmtest` says which"));
    }
    let wanted: Vec<Series> = OLDEST_AND_NEWEST.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let tasks = QUICK.map(|(target, tests)| Task {
        target: target.to_owned(),
        arguments: tests.iter().map(|&name| name.to_owned()).collect(),
    });
    let (columns, absent) = boot(&wanted, &tasks)?;
    Ok(Outcome::Ran(summary(&columns, absent)))
}

/// The kernels that the step of `cargo xtask test` boots, and of each whether it has just been fetched.
///
/// # Errors
/// One can be had neither from Debian nor from the cache.
pub fn kernels_of_step() -> Result<Vec<(String, bool)>> {
    let _lock = setup::lock()?;
    let archive = Archive::open();
    let fetch = |name: &str| {
        let kernel = Kernel::fetch(&archive, &name.parse()?).with_context(|| format!("kernel {name}"))?;
        Ok((kernel.version, kernel.is_new))
    };
    OLDEST_AND_NEWEST.into_iter().map(fetch).collect()
}

/// Prints the table, and adds up.
fn summary(columns: &[Column], absent: u32) -> Tally {
    println!("\n{}", report::table(columns));
    let mut total = report::total(columns);
    total.add(Tally { skipped: absent, ..Tally::default() });
    total
}

/// Where logs and results are.
fn work() -> PathBuf {
    target_dir().join("vmtest")
}

/// Boots every kernel and runs the targets there. Gives the results, and how many kernels could not be had.
fn boot(wanted: &[Series], tasks: &[Task]) -> Result<(Vec<Column>, u32)> {
    let (kernels, absent) = fetch(wanted)?;
    let work = work();
    fs::create_dir_all(&work)?;
    let targets: Vec<&str> = tasks.iter().map(|task| task.target.as_str()).collect();
    let payload = Payload::collect(&targets, &work)?;
    let found = Mutex::new(Results::of(kernels.iter().map(Column::of).collect()));
    let queue = Mutex::new(jobs(&kernels, tasks).into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work_off = || -> Result<()> {
        while let Some(job) = next() {
            let column = job.run(&payload, &work)?;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if job.task.arguments.is_empty() {
                // At once: a run of hours may be cut short.
                let mut known = Results::read(&work.join(RESULTS));
                known.renew(column.clone());
                known.write(&work.join(RESULTS))?;
            }
            found.renew(column);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work_off)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?);
        ended.collect::<Result<()>>()
    })?;
    payload.forget()?;
    Ok((found.into_inner().unwrap_or_else(PoisonError::into_inner).kernels, absent))
}

/// The kernels, and how many could not be had.
fn fetch(wanted: &[Series]) -> Result<(Vec<Kernel>, u32)> {
    let _lock = setup::lock()?;
    let archive = Archive::open();
    let (mut kernels, mut absent) = (Vec::new(), 0);
    for (at, series) in wanted.iter().enumerate() {
        if wanted[..at].contains(series) {
            continue;
        }
        match Kernel::fetch(&archive, series) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => {
                println!("skipped: kernel {series}: {error:#}");
                absent += 1;
            }
        }
    }
    Ok((kernels, absent))
}

/// A target on every kernel, then the next.
fn jobs(kernels: &[Kernel], tasks: &[Task]) -> Vec<Job> {
    let on_all = |task: &Task| -> Vec<Job> {
        kernels.iter().map(|kernel| Job { kernel: kernel.clone(), task: task.clone() }).collect()
    };
    tasks.iter().flat_map(on_all).collect()
}

/// Labs depend on timers.
fn time_for(target: &str) -> Time {
    if target.starts_with("lab_") { Time::Virtual } else { Time::Real }
}

/// The targets whose names begin so, or those that a kernel decides.
fn chosen(beginnings: &[String]) -> Result<Vec<String>> {
    let mut all = targets::with_prefix(&targets::PRIVILEGED)?;
    all.retain(|name| !NOT_IN_A_GUEST.contains(&name.as_str()));
    if let Some(wrong) = beginnings.iter().find(|start| !all.iter().any(|name| name.starts_with(*start))) {
        bail!("no test target for a guest begins with `{wrong}`; there are: {}", all.join(", "));
    }
    let place = |name: &String| KERNEL_DECIDES.iter().position(|decided| decided == name);
    all.retain(|name| match beginnings {
        [] => place(name).is_some(),
        _ => beginnings.iter().any(|start| name.starts_with(start)),
    });
    all.sort_by_key(|name| place(name).unwrap_or(KERNEL_DECIDES.len()));
    Ok(all)
}

impl Job {
    /// Runs it; once more when the guest did not start, which QEMU's emulation does to one in hundreds.
    fn run(&self, payload: &Payload, work: &Path) -> Result<Column> {
        let name = format!("{} {}", self.kernel.series, self.task.target);
        let logs = work.join(name.replace(' ', "-"));
        let files = logs.with_added_extension("cpio");
        guest::write(payload, self, &files)?;
        let image = self.kernel.image();
        let machine = Machine { kernel: &image, files: &files, time: time_for(&self.task.target), logs };
        let (result, took) = stopwatch(|| {
            let (transcript, end) = machine.run()?;
            if end != End::NeverStarted {
                return Ok((transcript, end));
            }
            println!("{name}: did not start, trying once more\n{}", machine.last_words());
            machine.run()
        });
        fs::remove_file(&files)?;
        let (transcript, end) = result?;
        let ran = self.judge(&transcript, &end);
        if ran.tally.failed > 0 {
            println!("{}\nIts kernel's last words:\n{}", transcript.output, machine.last_words());
        }
        println!("{name}: {} ({} s, {})", ran.tally, took.as_secs(), machine.log().display());
        Ok(Column { release: transcript.release, ran: vec![ran], ..Column::of(&self.kernel) })
    }

    /// The result, also where the guest gave none.
    fn judge(&self, transcript: &Transcript, end: &End) -> Ran {
        let (name, failures) = (self.task.target.clone(), transcript.failures.clone());
        let why = match (end, transcript.status.as_deref(), transcript.tally) {
            (End::Finished, Some("0"), Some(tally)) => return Ran { name, tally, failures },
            (End::Finished, Some(_), Some(tally)) if tally.failed > 0 => {
                return Ran { name, tally, failures };
            }
            (End::Finished, status, _) => {
                format!("ended with status {} and no result", status.unwrap_or("?"))
            }
            (End::NeverStarted, ..) => "the guest did not start".to_owned(),
            (End::Silent(registers), ..) => format!("the guest hung; its processors were at\n{registers}"),
            (End::Died, ..) => "the guest died".to_owned(),
        };
        println!("{name}: {why}");
        let why = why.lines().next().unwrap_or_default().to_owned();
        Ran { name, tally: Tally { failed: 1, ..Tally::default() }, failures: vec![why] }
    }
}

impl Column {
    fn of(kernel: &Kernel) -> Self {
        Self {
            series: kernel.series.to_string(),
            version: kernel.version.clone(),
            release: None,
            ran: Vec::new(),
        }
    }
}

/// `all` is the whole matrix.
fn series(text: &str) -> Result<Vec<Series>> {
    match text {
        "all" => MATRIX.iter().map(|name| name.parse()).collect(),
        _ => Ok(vec![text.parse()?]),
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('.') {
            None if text == "newest" => Ok(Self::Newest),
            Some((major, minor)) if is_number(major) && is_number(minor) => {
                Ok(Self::Numbered(text.to_owned()))
            }
            None | Some(_) => bail!("a kernel is 6.1 or another series, `newest`, or `all`"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Numbered(number) => f.write_str(number),
        }
    }
}
