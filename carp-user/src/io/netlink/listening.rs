//! Sockets of rtnetlink's events.

use super::super::raw::Ready;
use super::{ROUTE, force_receive_buffer, socket};
use rustix::net::SocketFlags;
use socket2::{SockFilter, SockRef};
use std::io;
use std::os::fd::OwnedFd;

/// A socket of events, for these groups (a mask, bit n-1 for group n), with room for a burst.
/// When that overflows, a read says `ENOBUFS`. From then on the kernel loses everything in silence until
/// the socket has been read empty: whoever reads does that first, and then takes a new look.
pub(in crate::io) fn events(groups: u32) -> io::Result<Ready> {
    Ready::new(listen(groups)?)
}

/// As [`events`], of messages of these two types alone: others wake nobody.
pub(in crate::io) fn events_of([one, other]: [u16; 2], groups: u32) -> io::Result<Ready> {
    const LOAD_HALF: u16 = 0x28;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// `nlmsg_type`, in the machine's order, which the filter reads as the network's.
    const TYPE: u32 = 4;
    let socket = listen(groups)?;
    SockRef::from(&socket).attach_filter(&[
        SockFilter::new(LOAD_HALF, 0, 0, TYPE),
        SockFilter::new(JUMP_EQUAL, 1, 0, one.to_be().into()),
        SockFilter::new(JUMP_EQUAL, 0, 1, other.to_be().into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])?;
    Ready::new(socket)
}

fn listen(groups: u32) -> io::Result<OwnedFd> {
    /// Some thousand events.
    const BURST: usize = 1 << 20;
    let socket = socket(ROUTE, groups, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    force_receive_buffer(&socket, BURST)?;
    Ok(socket)
}
