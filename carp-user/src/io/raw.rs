//! What the safe socket libraries do not offer: a file descriptor that tokio watches, the address of
//! a packet socket, and its options. All `unsafe` of this crate's sockets is here.
#![expect(
    unsafe_code,
    reason = "tokio's AsyncFd, sockaddr_ll and options of packet and netlink sockets have no safe interface"
)]

use carp_common::id::{IfIndex, Mac};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file descriptor that wakes a task when it can be read. It owns the descriptor and never lets
/// it out, which is what makes watching it sound.
///
/// To watch an object that must keep its descriptor (a BPF ring buffer), hand in a duplicate:
/// `Ready::new(object.as_fd().try_clone_to_owned()?)`.
#[derive(Debug)]
pub struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    /// Watches `fd`, which must be non-blocking if [`Ready::read`] is to read from it. Call it
    /// inside a tokio runtime with IO enabled; outside of one it panics.
    ///
    /// # Errors
    /// The kernel's, from `epoll_ctl`: the descriptor cannot be watched (a regular file).
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        // SAFETY: the OwnedFd is open, moves into the AsyncFd, is never handed out by value or
        // mutably, and its `as_raw_fd` always returns the same descriptor.
        let watched = unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Waits until `read` yields something else than [`io::ErrorKind::WouldBlock`]. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// What `read` returns.
    pub async fn read<T>(&self, mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        std::future::poll_fn(|context| self.poll_read(context, &mut read)).await
    }

    /// As [`Ready::read`], for those who wait for several at once. Only the last task is woken.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn poll_read<T>(
        &self,
        context: &mut Context<'_>,
        read: &mut impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            if let Ok(result) = guard.try_io(|fd| read(fd.get_ref().as_fd())) {
                return Poll::Ready(result);
            }
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Lowest of the real-time priorities for the calling thread, `SCHED_FIFO`, and timers that are not put off; what it starts
/// has neither.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`.
pub fn schedule_first() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: it reads the one value, and changes how this thread is scheduled.
    let code = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const priority)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives memory that nobody uses back to the kernel, which an allocator keeps for the next time: after something big that is
/// done once.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches what is free, and nothing else.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A packet socket for whole frames, non-blocking, on no link yet: it receives nothing until
/// [`bind_packet`], so a filter can be put in place before.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`.
pub fn packet_socket() -> io::Result<Socket> {
    Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(0)))
}

/// Starts receiving every protocol on one link.
///
/// # Errors
/// `ENODEV` when the link is gone.
pub fn bind_packet(socket: &Socket, link: IfIndex) -> io::Result<()> {
    const ETH_P_ALL: u16 = 3;
    socket.bind(&packet_address(link, ETH_P_ALL)?)
}

/// The address of a packet socket: a link, and the EtherType of what is sent or received.
///
/// # Errors
/// When the link's number is beyond what the kernel counts to.
pub fn packet_address(link: IfIndex, ethertype: u16) -> io::Result<SockAddr> {
    const LEN: libc::socklen_t = 20;
    const { assert!(size_of::<libc::sockaddr_ll>() == 20) };
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: number(link)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the storage is zeroed, larger than and aligned for a sockaddr_ll, which is written whole;
    // the length is that of what was written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, len| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *len = LEN;
            Ok(())
        })
    }?;
    Ok(address)
}

/// Keeps what this machine sends itself out of a packet socket.
///
/// # Errors
/// The kernel's; before Linux 4.20 `ENOPROTOOPT`.
pub fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    let on: c_int = 1;
    set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, on)
}

/// Puts a multicast MAC into the link's receive filter for as long as the socket is open.
///
/// # Errors
/// `ENODEV` when the link is gone.
pub fn join_mac(socket: &Socket, link: IfIndex, group: Mac) -> io::Result<()> {
    let [a, b, c, d, e, f] = group.0;
    let request = libc::packet_mreq {
        mr_ifindex: number(link)?,
        mr_type: 0, // PACKET_MR_MULTICAST
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
}

/// Has the kernel answer a refused request with its header only, not with all of it.
///
/// # Errors
/// The kernel's; before Linux 4.3 `ENOPROTOOPT`.
pub fn cap_acknowledgements(netlink: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    set_option(netlink, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, on)
}

/// Has no program that this process starts get files that were open when it started. What it opens itself it does not pass on
/// anyway. For the start, before there are other threads.
pub fn keep_open_files_from_programs() {
    let entries = std::fs::read_dir("/proc/self/fd").map(|entries| entries.flatten().collect::<Vec<_>>());
    let numbers = entries.unwrap_or_default().into_iter();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<c_int>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: it is borrowed for one call, which changes no descriptor that somebody else counts on; one that is closed
        // is an error.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _closed = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

/// AF_PACKET, in the width of `sll_family`.
const AF_PACKET: u16 = 17;

fn number(link: IfIndex) -> io::Result<c_int> {
    c_int::try_from(link.0).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

/// `T` is what the option takes: plain old data without pointers.
fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `len` bytes from `value`, which lives until after the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
