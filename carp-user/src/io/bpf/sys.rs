//! The two bpf(2) commands that aya does not offer, and what the process may do.
#![expect(unsafe_code, reason = "bpf(2) has no safe interface for these commands")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Opens a pinned object.
///
/// # Errors
/// The kernel's: no such pin, no permission.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Attributes::default();
    attributes.words[0] = path.as_ptr().addr().try_into().map_err(io::Error::other)?;
    let fd = bpf(OBJ_GET, &attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Detaches a link at once. Removing its pin alone would do so too, but some time later.
///
/// # Errors
/// The kernel's; a link whose device is gone is detached already.
pub(super) fn detach_link(link: &OwnedFd) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes.words[0] = link.as_raw_fd().try_into().map_err(io::Error::other)?;
    bpf(LINK_DETACH, &attributes).map(|_zero| ())
}

/// Which of the capabilities that XDP needs are missing.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Without /proc the kernel itself will say no.
    let effective = effective.unwrap_or(u64::MAX);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    // Without it the verifier guards against speculation and refuses pointers that a loop moves.
    if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if !has(CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

/// `union bpf_attr`, as long as any kernel's so far; the kernel takes trailing zeros.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    words: [u64; 18],
}

const OBJ_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

fn bpf(command: libc::c_long, attributes: &Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the attributes live over the call and are as long as we say; the two commands read
    // a path pointer or a descriptor from the first eight bytes, both valid while borrowed above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
