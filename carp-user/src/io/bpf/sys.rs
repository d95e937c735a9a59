//! The bpf(2) commands that aya does not offer.
#![expect(unsafe_code, reason = "bpf(2) has no safe interface for these commands")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;
use carp_common::id::IfIndex;
use zerocopy::FromZeros;

/// What a pinned object is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// A map, to read it: so may whoever may read the pin.
    Read,
    /// Anything, to change it.
    Full,
}
use super::tc::Way;

/// Opens a pinned object.
///
/// # Errors
/// The kernel's: no such pin, no permission.
pub(super) fn open_pin(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Attributes::default();
    attributes.words[0] = path.as_ptr().addr().try_into().map_err(io::Error::other)?;
    attributes.words[1] = match access {
        Access::Read => pair(0, BPF_F_RDONLY),
        Access::Full => 0,
    };
    let fd = bpf(OBJ_GET, &mut attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel tells of an open object: "key:\tvalue", a line each. Empty where there is no /proc.
pub(super) fn fdinfo(object: &OwnedFd) -> String {
    fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", object.as_raw_fd())).unwrap_or_default()
}

/// The value of a key there.
pub(super) fn field<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Detaches a link at once. Removing its pin alone would do so too, but some time later.
///
/// # Errors
/// The kernel's; a link whose device is gone is detached already.
pub(super) fn detach_link(link: &OwnedFd) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes.words[0] = link.as_raw_fd().try_into().map_err(io::Error::other)?;
    bpf(LINK_DETACH, &mut attributes).map(|_zero| ())
}

/// The programs at one of a link's tcx hooks, in this network namespace, by id. (aya's own query asks
/// for each program too, which takes CAP_SYS_ADMIN.)
///
/// # Errors
/// The kernel's: no such hook, no such link, more programs than it takes.
pub(super) fn tcx(way: Way, link: IfIndex) -> io::Result<Vec<u32>> {
    /// As many as the kernel lets one hook have.
    const MOST: usize = 64;
    let hook = match way {
        Way::In => TCX_INGRESS,
        Way::Out => TCX_EGRESS,
    };
    let mut programs = vec![0_u32; MOST];
    let mut attributes = Attributes::default();
    attributes.words[0] = pair(link.0, hook);
    attributes.words[2] = programs.as_mut_ptr().expose_provenance().try_into().map_err(io::Error::other)?;
    attributes.words[3] = pair(u32::try_from(MOST).map_err(io::Error::other)?, 0);
    bpf(PROG_QUERY, &mut attributes)?;
    programs.retain(|program| *program != 0);
    Ok(programs)
}

/// Sets entries of an array map, in this order, in one call.
///
/// # Errors
/// The kernel's, for the first entry that it does not take; those after it are not looked at.
pub(super) fn update<V: Pod>(map: BorrowedFd<'_>, keys: &[u32], values: &[V]) -> io::Result<()> {
    let count = keys.len().min(values.len());
    if count == 0 {
        return Ok(());
    }
    let mut attributes = Attributes::default();
    attributes.words[2] = keys.as_ptr().expose_provenance().try_into().map_err(io::Error::other)?;
    attributes.words[3] = values.as_ptr().expose_provenance().try_into().map_err(io::Error::other)?;
    let file = u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?;
    attributes.words[4] = pair(u32::try_from(count).map_err(io::Error::other)?, file);
    bpf(MAP_UPDATE_BATCH, &mut attributes).map(|_zero| ())
}

/// All entries of an array map that has so many, in one call.
///
/// # Errors
/// The kernel's; fewer entries.
pub(super) fn read<V: Pod + FromZeros>(map: BorrowedFd<'_>, entries: u32) -> io::Result<Vec<V>> {
    let mut values = vec![V::new_zeroed(); entries as usize];
    let mut keys = vec![0_u32; entries as usize];
    let mut last = 0_u32;
    let mut attributes = Attributes::default();
    attributes.words[1] = (&raw mut last).expose_provenance().try_into().map_err(io::Error::other)?;
    attributes.words[2] = keys.as_mut_ptr().expose_provenance().try_into().map_err(io::Error::other)?;
    attributes.words[3] = values.as_mut_ptr().expose_provenance().try_into().map_err(io::Error::other)?;
    let file = u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?;
    attributes.words[4] = pair(entries, file);
    bpf(MAP_LOOKUP_BATCH, &mut attributes)?;
    Ok(values)
}

/// `union bpf_attr`, as long as any kernel's so far; the kernel takes trailing zeros.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    words: [u64; 18],
}

const OBJ_GET: libc::c_long = 7;
const BPF_F_RDONLY: u32 = 1 << 3;
const PROG_QUERY: libc::c_long = 16;
/// Linux 5.6, as the next.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const LINK_DETACH: libc::c_long = 34;
/// `BPF_TCX_INGRESS`.
const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
const TCX_EGRESS: u32 = 47;

/// Two fields that lie side by side.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the attributes live over the call and are as long as we say, and may be written.
    // What they point to, a path, keys with values, or room for as many as they say, is borrowed above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
