//! The two bpf(2) commands that aya does not offer.
#![expect(unsafe_code, reason = "bpf(2) has no safe interface for these commands")]

use std::ffi::CString;
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

/// `union bpf_attr`, as long as any kernel's so far; the kernel takes trailing zeros.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    words: [u64; 18],
}

const OBJ_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;

fn bpf(command: libc::c_long, attributes: &Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the attributes live over the call and are as long as we say; the two commands read
    // a path pointer or a descriptor from the first eight bytes, both valid while borrowed above.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
