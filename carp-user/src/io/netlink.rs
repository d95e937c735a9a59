//! The little of netlink that the shells need, byte by byte: a message, a request socket that
//! blocks until the kernel has answered, and a socket of events.
//!
//! Unknown message types and attributes are passed over, so a newer kernel cannot break a parse.
//! A request takes effect inside `send`, under the kernel's lock for links, where it may wait for
//! somebody else's slow driver: never make one on the thread that advertises.

mod listening;

pub(super) use listening::{events, events_of};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Bytes of the largest datagram that the kernel makes (`NLMSG_GOODSIZE`, and 32 KiB in a dump).
pub(super) const DATAGRAM: usize = 1 << 16;
/// `NLM_F_CREATE | NLM_F_EXCL`: make it, and say `EEXIST` when it is there.
pub(super) const CREATE: u16 = MAKE | 0x200;
/// `NLM_F_CREATE`: make it if it is not there.
pub(super) const MAKE: u16 = 0x400;
/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 1;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(super) const DONE: u16 = 3;

/// The family of IPv4 in the kernel's messages.
pub(super) const AF_INET: u8 = 2;
/// The family of forwarding entries.
pub(super) const AF_BRIDGE: u8 = 7;
/// The family of IPv6.
pub(super) const AF_INET6: u8 = 10;

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// The socket whose request caused it; 0 for the kernel.
    pub(super) port: u32,
    /// After the netlink header.
    pub(super) body: &'a [u8],
}

/// The messages of one or more datagrams; what is cut off at the end is passed over.
pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let reply = Reply {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            body: bytes.get(HEADER..len)?,
        };
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some(reply)
    })
}

/// Attributes as (type, value); what is cut off at the end is passed over.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_TYPE;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Two bytes in the machine's order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// Four bytes in the machine's order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An address of either family, by its length.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().copied().map(IpAddr::from),
        16 => value.first_chunk::<16>().copied().map(IpAddr::from),
        _ => None,
    }
}

/// A message under construction at the end of a buffer that is used again and again. Without [`Message::end`]
/// the buffer is as it was before.
#[derive(Debug)]
pub(super) struct Message<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    is_whole: bool,
}

impl<'a> Message<'a> {
    /// A request of this type, with these flags besides the usual one, and this family header.
    pub(super) fn begin(bytes: &'a mut Vec<u8>, kind: u16, flags: u16, sequence: u32, header: &[u8]) -> Self {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(header);
        Self { bytes, start, is_whole: false }
    }

    /// One more attribute, of at most a few dozen bytes.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        let ([a, b], [c, d]) = (len.to_ne_bytes(), kind.to_ne_bytes());
        self.bytes.extend_from_slice(&[a, b, c, d]);
        self.bytes.extend_from_slice(value);
        let padding = value.len().next_multiple_of(ALIGN) - value.len();
        self.bytes.extend_from_slice([0; ALIGN].get(..padding).unwrap_or_default());
    }

    /// An attribute made of attributes.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        write_at(self.bytes, start, &len.to_ne_bytes());
    }

    /// Makes it whole.
    pub(super) fn end(mut self) {
        let len = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        write_at(self.bytes, self.start, &len.to_ne_bytes());
        self.is_whole = true;
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.bytes.truncate(self.start);
        }
    }
}

fn write_at(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A request under construction.
#[derive(Clone, Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// Of this type, with these flags besides the usual ones, and this family header.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self { kind, flags, body: header.to_vec() }
    }

    /// With one more attribute, of at most a few dozen bytes.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend(len.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(ALIGN), 0);
        self
    }

    pub(super) fn bytes(&self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        bytes
    }
}

/// A socket for requests. Blocks, for at most five seconds an answer.
#[derive(Debug)]
pub(super) struct Requests {
    socket: OwnedFd,
    sequence: u32,
}

impl Requests {
    /// To rtnetlink, in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        Self::open_to(ROUTE)
    }

    /// To another part of the kernel.
    pub(super) fn open_to(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket(protocol, 0, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has the kernel do it.
    pub(super) fn ask(&mut self, request: Request) -> io::Result<()> {
        self.query(request).map(|_nothing| ())
    }

    /// Has the kernel do all of these, in this order, many in one call. What it refuses does not keep the rest from
    /// being done: a result for each.
    pub(super) fn ask_all(&mut self, requests: &[Request]) -> Vec<io::Result<()>> {
        requests.chunks(AT_ONCE).flat_map(|portion| self.ask_portion(portion)).collect()
    }

    fn ask_portion(&mut self, requests: &[Request]) -> Vec<io::Result<()>> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        for (number, request) in (1..).zip(requests) {
            self.sequence = self.sequence.wrapping_add(1);
            // The kernel answers what it refuses, and the last one: then it is done with all.
            let ack = if number == requests.len() { ACK } else { 0 };
            bytes.extend(Request { flags: request.flags | ack, ..request.clone() }.bytes(self.sequence));
        }
        let answer = match self.exchange(&bytes) {
            Ok(answer) => answer,
            // Which of them are done is not known.
            Err(error) => return requests.iter().map(|_| Err(error.kind().into())).collect(),
        };
        let mut results: Vec<io::Result<()>> = requests.iter().map(|_| Ok(())).collect();
        for reply in replies(&answer).filter(|reply| reply.kind == ERROR) {
            let at = usize::try_from(reply.sequence.wrapping_sub(first)).ok();
            if let Some(result) = at.and_then(|at| results.get_mut(at)) {
                *result = verdict(&reply);
            }
        }
        results
    }

    /// Has the kernel answer it: the whole answer, for [`replies`].
    pub(super) fn query(&mut self, request: Request) -> io::Result<Vec<u8>> {
        self.answer(&Request { flags: request.flags | ACK, ..request })
    }

    /// Has the kernel list it: the whole answer, for [`replies`]. Asks again, at most eight times,
    /// while others change the list under the kernel's hands.
    pub(super) fn dump(&mut self, kind: u16, header: &[u8]) -> io::Result<Vec<u8>> {
        for _attempt in 0..8 {
            let list = self.answer(&Request::new(kind, DUMP, header))?;
            if !replies(&list).any(|reply| reply.flags & DUMP_INTERRUPTED != 0) {
                return Ok(list);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    fn answer(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let answer = self.exchange(&request.bytes(self.sequence))?;
        let end = replies(&answer).find(|reply| self.ends(reply));
        end.map_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()), |end| verdict(&end))?;
        Ok(answer)
    }

    /// Sends, and reads until the last request sent is answered.
    fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        rustix::net::send(&self.socket, bytes, SendFlags::empty())?;
        let mut answer = Vec::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let (len, _) = rustix::net::recv(&self.socket, datagram.as_mut_slice(), RecvFlags::empty())?;
            let datagram = datagram.get(..len).unwrap_or(&[]);
            answer.extend(datagram);
            if replies(datagram).any(|reply| self.ends(&reply)) {
                return Ok(answer);
            }
        }
    }

    /// An earlier request that timed out may still be answered.
    const fn ends(&self, reply: &Reply<'_>) -> bool {
        reply.sequence == self.sequence && matches!(reply.kind, ERROR | DONE)
    }
}

/// Requests in one call of the kernel: as many refusals have room in the socket's buffer.
const AT_ONCE: usize = 64;

/// A receive buffer of this many bytes; without `CAP_NET_ADMIN` of as many as the system allows.
pub(super) fn force_receive_buffer(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    if set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        set_socket_recv_buffer_size(socket, bytes)?;
    }
    Ok(())
}

/// A socket in the network namespace of the calling thread, for these groups (a mask, bit n-1 for group n).
pub(super) fn socket(protocol: Option<Protocol>, groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

const HEADER: usize = 16;
const ALIGN: usize = 4;
/// `NETLINK_ROUTE` is 0, which stands for itself.
const ROUTE: Option<Protocol> = None;
/// `NLM_F_ACK`.
const ACK: u16 = 4;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// Both an error and the end of a dump carry an error number, negative, or zero for success.
pub(super) fn verdict(reply: &Reply<'_>) -> io::Result<()> {
    match reply.body.first_chunk().copied().map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let request = Request::new(20, CREATE, &[1; 8]).with(2, &[10, 0, 0, 1]).with(11, &[112]);
        let bytes = request.bytes(7);
        let replies: Vec<_> = replies(&bytes).collect();
        assert_eq!(replies.len(), 1);
        assert_eq!((replies[0].kind, replies[0].flags, replies[0].sequence), (20, CREATE | REQUEST, 7));
        let attributes: Vec<_> = attributes(&replies[0].body[8..]).collect();
        assert_eq!(attributes, [(2, &[10, 0, 0, 1][..]), (11, &[112][..])]);
    }

    #[test]
    fn a_message_is_written_whole_or_not_at_all_and_nests_have_their_length() {
        let mut bytes = vec![7];
        drop(Message::begin(&mut bytes, 20, 0, 1, &[0; 4]));
        assert_eq!(bytes, [7]);
        bytes.clear();
        let mut message = Message::begin(&mut bytes, 20, MAKE, 9, &[2, 0, 0, 0]);
        message.nest(1, |message| {
            message.put(3, &[1, 2, 3]);
            message.nest(4, |_| {});
        });
        message.put(5, &[4]);
        message.end();
        let reply = replies(&bytes).next().unwrap();
        assert_eq!((reply.kind, reply.flags, reply.sequence, reply.port), (20, MAKE | REQUEST, 9, 0));
        let outer: Vec<_> = attributes(&reply.body[4..]).collect();
        assert_eq!((outer[0].0, outer[1]), (1, (5, &[4][..])));
        assert_eq!(attributes(outer[0].1).collect::<Vec<_>>(), [(3, &[1, 2, 3][..]), (4, &[][..])]);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn bytes_cut_off_anywhere_neither_panic_nor_loop() {
        let mut bytes = Request::new(20, 0, &[0; 8]).with(1, &[1, 2, 3]).bytes(1);
        bytes.extend(Request::new(21, 0, &[0; 8]).bytes(2));
        for len in 0..bytes.len() {
            let part = &bytes[..len];
            assert!(replies(part).count() <= 1);
            assert!(attributes(part).count() <= len);
        }
        assert_eq!(replies(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
