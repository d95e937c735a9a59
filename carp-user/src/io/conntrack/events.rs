//! What happens in the table, as it happens.

use super::number::GROUPS;
use super::parse::{Message, messages};
use super::{failed, open, port, sieve};
use crate::io::error::Error;
use crate::io::netlink::{DATAGRAM, force_receive_buffer};
use crate::io::raw::Ready;
use crate::proto::sync::filter::Filter;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SocketFlags};
use socket2::SockRef;
use std::io;
use std::os::fd::AsFd;

/// Something from the socket of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per event")]
pub enum Item {
    /// Something changed.
    Message(Message),
    /// Events were lost before this one: only a new look at the whole table tells what is in it. All that happens from
    /// here on is told again.
    Overrun,
}

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Bytes that may wait to be read. An event takes about one kilobyte there, whatever its length. Beyond that events
    /// are lost, and [`Item::Overrun`] says so.
    pub receive_buffer: usize,
    /// Ports of sockets whose doing is not told: those of [`Injector::port`](super::Injector::port). The kernel leaves
    /// it out, so it costs no wake-up. At most 64; more are told.
    pub deaf_to: Vec<u32>,
    /// Flows that it never carries are not told, as far as that shows in every event of theirs and never changes: by
    /// addresses, protocol and port. This costs no wake-up either. What is told may still be some that it does not carry.
    pub filter: Option<Filter>,
}

impl Default for Listening {
    fn default() -> Self {
        Self { receive_buffer: 64 << 20, deaf_to: Vec::new(), filter: None }
    }
}

/// The events of flows and expectations of one network namespace. Flows that the kernel began to track while
/// `nf_conntrack_events` was 0 have none.
#[derive(Debug)]
pub struct Events {
    socket: Ready,
    buffer: Vec<u8>,
    /// Datagrams that can still be from before a loss; none without a loss.
    stale: Option<usize>,
    /// Datagrams that the receive buffer can hold.
    room: usize,
}

impl Events {
    /// Listens from now on, in the network namespace of the calling thread. Call it inside a tokio runtime with IO
    /// enabled; outside of one it panics.
    ///
    /// # Errors
    /// [`Error::Privilege`] without `CAP_NET_ADMIN`, [`Error::Unsupported`] without ctnetlink.
    pub fn open(listening: &Listening) -> Result<Self, Error> {
        let socket = open(0, SocketFlags::NONBLOCK)?;
        let begin = move || -> io::Result<Self> {
            force_receive_buffer(&socket, listening.receive_buffer)?;
            // Deaf first, then a member: what comes before the filter is there would be told.
            SockRef::from(&socket)
                .attach_filter(&sieve::program(&listening.deaf_to, listening.filter.as_ref()))?;
            rustix::net::bind(&socket, &SocketAddrNetlink::new(port(&socket)?, GROUPS))?;
            let room = rustix::net::sockopt::socket_recv_buffer_size(&socket)? / LEAST_OF_A_DATAGRAM + 1;
            let socket = Ready::new(socket)?;
            Ok(Self { socket, buffer: vec![0; DATAGRAM], stale: None, room })
        };
        begin().map_err(|source| failed("listening to conntrack events", source))
    }

    /// Stops listening, or begins again. While no socket of the machine listens the kernel composes no events, which
    /// nearly halves the work of putting flows into the table: right for a node that only follows another one. What is
    /// missed meanwhile is not told later.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&mut self, on: bool) -> io::Result<()> {
        let groups = if on { GROUPS } else { 0 };
        rustix::net::bind(&self.socket, &SocketAddrNetlink::new(port(&self.socket)?, groups))?;
        Ok(())
    }

    /// Waits until something has happened, and hands over all that waits, at most some thousand items, so that a flood
    /// does not keep the caller from its other work. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the kernel says, but for losses.
    pub async fn next(&mut self, take: &mut impl FnMut(Item)) -> io::Result<()> {
        let Self { socket, buffer, stale, room } = self;
        socket.read(|fd| read(fd, buffer, stale, *room, take)).await
    }

    /// Hands over what waits, as [`Events::next`], without waiting. False when there was nothing.
    ///
    /// # Errors
    /// What the kernel says, but for losses.
    pub fn waiting(&mut self, take: &mut impl FnMut(Item)) -> io::Result<bool> {
        let Self { socket, buffer, stale, room } = self;
        match read(socket.as_fd(), buffer, stale, *room, take) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Datagrams of one call; each is an event, or a few.
const BATCH: usize = 1024;
/// Bytes of the receive buffer that the kernel counts for the smallest datagram (`SKB_TRUESIZE`), or fewer.
const LEAST_OF_A_DATAGRAM: usize = 512;

/// Until the socket is empty or the batch is full. `WouldBlock` if there was nothing at all.
fn read(
    fd: impl AsFd,
    buffer: &mut [u8],
    stale: &mut Option<usize>,
    room: usize,
    take: &mut impl FnMut(Item),
) -> io::Result<()> {
    let mut is_idle = true;
    for _ in 0..BATCH {
        match rustix::net::recv(&fd, &mut *buffer, RecvFlags::empty()) {
            Ok((len, _)) => {
                is_idle = false;
                let datagram = buffer.get(..len).unwrap_or_default();
                messages(datagram).for_each(|message| take(Item::Message(message)));
                *stale = stale.map(|left| left.saturating_sub(1));
                if *stale == Some(0) {
                    *stale = None;
                    take(Item::Overrun);
                }
            }
            // The kernel says it once, and then loses all until the socket has been read empty.
            Err(Errno::NOBUFS) => *stale = Some(room),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if stale.take().is_some() => {
                take(Item::Overrun);
                return Ok(());
            }
            Err(Errno::AGAIN) if !is_idle => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
