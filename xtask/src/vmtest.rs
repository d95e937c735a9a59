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

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::bpf;
use crate::command::{stopwatch, target_dir};
use crate::setup::{self, Scope};
use crate::targets;
use crate::test::{Outcome, Tally};
use archive::Archive;
use kernel::Kernel;
use payload::Payload;
use qemu::{End, Machine, Time};
use report::{Column, Ran};
use transcript::Transcript;

/// The matrix: every long-term series since the oldest that we support, and the newest kernel.
const MATRIX: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "newest"];
/// What `cargo xtask test` boots.
const OLDEST_AND_NEWEST: [&str; 2] = ["5.10", "newest"];
/// And the labs that it runs there: fail-over between two of ours, and what leaves.
const QUICK_LABS: [&str; 2] = ["lab_egress", "lab_pair"];
/// Targets that stay on the host: tshark with its hundred libraries says nothing about a kernel.
const NOT_IN_A_GUEST: [&str; 1] = ["lab_dissector"];
/// Machines at a time: one for each processor of a small machine, and with more, timers of real time get late.
const AT_A_TIME: usize = 2;

/// What to boot, and what to run there.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask vmtest                             every kernel, every test
  cargo xtask vmtest --kernel 5.10 xdp_          one kernel, the tests of the datapath
  cargo xtask vmtest --kernel 6.1 lab_pair -- --nocapture killed    one test, with all that it says
  cargo xtask vmtest --write                     every kernel, and the table into docs/kernels.md")]
pub struct Args {
    /// 5.10, 6.1, 6.12, 6.18 or another series that Debian has, `newest`, or `all`; may be repeated
    #[arg(long = "kernel", value_name = "SERIES", default_value = "all", value_parser = series)]
    kernels: Vec<Vec<Series>>,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table into docs/kernels.md; takes all kernels and all targets
    #[arg(long)]
    write: bool,
    /// Test targets, or beginnings of their names; none means all that can run in a guest
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

/// One machine's work: each target gets a fresh guest, so that none depends on what another did there.
pub struct Job {
    kernel: Kernel,
    target: String,
}

/// The verb. The last line is `N passed, N failed, N skipped`; a kernel that cannot be had is skipped, and with CI=true
/// that is a failure.
pub fn verb(args: &Args) -> Result<ExitCode> {
    let wanted = args.kernels.concat();
    let targets = chosen(&args.targets)?;
    let is_everything = wanted == series("all")? && args.targets.is_empty() && args.arguments.is_empty();
    if args.write && !is_everything {
        bail!("--write takes all kernels and all targets");
    }
    setup::ensure(Scope::Vm)?;
    bpf::build()?;
    let (columns, absent) = boot(&wanted, &targets, &args.arguments)?;
    println!("\n{}", report::table(&columns));
    if let Some(file) = &args.json {
        fs::write(file, format!("{:#}\n", report::json(&columns)))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.write {
        report::write_document(&columns)?;
    }
    let mut total = report::total(&columns);
    total.add(Tally { skipped: absent, ..Tally::default() });
    println!("{total}");
    let skip_fails = env::var("CI").is_ok_and(|value| value == "true");
    let is_good = total.failed == 0 && (absent == 0 || !skip_fails);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The step of `cargo xtask test`: oldest and newest kernel, all tests of the datapath, some of the labs.
pub fn step() -> Result<Outcome> {
    if !setup::has(Scope::Vm) {
        return Ok(Outcome::Skipped("QEMU or a tool for it is missing; `cargo xtask vmtest` says which"));
    }
    let wanted: Vec<Series> = OLDEST_AND_NEWEST.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let mut targets = chosen(&["xdp_".to_owned()])?;
    targets.extend(QUICK_LABS.map(ToOwned::to_owned));
    let (columns, absent) = boot(&wanted, &targets, &[])?;
    println!("\n{}", report::table(&columns));
    let mut total = report::total(&columns);
    total.add(Tally { skipped: absent, ..Tally::default() });
    Ok(Outcome::Ran(total))
}

/// Boots every kernel and runs the targets there. Gives the results, and how many kernels could not be had.
fn boot(wanted: &[Series], targets: &[String], arguments: &[String]) -> Result<(Vec<Column>, u32)> {
    let (kernels, absent) = fetch(wanted)?;
    let work = target_dir().join("vmtest");
    fs::create_dir_all(&work)?;
    let payload = Payload::collect(targets, &work)?;
    let done = Mutex::new(Vec::new());
    let queue = Mutex::new(jobs(&kernels, targets).into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work_off = || {
        while let Some(job) = next() {
            let result = job.run(&payload, arguments, &work);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((job, result));
        }
    };
    thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work_off))));
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    payload.forget()?;
    let mut columns: Vec<Column> = kernels.iter().map(Column::of).collect();
    for (job, result) in done {
        let (release, ran) = result?;
        for column in columns.iter_mut().filter(|column| column.series == job.kernel.series.to_string()) {
            column.release = column.release.take().or_else(|| release.clone());
            column.ran.push(ran.clone());
        }
    }
    Ok((columns, absent))
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

/// The labs first: they take longest.
fn jobs(kernels: &[Kernel], targets: &[String]) -> Vec<Job> {
    let mut targets: Vec<&String> = targets.iter().collect();
    targets.sort_by_key(|target| time_for(target));
    let on_all = |target: &String| -> Vec<Job> {
        kernels.iter().map(|kernel| Job { kernel: kernel.clone(), target: target.clone() }).collect()
    };
    targets.into_iter().flat_map(on_all).collect()
}

/// Labs depend on timers.
fn time_for(target: &str) -> Time {
    if target.starts_with("lab_") { Time::Virtual } else { Time::Real }
}

/// The targets whose names begin so, or all.
fn chosen(beginnings: &[String]) -> Result<Vec<String>> {
    let mut all = targets::with_prefix(&targets::PRIVILEGED)?;
    all.retain(|name| !NOT_IN_A_GUEST.contains(&name.as_str()));
    if let Some(wrong) = beginnings.iter().find(|start| !all.iter().any(|name| name.starts_with(*start))) {
        bail!("no test target for a guest begins with `{wrong}`; there are: {}", all.join(", "));
    }
    all.retain(|name| beginnings.is_empty() || beginnings.iter().any(|start| name.starts_with(start)));
    Ok(all)
}

impl Job {
    /// Runs it; once more when the guest did not start, which QEMU's emulation does to one in hundreds.
    fn run(&self, payload: &Payload, arguments: &[String], work: &Path) -> Result<(Option<String>, Ran)> {
        let name = format!("{} {}", self.kernel.series, self.target);
        let logs = work.join(name.replace(' ', "-"));
        let files = logs.with_added_extension("cpio");
        guest::write(payload, self, arguments, &files)?;
        let image = self.kernel.image();
        let machine = Machine { kernel: &image, files: &files, time: time_for(&self.target), logs };
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
            println!("{}", transcript.output);
        }
        println!("{name}: {} ({} s, {})", ran.tally, took.as_secs(), machine.log().display());
        Ok((transcript.release, ran))
    }

    /// The result, also where the guest gave none.
    fn judge(&self, transcript: &Transcript, end: &End) -> Ran {
        let (name, failures) = (self.target.clone(), transcript.failures.clone());
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
            (End::Died(words), ..) => format!("the guest died; its kernel's last words:\n{words}"),
        };
        println!("{}: {why}", self.target);
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
