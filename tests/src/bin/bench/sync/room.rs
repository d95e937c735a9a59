//! What the kernel has to have room for, and what would disturb.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

const SETTINGS: &str = "/proc/sys/net/netfilter";
/// What `nf_conntrack_max` and `nf_conntrack_buckets` have to be for all that is made here.
const ROOM: [(&str, u64); 2] = [("nf_conntrack_max", 1 << 21), ("nf_conntrack_buckets", 1 << 19)];

/// Settings of the whole machine, put back at the end.
pub struct Room(Vec<(&'static str, String)>);

impl Room {
    pub fn make() -> Result<Self> {
        if is_listened_to()? {
            eprintln!(
                "warning: a program outside of the laboratory listens to conntrack events: all is slower"
            );
        }
        let mut before = Vec::new();
        for (name, value) in ROOM {
            let file = Path::new(SETTINGS).join(name);
            before.push((name, fs::read_to_string(&file).with_context(|| file.display().to_string())?));
            fs::write(&file, value.to_string()).with_context(|| file.display().to_string())?;
        }
        Ok(Self(before))
    }
}

/// Whether a socket of this network namespace belongs to a group of netfilter's. Debian starts a conntrackd, say, when
/// its package is installed; one listener has all kernels of the machine compose events.
fn is_listened_to() -> Result<bool> {
    const NETFILTER: &str = "12";
    let sockets = fs::read_to_string("/proc/net/netlink").context("/proc/net/netlink")?;
    let is_member = |line: &str| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some(NETFILTER) && words.nth(1).is_some_and(|groups| groups != "00000000")
    };
    Ok(sockets.lines().any(is_member))
}

impl Drop for Room {
    fn drop(&mut self) {
        for (name, value) in &self.0 {
            if let Err(error) = fs::write(Path::new(SETTINGS).join(name), value) {
                eprintln!("warning: {name} is not what it was: {error}");
            }
        }
    }
}
