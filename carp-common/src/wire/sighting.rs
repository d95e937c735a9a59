//! An advert as it was seen in a frame, well-formed, and nothing but bytes: XDP puts it into a map and
//! judges it there.

use super::annex::Annex;
use super::carp::{self, Carp, Start};
use super::eth::{self, Ethernet};
use super::ip::{self, Ipv4, Ipv6};
use super::{Bytes, Refusal, sum};
use crate::id::Vhid;
use crate::pace::Pace;
use core::net::Ipv4Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What an advert says, where it comes from and where it goes to: all that strict authentication
/// covers, as the bytes that it hashes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Said {
    /// The first six bytes of the header: version and type, vhid, skew, length of authentication data,
    /// demotion, base.
    pub head: [u8; 6],
    /// The sender's counter.
    pub counter: [u8; 8],
    /// Address of the sender; IPv4 is mapped, `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    /// The group, or one node's address, likewise.
    pub destination: [u8; 16],
    /// The counter of the greeting that this answers; zero when it answers none.
    pub echo: [u8; 8],
}

/// An advert, not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Sighting {
    /// What it says.
    pub said: Said,
    /// CARP's digest, or what stands in its place.
    pub digest: [u8; 20],
    /// The strict MAC, if it has one.
    pub mac: [u8; 20],
    /// Version of IP, 4 or 6.
    version: u8,
    /// [`Sighting::STRICT`], [`Sighting::BOTH`], or 0: signed as CARP does.
    signed: u8,
}

impl Said {
    /// Which virtual host; 0 is none.
    #[inline(always)]
    pub const fn vhid(&self) -> u8 {
        self.head[1]
    }

    /// What the sender competes with.
    #[inline(always)]
    pub const fn pace(&self) -> Pace {
        Pace { base: self.head[5], skew: self.head[2] }
    }

    /// Byte 4.
    #[inline(always)]
    pub const fn demote(&self) -> u8 {
        self.head[4]
    }

    /// The counter as a number.
    #[inline(always)]
    pub const fn counter(&self) -> u64 {
        u64::from_be_bytes(self.counter)
    }

    /// The echo as a number.
    #[inline(always)]
    pub const fn echo(&self) -> u64 {
        u64::from_be_bytes(self.echo)
    }
}

impl Sighting {
    /// Nothing seen: room for an advert.
    pub const BLANK: Self = zerocopy::transmute!([0_u8; size_of::<Self>()]);

    const STRICT: u8 = 1;
    const BOTH: u8 = 2;

    /// Reads a frame from its Ethernet header on. `None`: no IP packet of protocol 112 directly in
    /// Ethernet, so nothing that concerns us (tagged frames and IPv6 extension headers included).
    /// Without an `Ok` what it holds means nothing.
    #[inline(always)]
    pub fn take(&mut self, frame: &(impl Bytes + ?Sized)) -> Option<Result<(), Refusal>> {
        match frame.load::<Ethernet>(0)?.ethertype.get() {
            eth::IPV4 => self.take_v4(frame),
            eth::IPV6 => self.take_v6(frame),
            _ => None,
        }
    }

    /// Whether it came by IPv4.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.version == 4
    }

    /// Whether the strict MAC stands in place of CARP's digest.
    #[inline(always)]
    pub const fn is_strict(&self) -> bool {
        self.signed == Self::STRICT
    }

    /// Whether it has a strict MAC, in place of CARP's digest or beside it.
    #[inline(always)]
    pub const fn has_mac(&self) -> bool {
        self.signed != 0
    }

    /// Whether it is for nodes of ours only: a claim that is announced, not made.
    #[inline(always)]
    pub fn is_announcement(&self) -> bool {
        if self.is_v4() {
            let [.., a, b, c, d] = self.said.destination;
            [a, b, c, d] == ip::OUR_GROUP_V4.octets()
        } else {
            self.said.destination == ip::OUR_GROUP_V6.octets()
        }
    }

    /// Whether it is for everybody.
    #[inline(always)]
    pub fn is_to_group(&self) -> bool {
        if self.is_v4() {
            let [.., first, b, c, d] = self.said.destination;
            first & 0xf0 == 0xe0 || [first, b, c, d] == Ipv4Addr::BROADCAST.octets()
        } else {
            self.said.destination[0] == 0xff
        }
    }

    #[inline(always)]
    fn take_v4(&mut self, frame: &(impl Bytes + ?Sized)) -> Option<Result<(), Refusal>> {
        let header = frame.load::<Ipv4>(IP)?;
        if header.version() != 4 || header.protocol != ip::CARP {
            return None;
        }
        Some(self.judge_v4(header, frame))
    }

    #[inline(always)]
    fn judge_v4(&mut self, header: &Ipv4, frame: &(impl Bytes + ?Sized)) -> Result<(), Refusal> {
        let Payload { at, len } = payload_v4(header, frame).ok_or(Refusal::BadLen)?;
        if header.is_fragment() {
            return Err(Refusal::Fragment);
        }
        let carp = check(frame, at, len, header.ttl)?;
        if !is_header_intact(frame, header) {
            return Err(Refusal::BadIpSum);
        }
        self.version = 4;
        self.said.source = ip::mapped(Ipv4Addr::from_octets(header.source).into());
        self.said.destination = ip::mapped(Ipv4Addr::from_octets(header.destination).into());
        self.fill(carp, frame, at, len);
        Ok(())
    }

    #[inline(always)]
    fn take_v6(&mut self, frame: &(impl Bytes + ?Sized)) -> Option<Result<(), Refusal>> {
        let header = frame.load::<Ipv6>(IP)?;
        if header.version() != 6 || header.next_header != ip::CARP {
            return None;
        }
        Some(self.judge_v6(header, frame))
    }

    #[inline(always)]
    fn judge_v6(&mut self, header: &Ipv6, frame: &(impl Bytes + ?Sized)) -> Result<(), Refusal> {
        let Payload { at, len } = payload_v6(header, frame);
        let carp = check(frame, at, len, header.hop_limit)?;
        self.version = 6;
        self.said.source = header.source;
        self.said.destination = header.destination;
        self.fill(carp, frame, at, len);
        Ok(())
    }

    /// With the header, and with what is behind it: an annex, or the echo of an answer.
    #[inline(always)]
    fn fill(&mut self, header: &Carp, frame: &(impl Bytes + ?Sized), at: usize, len: usize) {
        self.said.head = header.head();
        self.said.counter = header.counter.to_bytes();
        self.said.echo = [0; 8];
        self.digest = header.digest;
        self.signed = 0;
        let behind = at + carp::LEN;
        if header.auth_len == carp::STRICT_AUTH_LEN {
            self.signed = Self::STRICT;
            self.mac = header.digest;
            if len >= carp::LEN + 8
                && let Some(echo) = frame.load::<[u8; 8]>(behind)
            {
                self.said.echo = *echo;
            }
        } else if len >= carp::LEN + size_of::<Annex>()
            && let Some(annex) = frame.load::<Annex>(behind)
            && annex.is_one()
        {
            self.signed = Self::BOTH;
            self.mac = annex.mac;
            self.said.echo = annex.echo;
        }
    }
}

/// The byte where the vhid of a CARP or VRRP packet stands, of whatever form that is: whose counters
/// a refused frame belongs to.
#[inline(always)]
pub fn peek_vhid(frame: &(impl Bytes + ?Sized)) -> Option<Vhid> {
    let [_, vhid] = frame.load::<[u8; 2]>(payload(frame)?.at)?;
    Vhid::new(*vhid)
}

/// Whether it has the form of VRRPv2, whatever it is refused for: then it may be somebody's.
#[inline(always)]
pub fn may_be_vrrp(frame: &(impl Bytes + ?Sized)) -> bool {
    let Some(Payload { at, len }) = payload(frame) else { return false };
    Start::of(frame, at, len).is_some_and(|start| start.is_vrrp2(len))
}

/// Where the IP header begins.
const IP: usize = size_of::<Ethernet>();

/// What follows an IP header of protocol 112: the part of it that was received.
#[derive(Clone, Copy)]
struct Payload {
    at: usize,
    len: usize,
}

#[inline(always)]
fn payload(frame: &(impl Bytes + ?Sized)) -> Option<Payload> {
    match frame.load::<Ethernet>(0)?.ethertype.get() {
        eth::IPV4 => {
            let header = frame.load::<Ipv4>(IP)?;
            let is_carp = header.version() == 4 && header.protocol == ip::CARP;
            if is_carp { payload_v4(header, frame) } else { None }
        }
        eth::IPV6 => {
            let header = frame.load::<Ipv6>(IP)?;
            let is_carp = header.version() == 6 && header.next_header == ip::CARP;
            is_carp.then(|| payload_v6(header, frame))
        }
        _ => None,
    }
}

/// `None` when the header says that it is shorter than a header, or longer than the packet.
#[inline(always)]
fn payload_v4(header: &Ipv4, frame: &(impl Bytes + ?Sized)) -> Option<Payload> {
    let total = usize::from(header.total_len.get()).min(frame.size().saturating_sub(IP));
    let head = header.header_len();
    if head < size_of::<Ipv4>() || head > total {
        return None;
    }
    Some(Payload { at: IP + head, len: total - head })
}

#[inline(always)]
fn payload_v6(header: &Ipv6, frame: &(impl Bytes + ?Sized)) -> Payload {
    let at = IP + size_of::<Ipv6>();
    Payload { at, len: usize::from(header.payload_len.get()).min(frame.size().saturating_sub(at)) }
}

/// Length, VRRP and version first, then TTL, then the checksum: FreeBSD's order, so that VRRP is
/// recognised as such whatever its TTL.
#[inline(always)]
fn check(frame: &(impl Bytes + ?Sized), at: usize, len: usize, ttl: u8) -> Result<&Carp, Refusal> {
    let header = Carp::find(frame, at, len);
    match header {
        Err(Refusal::BadLen | Refusal::Vrrp | Refusal::BadVersion) => header,
        _ if ttl != ip::UNROUTED => Err(Refusal::BadTtl),
        Ok(_) | Err(_) => header,
    }
}

/// Whether the checksum of an IPv4 header with its options is right.
#[inline(always)]
fn is_header_intact(frame: &(impl Bytes + ?Sized), header: &Ipv4) -> bool {
    const LONGEST: usize = 60;
    let mut sum = sum::add(0, header.as_bytes());
    let mut at = size_of::<Ipv4>();
    while at < LONGEST && at < header.header_len() {
        // Hidden, as a compiler that knows that the header lies within the frame, or has an idea how
        // to compare addresses faster, leaves out what the BPF verifier has to see.
        let Some(word) = frame.load::<[u8; 4]>(core::hint::black_box(IP + at)) else { return false };
        sum = sum::add(sum, word);
        at += 4;
    }
    sum::fold(sum) == 0xffff
}
