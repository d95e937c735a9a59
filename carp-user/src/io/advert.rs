//! Frames out and, where XDP does not bring them, advertisements in: packet sockets.

use super::clock::now;
use super::error::{CAP_NET_RAW, Error};
use super::raw::{Ready, bind_packet, ignore_outgoing, packet_address, packet_socket};
use carp_common::id::IfIndex;
use carp_common::time::Instant;
use carp_common::wire::Frame;
use rustix::net::RecvFlags;
use socket2::{SockFilter, Socket};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

/// Sends whole frames on any link.
///
/// They go through the link's queueing discipline, in its highest band (`TC_PRIO_CONTROL`).
/// `PACKET_QDISC_BYPASS` would be shorter by a microsecond, but then a full transmit ring loses the
/// advertisement instead of queueing it, and it would pass by the tc egress program.
#[derive(Debug)]
pub struct Sender(Socket);

impl Sender {
    /// One socket for all links, which receives nothing.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> Result<Self, Error> {
        const TC_PRIO_CONTROL: u32 = 7;
        let opened = packet_socket().and_then(|socket| socket.set_priority(TC_PRIO_CONTROL).map(|()| socket));
        let failed = |source| Error::kernel("opening a packet socket", CAP_NET_RAW, source);
        opened.map(Self).map_err(failed)
    }

    /// Sends one frame; never waits.
    ///
    /// # Errors
    /// The kernel's: `ENETDOWN` for a link that is down, `ENXIO` for one that is gone, `ENOBUFS` or
    /// [`io::ErrorKind::WouldBlock`] when the queue is full.
    pub fn send(&self, link: IfIndex, frame: &Frame) -> io::Result<()> {
        let bytes = frame.bytes();
        let ethertype = bytes.get(12..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
        let sent = self.0.send_to(bytes, &packet_address(link, ethertype)?)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// A frame of IP protocol 112.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Link that it came in by.
    pub link: IfIndex,
    /// When it was read. The kernel's own stamp is of the wall clock, and a clock that is set between
    /// arrival and reading would age a frame by hours; read late, it only makes a backup wait longer.
    pub at: Instant,
    /// From the Ethernet header on, cut at [`Receiver::LONGEST`].
    pub frame: &'a [u8],
}

/// Receives the frames of IP protocol 112 on some links, not our own ones and not those of VLANs on
/// top of them. The kernel holds some hundred frames a link (`net.core.rmem_default`) and loses what
/// comes then.
#[derive(Debug)]
pub struct Receiver {
    sockets: Vec<(IfIndex, Ready)>,
    /// The socket that is looked at first, so that a flooded link does not silence the others.
    first: usize,
    buffer: Box<[u8; Self::LONGEST]>,
}

impl Receiver {
    /// Bytes of the longest frame that is delivered whole. An advertisement has 70 or 90, and up to 40
    /// of IPv4 options.
    pub const LONGEST: usize = 2048;

    /// For the links that XDP does not stand in front of; none is fine, and then nothing ever comes.
    /// Call it inside a tokio runtime.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, and what else the kernel says.
    pub fn open(links: &[IfIndex]) -> Result<Self, Error> {
        let mut receiver = Self { sockets: Vec::new(), first: 0, buffer: Box::new([0; Self::LONGEST]) };
        links.iter().try_for_each(|link| receiver.listen(*link))?;
        Ok(receiver)
    }

    /// Listens on one more link. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Receiver::open`].
    pub fn listen(&mut self, link: IfIndex) -> Result<(), Error> {
        let failed =
            |source| Error::kernel(format!("listening on interface number {link}"), CAP_NET_RAW, source);
        self.sockets.push((link, listen(link).map_err(failed)?));
        Ok(())
    }

    /// Listens on these links, and no others any more.
    pub fn keep(&mut self, links: &BTreeSet<IfIndex>) {
        self.sockets.retain(|(link, _)| links.contains(link));
        self.first = 0;
    }

    /// Waits for the next frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The kernel's; a link that goes down or away is none.
    pub async fn received(&mut self) -> io::Result<Received<'_>> {
        let (link, len) = std::future::poll_fn(|context| self.poll(context)).await?;
        Ok(Received { link, at: now(), frame: self.buffer.get(..len).unwrap_or(&[]) })
    }

    /// The next frame if one is waiting: to look before speaking.
    ///
    /// # Errors
    /// As [`Receiver::received`].
    pub fn waiting(&mut self) -> io::Result<Option<Received<'_>>> {
        let mut found = None;
        for (link, socket) in &self.sockets {
            match read(socket.as_fd(), &mut *self.buffer) {
                Ok(len) => {
                    found = Some((*link, len));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let frame = |(link, len)| Received { link, at: now(), frame: self.buffer.get(..len).unwrap_or(&[]) };
        Ok(found.map(frame))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(IfIndex, usize)>> {
        let count = self.sockets.len();
        for (turn, (link, socket)) in self.sockets.iter().enumerate().cycle().skip(self.first).take(count) {
            let polled = socket.poll_read(context, &mut |fd| read(fd, &mut *self.buffer));
            if let Poll::Ready(result) = polled {
                self.first = turn + 1;
                return Poll::Ready(result.map(|len| (*link, len)));
            }
        }
        Poll::Pending
    }
}

/// A link that goes down or away says so once, as an error that is told by `io/link` already.
fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    for _attempt in 0..2 {
        match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((len, _)) => return Ok(len),
            Err(rustix::io::Errno::NETDOWN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn listen(link: IfIndex) -> io::Result<Ready> {
    let socket = packet_socket()?;
    // Before it is bound, so that no other frame slips in.
    socket.attach_filter(&FILTER)?;
    ignore_outgoing(&socket)?;
    bind_packet(&socket, link)?;
    Ready::new(socket)
}

/// Untagged IPv4 of protocol 112, or IPv6 whose next header is 112. The kernel keeps a VLAN tag beside
/// the frame, so a tagged one looks like any other here.
static FILTER: [SockFilter; 11] = {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`.
    const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
    [
        SockFilter::new(LOAD_WORD, 0, 0, VLAN_TAG_PRESENT),
        SockFilter::new(JUMP_EQUAL, 0, 8, 0),
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(JUMP_EQUAL, 0, 2, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(JUMP_EQUAL, 3, 4, 112),
        SockFilter::new(JUMP_EQUAL, 0, 3, 0x86dd),
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(JUMP_EQUAL, 0, 1, 112),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};
