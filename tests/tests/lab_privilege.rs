//! A running daemon has the capabilities that it needs, in every thread, and no others.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::kernel::counts_bpf_as_locked;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Purpose, clock};

const PATIENCE: Span = Span::secs(5);
/// Bits of `capabilities(7)`: SYS_RESOURCE, where BPF counts against a limit that has to be raised;
const TO_RAISE_A_LIMIT: u64 = 1 << 24;
/// DAC_READ_SEARCH, NET_ADMIN, NET_RAW, PERFMON, BPF.
const NEEDED: u64 = 1 << 2 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// KILL, SETGID, SETUID: permitted, and in effect in the thread alone that starts programs for tracks.
const FOR_PROGRAMS: u64 = 1 << 5 | 1 << 6 | 1 << 7;

/// IPC_LOCK, SYS_NICE: permitted, and in effect only while detection takes its place in front of others.
const FOR_HASTE: u64 = 1 << 14 | 1 << 23;

#[test]
fn every_thread_has_given_up_what_it_does_not_need() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().detecting(5))?;
    let threads = format!("/proc/{}/task", carpd.process()?.id());
    let needed = if counts_bpf_as_locked() { NEEDED | TO_RAISE_A_LIMIT } else { NEEDED };
    // Detection takes its place as its thread begins, and gives up then what that took.
    clock::wait_for("threads with no more than they need", PATIENCE, || {
        excess(&threads, needed).is_ok_and(|excess| excess.is_none()).then_some(())
    })
    .with_context(|| format!("{:?}", excess(&threads, needed)))?;
    assert!(std::fs::read_dir(threads)?.count() >= 3, "the loop, the address applier and detection");
    Ok(())
}

/// A thread that has more than it needs, and what.
fn excess(threads: &str, needed: u64) -> Result<Option<String>> {
    for thread in std::fs::read_dir(threads)? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        for (set, besides) in [("CapEff", 0), ("CapPrm", FOR_PROGRAMS | FOR_HASTE), ("CapInh", 0)] {
            let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
            let bits = u64::from_str_radix(line.context("a set of capabilities")?, 16)?;
            if bits & !(needed | besides) != 0 || !status.contains("NoNewPrivs:\t1") {
                return Ok(Some(format!("{set} {bits:x} in {status}")));
            }
        }
    }
    Ok(None)
}
