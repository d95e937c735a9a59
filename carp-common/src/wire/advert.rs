//! An advertisement in its Ethernet and IP envelope.

use super::carp::{self, Advert};
use super::eth::{self, Ethernet};
use super::ip::{self, Ipv4, Ipv6};
use super::{Frame, Refusal, sum};
use crate::id::{Mac, Vhid, virtual_mac};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, IntoBytes};

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
        let (eth, rest) = Ethernet::ref_from_prefix(frame).ok()?;
        match eth.ethertype.get() {
            eth::IPV4 => Self::parse_v4(rest),
            eth::IPV6 => Self::parse_v6(rest),
            _ => None,
        }
    }

    /// Whether it is for nodes of ours only ([`Envelope::to_ours`]): a claim that is announced, not made.
    pub fn is_announcement(&self) -> bool {
        match self.destination {
            IpAddr::V4(group) => group == ip::OUR_GROUP_V4,
            IpAddr::V6(group) => group == ip::OUR_GROUP_V6,
        }
    }

    /// The byte where the vhid of a CARP or VRRP packet stands, for the counters of frames that
    /// [`Heard::parse`] refused.
    pub fn peek_vhid(frame: &[u8]) -> Option<Vhid> {
        let (eth, rest) = Ethernet::ref_from_prefix(frame).ok()?;
        let head = match eth.ethertype.get() {
            eth::IPV4 => Ipv4::ref_from_prefix(rest).ok()?.0.header_len(),
            eth::IPV6 => size_of::<Ipv6>(),
            _ => return None,
        };
        rest.get(head + 1).copied().and_then(Vhid::new)
    }

    fn parse_v4(packet: &[u8]) -> Option<Result<Self, Refusal>> {
        let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
        if header.version() != 4 || header.protocol != ip::CARP {
            return None;
        }
        Some(Self::judge_v4(header, packet))
    }

    fn judge_v4(header: &Ipv4, packet: &[u8]) -> Result<Self, Refusal> {
        let total = usize::from(header.total_len.get()).min(packet.len());
        let head = header.header_len();
        if head < size_of::<Ipv4>() || head > total {
            return Err(Refusal::BadLen);
        }
        if header.is_fragment() {
            return Err(Refusal::Fragment);
        }
        let (head, payload) = packet.get(..total).unwrap_or_default().split_at(head);
        let advert = check(payload, header.ttl)?;
        if !sum::intact(head) {
            return Err(Refusal::BadIpSum);
        }
        let source = Ipv4Addr::from_octets(header.source).into();
        Ok(Self { source, destination: Ipv4Addr::from_octets(header.destination).into(), advert })
    }

    fn parse_v6(packet: &[u8]) -> Option<Result<Self, Refusal>> {
        let (header, rest) = Ipv6::ref_from_prefix(packet).ok()?;
        if header.version() != 6 || header.next_header != ip::CARP {
            return None;
        }
        let total = usize::from(header.payload_len.get()).min(rest.len());
        let heard = check(rest.get(..total).unwrap_or_default(), header.hop_limit).map(|advert| Self {
            source: Ipv6Addr::from_octets(header.source).into(),
            destination: Ipv6Addr::from_octets(header.destination).into(),
            advert,
        });
        Some(heard)
    }
}

/// Length, VRRP and version first, then TTL, then the checksum: FreeBSD's order, so that VRRP is
/// recognised as such whatever its TTL.
fn check(payload: &[u8], ttl: u8) -> Result<Advert, Refusal> {
    let advert = Advert::parse(payload);
    match advert {
        Err(Refusal::BadLen | Refusal::Vrrp | Refusal::BadVersion) => advert,
        _ if ttl != ip::UNROUTED => Err(Refusal::BadTtl),
        Ok(_) | Err(_) => advert,
    }
}

const _: () = assert!(size_of::<carp::Carp>() == carp::LEN && CARP_LEN as usize == carp::LEN);
