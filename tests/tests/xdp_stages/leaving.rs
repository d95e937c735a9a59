//! The table of what leaves.

use crate::frames::*;
use crate::harness::{Hook, LINK_MAC};
use crate::table::{Row, becomes, check, drops, untouched};
use carp_common::map::Counter;
use std::net::{Ipv4Addr, Ipv6Addr};

#[test]
fn the_table_of_what_leaves() {
    let rows = rows();
    check(Hook::Egress, &rows);
    println!("{} rows", rows.len());
}

pub fn rows() -> Vec<Row> {
    ours().into_iter().chain(others()).collect()
}

/// ARP as the kernel sends it, with this MAC as its own.
pub fn arp_of(mac: [u8; 6], operation: u8, sender: Ipv4Addr) -> Vec<u8> {
    let mut frame = from(mac, arp(BROADCAST, operation, sender, CLIENT4));
    frame[22..28].copy_from_slice(&mac);
    frame
}

pub fn packet4(source: Ipv4Addr, protocol: u8) -> Vec<u8> {
    let mut frame = from(LINK_MAC, ethernet(CLIENT_MAC, IPV4, &ipv4(protocol, CLIENT4, &[0x22; 40])));
    frame[26..30].copy_from_slice(&source.octets());
    frame
}

pub fn packet6(source: Ipv6Addr, next: u8) -> Vec<u8> {
    from(LINK_MAC, ethernet(CLIENT_MAC, IPV6, &ipv6(next, 64, source, CLIENT6, &[0x22; 40])))
}

/// A neighbour message with its checksum.
pub fn neighbour(kind: u8, source: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = solicitation_message(kind, 0, target, options);
    let sum = icmpv6_checksum(source, CLIENT6, &message);
    message[2..4].copy_from_slice(&sum);
    from(LINK_MAC, ethernet(CLIENT_MAC, IPV6, &ipv6(58, 255, source, CLIENT6, &message)))
}

pub fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// The same with the virtual MAC in the place of the link's own.
fn rewritten(kind: u8, source: Ipv6Addr, target: Ipv6Addr, before: &[u8], after: &[u8]) -> Vec<u8> {
    let mac = virtual_mac(VHID);
    from(mac, neighbour(kind, source, target, &[before, &option(kind - 134, mac), after].concat()))
}

/// What leaves within the window, some of it with the virtual MAC instead of another.
pub fn ours() -> Vec<Row> {
    let (mac, nonce) = (virtual_mac(VHID), nonce_option());
    let case = |name, frame, open: Option<Vec<u8>>, fenced| {
        let open = open.map_or_else(untouched, |frame| becomes(frame, Counter::EgressRewritten));
        Row { name, flags: 0, frame, open, closed: drops(fenced) }
    };
    let (arp, ndp) = (Counter::EgressArpFenced, Counter::EgressNdpFenced);
    let (vip, vmac) = (Counter::EgressVipFenced, Counter::EgressVirtualMacFenced);
    let real = |kind| option(kind, LINK_MAC);
    vec![
        case("an ARP request", arp_of(LINK_MAC, 1, VIP4), Some(arp_of(mac, 1, VIP4)), arp),
        case("an ARP reply", arp_of(LINK_MAC, 2, VIP4), Some(arp_of(mac, 2, VIP4)), arp),
        case("the daemon's gratuitous ARP", arp_of(mac, 1, VIP4), Some(arp_of(mac, 1, VIP4)), arp),
        case(
            "a solicitation",
            neighbour(135, VIP6, CLIENT6, &real(1)),
            Some(rewritten(135, VIP6, CLIENT6, &[], &[])),
            ndp,
        ),
        case(
            "a solicitation with more options",
            neighbour(135, VIP6, CLIENT6, &[&nonce[..], &real(1), &nonce].concat()),
            Some(rewritten(135, VIP6, CLIENT6, &nonce, &nonce)),
            ndp,
        ),
        case(
            "a unicast solicitation without options",
            neighbour(135, VIP6, CLIENT6, &[]),
            Some(from(mac, neighbour(135, VIP6, CLIENT6, &[]))),
            ndp,
        ),
        case(
            "an advertisement",
            neighbour(136, VIP6, VIP6, &real(2)),
            Some(rewritten(136, VIP6, VIP6, &[], &[])),
            ndp,
        ),
        case(
            "one for the VIP from another address",
            neighbour(136, CLIENT6, VIP6, &real(2)),
            Some(rewritten(136, CLIENT6, VIP6, &[], &[])),
            ndp,
        ),
        case(
            "the daemon's advertisement",
            rewritten(136, VIP6, VIP6, &[], &[]),
            Some(rewritten(136, VIP6, VIP6, &[], &[])),
            ndp,
        ),
        case("IPv4", packet4(VIP4, 17), None, vip),
        case("IPv6", packet6(VIP6, 17), None, vip),
        case("ICMPv6 that is no neighbour's", packet6(VIP6, 58), None, vip),
        case("an advert from the VIP", packet4(VIP4, 112), None, vip),
        case("IPv4 from the virtual MAC", from(mac, packet4(OTHER4, 17)), None, vmac),
        case("IPv6 from the virtual MAC", from(mac, packet6(CLIENT6, 17)), None, vmac),
        case(
            "something else from the virtual MAC",
            from(mac, ethernet(CLIENT_MAC, 0x88cc, &[7; 50])),
            None,
            vmac,
        ),
    ]
}

/// What is none of ours at any time.
fn others() -> Vec<Row> {
    let frames = [
        ("an advert from the virtual MAC", from(virtual_mac(VHID), advert4(VHID))),
        ("an IPv6 advert from it", from(virtual_mac(VHID), advert6(VHID))),
        ("a virtual MAC that is not ours", from(virtual_mac(9), packet4(OTHER4, 17))),
        ("ARP that asks for the VIP", arp(BROADCAST, 1, CLIENT4, VIP4)),
        ("ARP of another hardware", with_byte(arp_of(LINK_MAC, 1, VIP4), 15, 6)),
        ("a solicitation for the VIP", neighbour(135, CLIENT6, VIP6, &option(1, LINK_MAC))),
        ("a probe for the VIP", neighbour(135, [0; 16].into(), VIP6, &nonce_option())),
        ("IPv4 to the VIP", udp4(CLIENT_MAC, VIP4)),
        ("IPv6 to the VIP", udp6(CLIENT_MAC, VIP6)),
        ("a VLAN's frame from the VIP", tagged([0x81, 0], &packet4(VIP4, 17))),
        ("IPv6 from the IPv4 address", packet6(VIP4.to_ipv6_mapped(), 17)),
        ("something else", ethernet(CLIENT_MAC, 0x88cc, &[7; 50])),
    ];
    let row = |(name, frame)| Row { name, flags: 0, frame, open: untouched(), closed: untouched() };
    frames.into_iter().map(row).collect()
}
