//! What the kernel has to have room for, and what would disturb.

use anyhow::{Context, Result};
use carp_tests::lab::flows::Room;
use std::fs;

/// What `nf_conntrack_max` and `nf_conntrack_buckets` have to be for all that is made here.
const ROOM: [(&str, u64); 2] = [("nf_conntrack_max", 1 << 21), ("nf_conntrack_buckets", 1 << 19)];

/// Makes room, as long as it is kept.
pub fn make() -> Result<Room> {
    if is_listened_to()? {
        eprintln!("warning: a program outside of the laboratory listens to conntrack events: all is slower");
    }
    Room::set(&ROOM)
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
