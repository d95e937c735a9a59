//! Neighbour solicitations and advertisements (RFC 4861 sections 4.3, 4.4).

use super::Frame;
use super::eth::{self, Ethernet};
use super::ip::{self, Ipv6};
use super::sum;
use crate::id::Mac;
use core::net::Ipv6Addr;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ICMPv6 type of a neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// The sender forwards packets.
pub const ROUTER: u32 = 1 << 31;
/// This answers a solicitation.
pub const SOLICITED: u32 = 1 << 30;
/// Replace what you have cached.
pub const OVERRIDE: u32 = 1 << 29;

/// Option of a solicitation: its sender's MAC.
pub const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Option of an advertisement: its target's MAC.
pub const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// A solicitation without its options: 24 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Solicitation {
    /// [`SOLICITATION`].
    pub kind: u8,
    /// Zero.
    pub code: u8,
    /// With pseudo-header.
    pub checksum: U16,
    /// Unused.
    pub reserved: U32,
    /// Address asked for.
    pub target: [u8; 16],
}

/// An advertisement with its one option, the target's link-layer address: 32 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Advertisement {
    /// [`ADVERTISEMENT`].
    pub kind: u8,
    /// Zero.
    pub code: u8,
    /// With pseudo-header.
    pub checksum: U16,
    /// [`ROUTER`], [`SOLICITED`], [`OVERRIDE`].
    pub flags: U32,
    /// Address that is spoken for.
    pub target: [u8; 16],
    /// 2: target link-layer address.
    pub option: u8,
    /// Length of the option in units of eight bytes: 1.
    pub option_len: u8,
    /// MAC of the target.
    pub mac: [u8; 6],
}

impl Advertisement {
    /// For `target` at `mac`, its checksum filled in for this source and destination.
    #[inline(always)]
    pub fn new(flags: u32, target: [u8; 16], mac: Mac, source: [u8; 16], destination: [u8; 16]) -> Self {
        let mut message = Self {
            kind: ADVERTISEMENT,
            code: 0,
            checksum: U16::ZERO,
            flags: U32::new(flags),
            target,
            option: TARGET_LINK_LAYER_ADDRESS,
            option_len: 1,
            mac: mac.0,
        };
        message.checksum = U16::new(sum::icmpv6(source, destination, message.as_bytes()));
        message
    }
}

/// Unsolicited advertisement to all nodes, sent on promotion: override set, router flag when the
/// node forwards (item 105).
pub fn unsolicited(vip: Ipv6Addr, mac: Mac, router: bool) -> Frame {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let eth = Ethernet::new(eth::ALL_NODES, mac, eth::IPV6);
    let ip = Ipv6::unrouted(vip, ip::ALL_NODES, 0, ip::ICMPV6, 32);
    let message = Advertisement::new(flags, vip.octets(), mac, vip.octets(), ip::ALL_NODES.octets());
    Frame::of(&[eth.as_bytes(), ip.as_bytes(), message.as_bytes()])
}
