//! IPv4 and IPv6 headers, as far as advertisements, neighbour discovery and echo need them.

use super::sum;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// IP protocol and next header of CARP, and of VRRP.
pub const CARP: u8 = 112;
/// A number that is no protocol's.
pub const RESERVED: u8 = 255;
/// Protocol of ICMP.
pub const ICMP: u8 = 1;
/// Next header of ICMPv6.
pub const ICMPV6: u8 = 58;
/// TTL and hop limit of everything that must not have been routed.
pub const UNROUTED: u8 = 255;
/// TTL and hop limit of answers that may be routed, as the kernel's own have it.
pub const HOPS: u8 = 64;
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

    /// Whether this is an unfragmented datagram without options.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.version_ihl == 0x45 && !self.is_fragment()
    }

    /// The header of an answer: addresses swapped, TTL anew, the checksum as right as it was.
    #[inline(always)]
    pub fn answer(&self) -> Self {
        let mut answer = Self { source: self.destination, destination: self.source, ttl: HOPS, ..*self };
        let sum = sum::update(self.checksum.get(), [self.ttl, self.protocol], [HOPS, self.protocol]);
        answer.checksum = U16::new(sum);
        answer
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

    /// The header of an answer: addresses swapped, hop limit anew.
    #[inline(always)]
    pub fn answer(&self) -> Self {
        Self { source: self.destination, destination: self.source, hop_limit: HOPS, ..*self }
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

/// The group that solicitations for an address go to (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., six, seven] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (six & 0xff), seven)
}

/// IPv4 as `::ffff:a.b.c.d`. As `to_ipv6_mapped` does it, but in words: in BPF ten zero bytes in a row are
/// a call of a byte loop, a sixth of what dropping a frame may cost.
#[inline(always)]
pub const fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => {
            zerocopy::transmute!([0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(ip.octets())])
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Whether an address can be one host's on another machine: what is not, nobody answers to.
#[inline(always)]
pub fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            !matches!(first, 0 | 127 | 224..)
        }
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_not_a_group_nor_nobody_nor_oneself() {
        let is_one_host = |text: &str| is_one_host(text.parse().unwrap());
        for address in ["10.0.0.1", "223.255.255.254", "1.0.0.0", "fe80::1", "2001:db8::1", "::2"] {
            assert!(is_one_host(address), "{address}");
        }
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.18", "255.255.255.255", "::", "::1", "ff02::1"] {
            assert!(!is_one_host(address), "{address}");
        }
    }

    #[test]
    fn the_header_of_an_answer_is_as_intact_as_that_of_the_question() {
        let question = Ipv4::unrouted(Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1), 7, ICMP, 40);
        for ttl in [0, 1, 63, 64, 128, 255] {
            let mut question = Ipv4 { ttl, checksum: U16::ZERO, ..question };
            question.checksum = U16::new(sum::checksum(question.as_bytes()));
            let answer = question.answer();
            assert!(sum::intact(answer.as_bytes()));
            assert_eq!((answer.source, answer.destination), (question.destination, question.source));
            question.checksum = U16::new(!question.checksum.get());
            assert!(!sum::intact(question.answer().as_bytes()));
        }
    }
}
