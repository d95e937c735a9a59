//! The Ethernet header.

use crate::id::Mac;
use core::net::Ipv6Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Destination of IPv4 advertisements: the MAC of 224.0.0.18.
pub const CARP_GROUP_V4: Mac = Mac([0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
/// Destination of IPv6 advertisements: the MAC of ff02::12.
pub const CARP_GROUP_V6: Mac = Mac([0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
/// The MAC of ff02::1, all nodes.
pub const ALL_NODES: Mac = Mac([0x33, 0x33, 0x00, 0x00, 0x00, 0x01]);

/// The MAC of an IPv6 group (RFC 2464 section 7).
pub const fn group_v6(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// 14 bytes, untagged. VLANs are VLAN links: a tagged frame is none of ours.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// What follows.
    pub ethertype: U16,
}

impl Ethernet {
    /// A header with these fields.
    pub const fn new(destination: Mac, source: Mac, ethertype: u16) -> Self {
        Self { destination: destination.0, source: source.0, ethertype: U16::new(ethertype) }
    }
}
