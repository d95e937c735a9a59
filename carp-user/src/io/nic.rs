//! One link as the kernel describes it at this moment: whether it is up, and what it has counted.

use super::netlink::{Request, Requests, attributes, replies, u32_at};
use carp_common::id::IfIndex;
use std::io;

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its number.
    pub index: IfIndex,
    /// Switched on, and with a carrier.
    pub up: bool,
    /// Frames that came in broken, since the driver was loaded.
    pub rx_errors: u64,
}

const IFINFO_LEN: usize = 16;
/// `IFF_UP` and `IFF_LOWER_UP`.
const UP: u32 = 1 | 1 << 16;
/// Of `rx_errors` in `struct rtnl_link_stats64`.
const RX_ERRORS_AT: usize = 4 * 8;

/// The link of this name in the calling thread's network namespace. Blocks for as long as the kernel needs.
///
/// # Errors
/// `ENODEV` when there is none, and what the kernel says.
pub fn look(name: &str) -> io::Result<Nic> {
    let named = [name.as_bytes(), &[0]].concat();
    let request = Request::new(libc::RTM_GETLINK, 0, &[0; IFINFO_LEN]).with(libc::IFLA_IFNAME, &named);
    let answer = Requests::open()?.query(request)?;
    let found = replies(&answer).find(|reply| reply.kind == libc::RTM_NEWLINK);
    found.and_then(|reply| nic(reply.body)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

fn nic(body: &[u8]) -> Option<Nic> {
    let (index, flags) = (IfIndex(u32_at(body, 4)?), u32_at(body, 8)?);
    let stats = attributes(body.get(IFINFO_LEN..)?).find(|(kind, _)| *kind == libc::IFLA_STATS64);
    let rx_errors = stats.and_then(|(_, stats)| stats.get(RX_ERRORS_AT..)?.first_chunk().copied());
    Some(Nic { index, up: flags & UP == UP, rx_errors: rx_errors.map_or(0, u64::from_ne_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_what_is_not_is_said_so() {
        assert_eq!(look("lo").unwrap().index, IfIndex(1));
        assert_eq!(look("no-such-link").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(nic(&[0; 11]), None, "cut off");
    }
}
