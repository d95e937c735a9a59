//! The frames that the tests send, byte by byte.

use carp_common::id::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const VHID: u8 = 7;
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
pub const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 10);
/// An address that is neither a VIP nor the client's.
pub const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 99);
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xc1);
pub const BROADCAST: [u8; 6] = Mac::BROADCAST.0;

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Flags of an advertisement.
pub const ROUTER: u8 = 0x80;
pub const SOLICITED: u8 = 0x40;
pub const OVERRIDE: u8 = 0x20;

pub const fn virtual_mac(vhid: u8) -> [u8; 6] {
    [0, 0, 0x5e, 0, 1, vhid]
}

pub fn ethernet(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &CLIENT_MAC, &ethertype.to_be_bytes(), payload].concat()
}

pub fn arp(destination: [u8; 6], operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &CLIENT_MAC, &sender.octets(), &[0; 6], &target.octets()].concat();
    ethernet(destination, ARP, &body)
}

pub fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, 1, CLIENT4, target)
}

pub fn ipv4(protocol: u8, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    ipv4_with(5, protocol, destination, payload)
}

/// With a header of this many words; what is beyond the fifth is "no operation".
pub fn ipv4_with(words: u8, protocol: u8, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let options = vec![1; usize::from(words) * 4 - 20];
    let total = u16::try_from(20 + options.len() + payload.len()).unwrap().to_be_bytes();
    let head = [0x40 | words, 0xe0, total[0], total[1], 0, 0, 0x40, 0, 255, protocol, 0, 0];
    [&head[..], &CLIENT4.octets(), &destination.octets(), &options, payload].concat()
}

pub fn ipv6(next: u8, hops: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next, hops];
    [&head[..], &source.octets(), &destination.octets(), payload].concat()
}

pub fn solicitation_message(kind: u8, code: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 0, 0], &target.octets()[..], options].concat()
}

/// To the solicited-node group, as the kernel of a client sends it.
pub fn solicitation(source: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    let message = solicitation_message(135, 0, target, options);
    ethernet([0x33, 0x33, 0xff, x, y, z], IPV6, &ipv6(58, 255, source, group, &message))
}

/// Source link-layer address option.
pub fn source_option() -> Vec<u8> {
    [&[1, 1], &CLIENT_MAC[..]].concat()
}

/// Nonce option of enhanced duplicate address detection (RFC 7527).
pub fn nonce_option() -> Vec<u8> {
    vec![14, 1, 1, 2, 3, 4, 5, 6]
}

/// The answer to the client's ARP request for the VIP.
pub fn arp_answer(to: Ipv4Addr) -> Vec<u8> {
    let ours = virtual_mac(VHID);
    let body = [&[0, 1, 8, 0, 6, 4, 0, 2], &ours[..], &VIP4.octets(), &CLIENT_MAC, &to.octets()].concat();
    from(ours, ethernet(CLIENT_MAC, ARP, &body))
}

/// The advertisement for the VIP with its one option.
pub fn advertisement(to: [u8; 6], destination: Ipv6Addr, flags: u8) -> Vec<u8> {
    let ours = virtual_mac(VHID);
    let mut message = [&[136, 0, 0, 0, flags, 0, 0, 0], &VIP6.octets()[..], &[2, 1], &ours].concat();
    let sum = icmpv6_checksum(VIP6, destination, &message);
    message[2..4].copy_from_slice(&sum);
    from(ours, ethernet(to, IPV6, &ipv6(58, 255, VIP6, destination, &message)))
}

/// An echo request of the client, and the answer from the VIP.
pub struct Ping {
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
}

pub fn ping4(to: [u8; 6], ttl: u8, message: &[u8]) -> Ping {
    let packet = |kind, ttl, source: Ipv4Addr, destination| {
        let message = icmp([kind, 0], message, checksum);
        let packet = with_byte(ipv4(1, destination, &message), 8, ttl);
        with_header_checksum([&packet[..12], &source.octets(), &packet[16..]].concat())
    };
    Ping {
        request: ethernet(to, IPV4, &packet(8, ttl, CLIENT4, VIP4)),
        answer: from(virtual_mac(VHID), ethernet(CLIENT_MAC, IPV4, &packet(0, 64, VIP4, CLIENT4))),
    }
}

pub fn ping6(to: [u8; 6], hops: u8, message: &[u8]) -> Ping {
    let packet = |kind, hops, source, destination| {
        let message = icmp([kind, 0], message, |message| icmpv6_checksum(source, destination, message));
        ipv6(58, hops, source, destination, &message)
    };
    Ping {
        request: ethernet(to, IPV6, &packet(128, hops, CLIENT6, VIP6)),
        answer: from(virtual_mac(VHID), ethernet(CLIENT_MAC, IPV6, &packet(129, 64, VIP6, CLIENT6))),
    }
}

/// Type and code, checksum, and the rest. A checksum of zero may be written in two ways: an answer's
/// is carried over from the request's and has the one that is right for all zeros too.
fn icmp(head: [u8; 2], rest: &[u8], checksum: impl Fn(&[u8]) -> [u8; 2]) -> Vec<u8> {
    let sum = match checksum(&[&head, &[0, 0], rest].concat()) {
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    [&head, &sum, rest].concat()
}

/// An IPv4 packet with its header's checksum.
pub fn with_header_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&packet[..usize::from(packet[0] & 15) * 4]);
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// With this Ethernet source.
pub fn from(source: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&source);
    frame
}

/// With a VLAN tag in its bytes.
pub fn tagged(ethertype: [u8; 2], frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &ethertype, &[0, 5], &frame[12..]].concat()
}

/// With one byte changed.
pub fn with_byte(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

/// An IPv4 packet, more fragments of which follow, and which is not the first.
pub fn fragment(packet: Vec<u8>) -> Vec<u8> {
    with_byte(with_byte(packet, 6, 0x20), 7, 0x10)
}

/// With the pseudo-header, by adding up one word after the other.
pub fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    checksum(&[&source.octets()[..], &destination.octets(), &len, &[0, 0, 0, 58], message].concat())
}

/// The Internet checksum of these bytes.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u64::from(*byte)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// 36 bytes that look like CARP (or VRRPv2 with five addresses).
pub fn carp_payload(vhid: u8) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..36).collect();
    payload[..2].copy_from_slice(&[0x21, vhid]);
    payload
}

pub fn advert4(vhid: u8) -> Vec<u8> {
    let packet = ipv4(112, Ipv4Addr::new(224, 0, 0, 18), &carp_payload(vhid));
    ethernet([1, 0, 0x5e, 0, 0, 0x12], IPV4, &packet)
}

pub fn advert6(vhid: u8) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
    let packet = ipv6(112, 255, CLIENT6, group, &carp_payload(vhid));
    ethernet([0x33, 0x33, 0, 0, 0, 0x12], IPV6, &packet)
}

pub fn udp4(to: [u8; 6], destination: Ipv4Addr) -> Vec<u8> {
    ethernet(to, IPV4, &ipv4(17, destination, &[0x11; 28]))
}

pub fn udp6(to: [u8; 6], destination: Ipv6Addr) -> Vec<u8> {
    ethernet(to, IPV6, &ipv6(17, 64, CLIENT6, destination, &[0x11; 28]))
}
