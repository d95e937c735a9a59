//! An advertisement in its Ethernet and IP envelope.

use super::carp::{self, Advert};
use super::eth::{self, Ethernet};
use super::ip::{self, Ipv4, Ipv6};
use super::{Frame, Refusal, Sighting};
use crate::id::{Mac, virtual_mac};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

/// Default TOS and traffic class: network control, as FreeBSD sends it (item 12).
pub const NETWORK_CONTROL: u8 = 0xe0;

/// An advertisement as it was heard: well-formed, not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Address of the sender.
    pub source: IpAddr,
    /// The group, or one node's address.
    pub destination: IpAddr,
    /// What it says.
    pub advert: Advert,
    seen: Sighting,
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
        self.wrap(&[advert.emit().as_bytes()], from)
    }

    /// The frame around a header and what is behind it.
    pub fn wrap(&self, parts: &[&[u8]], from: Mac) -> Frame {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // Nothing that is longer fits a frame of ours.
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        let mut frame = match *self {
            Self::V4 { source, destination, tos } => {
                let eth = Ethernet::new(eth::CARP_GROUP_V4, from, eth::IPV4);
                let ip = Ipv4::unrouted(source, destination, tos, ip::CARP, len);
                Frame::of(&[eth.as_bytes(), ip.as_bytes()])
            }
            Self::V6 { source, destination, class } => {
                let eth = Ethernet::new(eth::CARP_GROUP_V6, from, eth::IPV6);
                let ip = Ipv6::unrouted(source, destination, class, ip::CARP, len);
                Frame::of(&[eth.as_bytes(), ip.as_bytes()])
            }
        };
        parts.iter().for_each(|part| frame.push(part));
        frame
    }

    /// Sender and receiver, IPv4 mapped.
    pub const fn ends(&self) -> [[u8; 16]; 2] {
        match *self {
            Self::V4 { source, destination, .. } => {
                [ip::mapped(IpAddr::V4(source)), ip::mapped(IpAddr::V4(destination))]
            }
            Self::V6 { source, destination, .. } => [source.octets(), destination.octets()],
        }
    }
}

impl Heard {
    /// Reads a frame from its Ethernet header on. `None`: no IP packet of protocol 112 directly in
    /// Ethernet, so nothing that concerns us (tagged frames and IPv6 extension headers included).
    pub fn parse(frame: &[u8]) -> Option<Result<Self, Refusal>> {
        let mut seen = Sighting::BLANK;
        Some(seen.take(frame)?.and_then(|()| Self::of(seen).ok_or(Refusal::BadVhid)))
    }

    /// What was seen, by type; `None` for vhid 0.
    pub fn of(seen: Sighting) -> Option<Self> {
        let address = |octets: [u8; 16]| {
            let address = Ipv6Addr::from_octets(octets);
            if seen.is_v4() { address.to_canonical() } else { IpAddr::V6(address) }
        };
        let (source, destination) = (address(seen.said.source), address(seen.said.destination));
        Some(Self { source, destination, advert: Advert::of(&seen)?, seen })
    }

    /// As it was seen.
    pub const fn seen(&self) -> &Sighting {
        &self.seen
    }

    /// Whether it is for nodes of ours only ([`Envelope::to_ours`]): a claim that is announced, not made.
    pub fn is_announcement(&self) -> bool {
        self.seen.is_announcement()
    }
}

const _: () = assert!(size_of::<carp::Carp>() == carp::LEN);
