//! Settings of the kernel, as `sysctl` names them.

use std::path::Path;

/// The value of a setting, `net.ipv4.ip_forward`, in the calling process's network namespace; none where the kernel
/// has no such setting. Not for names with a device in them, which may have dots.
pub fn read(name: &str) -> Option<String> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
