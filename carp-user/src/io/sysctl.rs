//! Settings of the kernel, as `sysctl` names them.

use std::io;
use std::path::{Path, PathBuf};

/// The value of a setting, `net.ipv4.ip_forward`, in the calling process's network namespace; none where the kernel
/// has no such setting. Not for names with a device in them, which may have dots.
pub fn read(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(file(name)).ok()?.trim().to_owned())
}

/// Sets one, of a name as for [`read`].
///
/// # Errors
/// What the kernel says.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(file(name), value)
}

fn file(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}
