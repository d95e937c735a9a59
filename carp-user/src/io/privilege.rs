//! What the process may do: it says what it lacks, and gives up what it does not need.

use rustix::mm::MlockAllFlags;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
    set_no_new_privs,
};
use std::fs;

/// The capabilities that something needs, and of which some are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "missing {}: run carpd as root, or grant it (systemd: AmbientCapabilities={})",
    .0.join(", "),
    .0.join(" ")
)]
pub struct Missing(Vec<&'static str>);

/// Whether the process has all that carpd needs, with or without XDP: better said at the start and
/// in one go than when an address is to be set.
///
/// # Errors
/// Those that it has not.
pub fn check(xdp: bool) -> Result<(), Missing> {
    let mut missing = missing(&[NET_RAW, NET_ADMIN]);
    if xdp {
        missing.extend(self::missing(&BPF));
    }
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

/// Those that loading and attaching XDP needs and the process has not.
pub(super) fn missing_for_xdp() -> Vec<&'static str> {
    [missing(&BPF), missing(&[NET_ADMIN])].concat()
}

/// Keeps what is needed of what this thread has, and lets no program that it might start get more.
/// Before that it joins group `carp`, to which it gives what that may read.
/// Call it before any other thread is started: capabilities belong to threads.
///
/// # Errors
/// What the kernel says; giving up is always allowed, so it has no reason to.
pub fn give_up() -> rustix::io::Result<()> {
    super::readers::join();
    let has = capabilities(None)?;
    let keep = has.permitted & (NEEDED | also_needed(has.permitted));
    let permitted = keep | has.permitted & (FOR_PROGRAMS | FOR_HASTE);
    set_no_new_privs(true)?;
    set_capabilities(None, CapabilitySets { effective: keep, permitted, inheritable: CapabilitySet::empty() })
}

/// Lets the calling thread start programs as other users, and end them. For the one thread that does.
pub(super) fn raise_for_programs() -> rustix::io::Result<()> {
    let has = capabilities(None)?;
    let effective = has.effective | has.permitted & FOR_PROGRAMS;
    set_capabilities(None, CapabilitySets { effective, ..has })
}

/// Puts the calling thread in front of all others that have no such place (`SCHED_FIFO`), and keeps its memory from being
/// taken. For one that never works for long.
pub(super) fn come_first() -> std::io::Result<()> {
    let has = capabilities(None)?;
    let effective = has.effective | has.permitted & FOR_HASTE;
    set_capabilities(None, CapabilitySets { effective, ..has })?;
    let first = super::raw::schedule_first();
    // No reason to complain: memory is seldom short.
    let _locked = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
    set_capabilities(None, has)?;
    first
}

/// Lets programs that the calling thread starts have `CAP_NET_ADMIN`, if it has that itself; root's have it anyway. For a
/// thread that starts one and ends.
pub(super) fn lend_net_admin() -> rustix::io::Result<()> {
    let has = capabilities(None)?;
    if !has.permitted.contains(CapabilitySet::NET_ADMIN) {
        return Ok(());
    }
    let inheritable = has.inheritable | CapabilitySet::NET_ADMIN;
    set_capabilities(None, CapabilitySets { inheritable, ..has })?;
    configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)
}

/// A capability, by its name in `capabilities(7)`.
struct Capability {
    name: &'static str,
    bit: u32,
    /// `CAP_SYS_ADMIN` includes it.
    is_of_admin: bool,
}

const NET_ADMIN: Capability = Capability { name: "CAP_NET_ADMIN", bit: 12, is_of_admin: false };
const NET_RAW: Capability = Capability { name: "CAP_NET_RAW", bit: 13, is_of_admin: false };
const SYS_ADMIN: u32 = 21;
/// Without `CAP_PERFMON` the verifier guards against speculation and refuses pointers that a loop moves.
const BPF: [Capability; 2] = [
    Capability { name: "CAP_BPF", bit: 39, is_of_admin: true },
    Capability { name: "CAP_PERFMON", bit: 38, is_of_admin: true },
];

fn missing(needed: &[Capability]) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Without /proc the kernel itself will say no.
    let effective = effective.unwrap_or(u64::MAX);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let lacks = |capability: &&Capability| !(has(capability.bit) || capability.is_of_admin && has(SYS_ADMIN));
    needed.iter().filter(lacks).map(|capability| capability.name).collect()
}

/// Links, addresses and forwarding entries; packet sockets; loading XDP, whose verifier wants
/// `PERFMON` for pointers that a loop moves; password files of whichever owner, again on SIGHUP.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Starting programs as other users, and ending those: permitted, and in effect only in the thread that does it.
const FOR_PROGRAMS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

/// A place in front of others and memory that stays: permitted, and in effect only while a thread takes it.
const FOR_HASTE: CapabilitySet = CapabilitySet::SYS_NICE.union(CapabilitySet::IPC_LOCK);

/// Mounting the BPF file system where there is none, and BPF itself where it was granted as
/// `CAP_SYS_ADMIN`; raising the limit of locked memory that maps
/// count against before Linux 5.11.
fn also_needed(has: CapabilitySet) -> CapabilitySet {
    let mut also = CapabilitySet::empty();
    if !has.contains(CapabilitySet::BPF | CapabilitySet::PERFMON) || !super::bpf::is_bpffs_mounted() {
        also |= CapabilitySet::SYS_ADMIN;
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (5, 11) {
        also |= CapabilitySet::SYS_RESOURCE;
    }
    also
}
