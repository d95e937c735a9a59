//! IPv4 and IPv6 headers, as far as advertisements and neighbour discovery need them.

use super::sum;
use core::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// IP protocol and next header of CARP, and of VRRP.
pub const CARP: u8 = 112;
/// Next header of ICMPv6.
pub const ICMPV6: u8 = 58;
/// TTL and hop limit of everything that must not have been routed.
pub const UNROUTED: u8 = 255;
/// The group that advertisements are sent to.
pub const CARP_GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The IPv6 group that advertisements are sent to.
pub const CARP_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// What only nodes of ours listen to: no other implementation is a member of this group, which is for
/// experiments (RFC 4727 section 2.4.2) and flooded by every switch.
pub const OUR_GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
/// The same for IPv6 (RFC 4727 section 3.4).
pub const OUR_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x114);
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Don't fragment.
pub const DF: u16 = 0x4000;
/// More fragments, or a fragment offset.
pub const FRAGMENT_MASK: u16 = 0x3fff;

/// The fixed 20 bytes of an IPv4 header (RFC 791).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version in the high nibble, header length in 32-bit words in the low one.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Bytes in the datagram, header included.
    pub total_len: U16,
    /// Identification; without meaning when DF is set (RFC 6864).
    pub id: U16,
    /// Flags and fragment offset.
    pub flags_fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Over header and options.
    pub checksum: U16,
    /// Sender.
    pub source: [u8; 4],
    /// Receiver.
    pub destination: [u8; 4],
}

/// The 40 bytes of an IPv6 header (RFC 8200).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version_class_flow: U32,
    /// Bytes after this header.
    pub payload_len: U16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Sender.
    pub source: [u8; 16],
    /// Receiver.
    pub destination: [u8; 16],
}

impl Ipv4 {
    /// Version, 4 when this is IPv4.
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length of header and options in bytes, 0..=60; less than 20 is malformed.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Whether the datagram is part of a fragmented one.
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & FRAGMENT_MASK != 0
    }

    /// A header without options, TTL 255 and DF set, its checksum filled in.
    pub fn unrouted(source: Ipv4Addr, destination: Ipv4Addr, tos: u8, protocol: u8, payload: u16) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            tos,
            total_len: U16::new(20 + payload),
            id: U16::ZERO,
            flags_fragment: U16::new(DF),
            ttl: UNROUTED,
            protocol,
            checksum: U16::ZERO,
            source: source.octets(),
            destination: destination.octets(),
        };
        header.checksum = U16::new(sum::checksum(header.as_bytes()));
        header
    }
}

impl Ipv6 {
    /// Version, 6 when this is IPv6.
    pub fn version(&self) -> u8 {
        self.version_class_flow.as_bytes()[0] >> 4
    }

    /// A header with hop limit 255 and flow label 0.
    #[inline(always)]
    pub fn unrouted(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        class: u8,
        next_header: u8,
        payload: u16,
    ) -> Self {
        Self {
            version_class_flow: U32::new(6 << 28 | u32::from(class) << 20),
            payload_len: U16::new(payload),
            next_header,
            hop_limit: UNROUTED,
            source: source.octets(),
            destination: destination.octets(),
        }
    }
}
