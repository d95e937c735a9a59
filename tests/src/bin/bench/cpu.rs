//! Who spent how much of which CPU.

use anyhow::{Context, Result};
use carp_common::time::Span;
use rustix::process::Pid;
use rustix::thread::CpuSet;
use std::fs;

/// What a thread has spent since its start.
pub fn of_thread(thread: u32) -> Result<Span> {
    let path = format!("/proc/{thread}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Ok(Span::nanos(nanos.with_context(|| format!("no time in {path}"))?))
}

/// What a process has spent since its start, on all of its threads that still run.
pub fn of_process(process: u32) -> Result<Span> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))?.flatten();
    let threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    threads.map(of_thread).try_fold(Span::ZERO, |sum, spent| Ok(sum + spent?))
}

/// Keeps a thread, or the calling one, on a CPU. Without a second CPU both sides share the first.
pub fn keep_on(thread: Option<u32>, cpu: usize) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(cpu % cpus);
    let thread = thread.map(i32::try_from).transpose()?.and_then(Pid::from_raw);
    rustix::thread::sched_setaffinity(thread, &set).context("choosing a CPU")
}
