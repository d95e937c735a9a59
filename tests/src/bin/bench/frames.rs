//! The frames that come in from the LAN, 60 bytes where nothing else is said: the least on Ethernet.

use crate::road::{LAN_MAC, SOURCE, SOURCE_MAC, SOURCE6};
use carp_common::id::Mac;
use carp_common::wire::arp::{self, Arp};
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use carp_common::wire::{ndp, sum};
use std::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

const UDP: u8 = 17;
const UDP_LEN: u16 = 26;
/// From port 4000 to the discard port, no checksum.
const UDP_HEADER: [u8; 8] = [0x0f, 0xa0, 0, 9, 0, 26, 0, 0];

/// A UDP datagram.
pub fn udp(to: Mac, destination: Ipv4Addr) -> Vec<u8> {
    let header = Ipv4::unrouted(SOURCE, destination, 0, UDP, UDP_LEN);
    ethernet(to, eth::IPV4, &[header.as_bytes(), &UDP_HEADER, &[0; 18]].concat())
}

/// The same in a frame of so many bytes.
pub fn long_udp(to: Mac, destination: Ipv4Addr, len: u16) -> Vec<u8> {
    let datagram = len.saturating_sub(14 + 20);
    let header = Ipv4::unrouted(SOURCE, destination, 0, UDP, datagram);
    let [ports @ .., _, _, _, _] = UDP_HEADER;
    let udp = [&ports[..], &datagram.to_be_bytes(), &[0, 0]].concat();
    let mut frame = ethernet(to, eth::IPV4, &[header.as_bytes(), &udp].concat());
    frame.resize(len.into(), 0);
    frame
}

/// One that leaves towards the source of the others.
pub fn leaving(from: Ipv4Addr) -> Vec<u8> {
    let header = Ipv4::unrouted(from, SOURCE, 0, UDP, UDP_LEN);
    let payload = [header.as_bytes(), &UDP_HEADER, &[0; 18]].concat();
    [Ethernet::new(SOURCE_MAC, LAN_MAC, eth::IPV4).as_bytes(), &payload].concat()
}

/// The same over IPv6, 80 bytes.
pub fn udp6(to: Mac, destination: Ipv6Addr) -> Vec<u8> {
    let header = Ipv6::unrouted(SOURCE6, destination, 0, UDP, UDP_LEN);
    ethernet(to, eth::IPV6, &[header.as_bytes(), &UDP_HEADER, &[0; 18]].concat())
}

/// A ping.
pub fn ping(to: Mac, destination: Ipv4Addr) -> Vec<u8> {
    const ICMP: u8 = 1;
    let mut message = [&[8, 0, 0, 0, 0, 7, 0, 1][..], &[0; 18]].concat();
    let check = sum::checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&check);
    let header = Ipv4::unrouted(SOURCE, destination, 0, ICMP, UDP_LEN);
    ethernet(to, eth::IPV4, &[header.as_bytes(), &message].concat())
}

/// Who has this address?
pub fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let request = Arp::new(arp::REQUEST, (SOURCE_MAC, SOURCE.octets()), (Mac::default(), target.octets()));
    ethernet(Mac::BROADCAST, eth::ARP, &[request.as_bytes(), &[0; 18]].concat())
}

/// The same for an IPv6 address, to its group, 86 bytes as the answer.
pub fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    let option = [&[ndp::SOURCE_LINK_LAYER_ADDRESS, 1][..], &SOURCE_MAC.0].concat();
    let mut message = [&[ndp::SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat();
    let check = sum::icmpv6(SOURCE6.octets(), group.octets(), &message).to_be_bytes();
    message[2..4].copy_from_slice(&check);
    let header = Ipv6::unrouted(SOURCE6, group, 0, ip::ICMPV6, 32);
    let to = Mac([0x33, 0x33, 0xff, x, y, z]);
    ethernet(to, eth::IPV6, &[header.as_bytes(), &message].concat())
}

/// An LLDP frame.
pub fn stranger() -> Vec<u8> {
    ethernet(Mac([1, 0x80, 0xc2, 0, 0, 0x0e]), 0x88cc, &[0; 46])
}

/// A datagram to the gateway in a VLAN, as it comes in on the trunk.
pub fn tagged(destination: Ipv4Addr) -> Vec<u8> {
    let mut frame = udp(LAN_MAC, destination);
    frame.splice(12..12, [0x81, 0, 0, 5]);
    frame
}

/// VRRPv3 for a group that is none of our vhids.
pub fn vrrp() -> Vec<u8> {
    let header = Ipv4::unrouted(SOURCE, ip::CARP_GROUP_V4, 0, ip::CARP, 26);
    let message = [0x31, 200, 100, 1, 0, 100, 0, 0, 10, 77, 1, 1];
    ethernet(eth::CARP_GROUP_V4, eth::IPV4, &[header.as_bytes(), &message, &[0; 14]].concat())
}

fn ethernet(to: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [Ethernet::new(to, SOURCE_MAC, ethertype).as_bytes(), payload].concat()
}
