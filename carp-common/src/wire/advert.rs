//! An advertisement in its Ethernet and IP envelope.

use super::carp::{self, Advert, Start};
use super::eth::{self, Ethernet};
use super::ip::{self, Ipv4, Ipv6};
use super::{Bytes, Frame, Refusal, sum};
use crate::id::{Mac, Vhid, virtual_mac};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

/// Default TOS and traffic class: network control, as FreeBSD sends it (item 12).
pub const NETWORK_CONTROL: u8 = 0xe0;

const CARP_LEN: u16 = 36;

/// An advertisement as it was heard: well-formed, not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Address of the sender.
    pub source: IpAddr,
    /// The group, or one node's address.
    pub destination: IpAddr,
    /// What it says.
    pub advert: Advert,
}

/// Sender, receiver and service class of an outgoing advertisement. One value per family: the two
/// addresses cannot differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// IPv4: 20 bytes, DF, TTL 255, identification 0.
    V4 {
        /// An address of the link that is no VIP (item 13).
        source: Ipv4Addr,
        /// The group, or one node.
        destination: Ipv4Addr,
        /// Type of service.
        tos: u8,
    },
    /// IPv6: hop limit 255, flow label 0, no extension header.
    V6 {
        /// An address of the link that is no VIP, in practice its link-local one.
        source: Ipv6Addr,
        /// The group, or one node.
        destination: Ipv6Addr,
        /// Traffic class.
        class: u8,
    },
}

impl Envelope {
    /// To the group of the source's family.
    pub const fn to_group(source: IpAddr, tos: u8) -> Self {
        match source {
            IpAddr::V4(source) => Self::V4 { source, destination: ip::CARP_GROUP_V4, tos },
            IpAddr::V6(source) => Self::V6 { source, destination: ip::CARP_GROUP_V6, class: tos },
        }
    }

    /// To nodes of ours only, wherever on the segment: for what is not to be taken for an advert.
    pub const fn to_ours(source: IpAddr, tos: u8) -> Self {
        match source {
            IpAddr::V4(source) => Self::V4 { source, destination: ip::OUR_GROUP_V4, tos },
            IpAddr::V6(source) => Self::V6 { source, destination: ip::OUR_GROUP_V6, class: tos },
        }
    }

    /// To one node; `None` when the families differ.
    pub const fn to_node(source: IpAddr, destination: IpAddr, tos: u8) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 { source, destination, tos }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Self::V6 { source, destination, class: tos })
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The whole frame: from the virtual MAC, to the group's MAC whoever is addressed (the others drop
    /// it at IP; no neighbour has to be resolved first).
    pub fn seal(&self, advert: &Advert) -> Frame {
        self.seal_from(advert, virtual_mac(advert.vhid))
    }

    /// As [`Envelope::seal`], from another MAC. A node that leaves sends from its link's own:
    /// switches learn from every frame where the virtual MAC is, and by then it is elsewhere.
    /// Nobody checks the source (section 1.5).
    pub fn seal_from(&self, advert: &Advert, from: Mac) -> Frame {
        let carp = advert.emit();
        match *self {
            Self::V4 { source, destination, tos } => {
                let eth = Ethernet::new(eth::CARP_GROUP_V4, from, eth::IPV4);
                let ip = Ipv4::unrouted(source, destination, tos, ip::CARP, CARP_LEN);
                Frame::of(&[eth.as_bytes(), ip.as_bytes(), carp.as_bytes()])
            }
            Self::V6 { source, destination, class } => {
                let eth = Ethernet::new(eth::CARP_GROUP_V6, from, eth::IPV6);
                let ip = Ipv6::unrouted(source, destination, class, ip::CARP, CARP_LEN);
                Frame::of(&[eth.as_bytes(), ip.as_bytes(), carp.as_bytes()])
            }
        }
    }
}

impl Heard {
    /// Reads a frame from its Ethernet header on. `None`: no IP packet of protocol 112 directly in
    /// Ethernet, so nothing that concerns us (tagged frames and IPv6 extension headers included).
    pub fn parse(frame: &[u8]) -> Option<Result<Self, Refusal>> {
        Self::read(frame)
    }

    /// As [`Heard::parse`], wherever the bytes are: this is what XDP runs too.
    #[inline(always)]
    pub fn read(frame: &(impl Bytes + ?Sized)) -> Option<Result<Self, Refusal>> {
        match frame.load::<Ethernet>(0)?.ethertype.get() {
            eth::IPV4 => Self::read_v4(frame),
            eth::IPV6 => Self::read_v6(frame),
            _ => None,
        }
    }

    /// Whether it is for nodes of ours only ([`Envelope::to_ours`]): a claim that is announced, not made.
    #[inline(always)]
    pub fn is_announcement(&self) -> bool {
        match self.destination {
            IpAddr::V4(group) => group == ip::OUR_GROUP_V4,
            IpAddr::V6(group) => group == ip::OUR_GROUP_V6,
        }
    }

    /// The byte where the vhid of a CARP or VRRP packet stands, of whatever form that is: whose
    /// counters a refused frame belongs to.
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

    #[inline(always)]
    fn read_v4(frame: &(impl Bytes + ?Sized)) -> Option<Result<Self, Refusal>> {
        let header = frame.load::<Ipv4>(IP)?;
        if header.version() != 4 || header.protocol != ip::CARP {
            return None;
        }
        Some(Self::judge_v4(header, frame))
    }

    #[inline(always)]
    fn judge_v4(header: &Ipv4, frame: &(impl Bytes + ?Sized)) -> Result<Self, Refusal> {
        let Payload { at, len } = payload_v4(header, frame).ok_or(Refusal::BadLen)?;
        if header.is_fragment() {
            return Err(Refusal::Fragment);
        }
        let advert = check(frame, at, len, header.ttl)?;
        if !is_header_intact(frame, header) {
            return Err(Refusal::BadIpSum);
        }
        let source = Ipv4Addr::from_octets(header.source).into();
        Ok(Self { source, destination: Ipv4Addr::from_octets(header.destination).into(), advert })
    }

    #[inline(always)]
    fn read_v6(frame: &(impl Bytes + ?Sized)) -> Option<Result<Self, Refusal>> {
        let header = frame.load::<Ipv6>(IP)?;
        if header.version() != 6 || header.next_header != ip::CARP {
            return None;
        }
        let Payload { at, len } = payload_v6(header, frame);
        let heard = check(frame, at, len, header.hop_limit).map(|advert| Self {
            source: Ipv6Addr::from_octets(header.source).into(),
            destination: Ipv6Addr::from_octets(header.destination).into(),
            advert,
        });
        Some(heard)
    }
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
fn check(frame: &(impl Bytes + ?Sized), at: usize, len: usize, ttl: u8) -> Result<Advert, Refusal> {
    let advert = Advert::read(frame, at, len);
    match advert {
        Err(Refusal::BadLen | Refusal::Vrrp | Refusal::BadVersion) => advert,
        _ if ttl != ip::UNROUTED => Err(Refusal::BadTtl),
        Ok(_) | Err(_) => advert,
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

const _: () = assert!(size_of::<carp::Carp>() == carp::LEN && CARP_LEN as usize == carp::LEN);
