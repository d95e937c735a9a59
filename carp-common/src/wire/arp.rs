//! ARP for IPv4 over Ethernet (RFC 826): the 28 bytes, gratuitous requests and replies.

use super::Frame;
use super::eth::{self, Ethernet};
use crate::id::Mac;
use core::net::Ipv4Addr;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Operation "who has".
pub const REQUEST: u16 = 1;
/// Operation "is at".
pub const REPLY: u16 = 2;

/// The packet as it lies on the wire.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Arp {
    /// Hardware type, 1 for Ethernet.
    pub hardware: U16,
    /// Protocol type, 0x0800 for IPv4.
    pub protocol: U16,
    /// Length of a hardware address, 6.
    pub hardware_len: u8,
    /// Length of a protocol address, 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: U16,
    /// MAC of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 of the sender.
    pub sender_ip: [u8; 4],
    /// MAC of the target; zero in a request.
    pub target_mac: [u8; 6],
    /// IPv4 asked for.
    pub target_ip: [u8; 4],
}

impl Arp {
    /// An Ethernet/IPv4 packet with these fields.
    #[inline(always)]
    pub const fn new(operation: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Self {
        Self {
            hardware: U16::new(1),
            protocol: U16::new(eth::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0.0,
            sender_ip: sender.1,
            target_mac: target.0.0,
            target_ip: target.1,
        }
    }

    /// Whether the fixed fields say Ethernet and IPv4.
    #[inline(always)]
    pub fn is_ipv4(&self) -> bool {
        self.hardware.get() == 1
            && self.protocol.get() == eth::IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }

    /// Whether somebody asks for an address: a request that is not gratuitous, which asks for the
    /// sender's own.
    #[inline(always)]
    pub fn is_question(&self) -> bool {
        self.is_ipv4() && self.operation.get() == REQUEST && self.sender_ip != self.target_ip
    }
}

/// Gratuitous ARP: a broadcast request with sender and target `vip`, as the BSDs send it on
/// promotion. From the virtual MAC in Ethernet too, so that switches learn it.
pub fn gratuitous(vip: Ipv4Addr, mac: Mac) -> Frame {
    let eth = Ethernet::new(Mac::BROADCAST, mac, eth::ARP);
    let arp = Arp::new(REQUEST, (mac, vip.octets()), (Mac::default(), vip.octets()));
    Frame::of(&[eth.as_bytes(), arp.as_bytes()])
}
