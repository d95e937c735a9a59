//! Conformance 9.1: encoding. etherparse, which shares no code with us, reads what we emit.

use crate::corpus::{self, vhid};
use crate::oracle;
use carp_common::auth::{Key, Midstate, Variant};
use carp_common::id::{Mac, Vhid, virtual_mac};
use carp_common::pace::Pace;
use carp_common::wire::advert::NETWORK_CONTROL;
use carp_common::wire::{Advert, Envelope, Refusal, arp, ndp, sum};
use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

fn advert() -> Advert {
    let pace = Pace { base: 2, skew: 100 };
    Advert { vhid: vhid(7), pace, demote: 9, counter: 0x0102_0304_0506_0708, digest: [0xd5; 20] }
}

/// The frame of an advert to the group, and its CARP bytes.
fn sealed(source: IpAddr, tos: u8, advert: &Advert) -> (Vec<u8>, Vec<u8>) {
    let frame = Envelope::to_group(source, tos).seal(advert).bytes().to_vec();
    let carp = frame[if source.is_ipv4() { 34 } else { 54 }..].to_vec();
    (frame, carp)
}

fn both() -> [(Vec<u8>, Vec<u8>); 2] {
    [IpAddr::V4(SOURCE_V4), IpAddr::V6(SOURCE_V6)].map(|source| sealed(source, NETWORK_CONTROL, &advert()))
}

#[test]
fn item_01_an_advert_is_36_bytes_after_the_ip_header() {
    let [(v4, carp4), (v6, carp6)] = both();
    assert_eq!((carp4.len(), carp6.len(), v4.len(), v6.len()), (36, 36, 70, 90));
    assert_eq!(u16::from_be_bytes([v4[16], v4[17]]), 56);
    assert_eq!(u16::from_be_bytes([v6[18], v6[19]]), 36);
}

#[test]
fn item_02_byte_0_is_0x21_and_byte_3_is_7() {
    for (_, carp) in both() {
        assert_eq!((carp[0], carp[3]), (0x21, 7));
    }
}

#[test]
fn item_03_byte_1_is_the_vhid_and_0_is_none() {
    for (_, carp) in both() {
        assert_eq!(carp[1], 7);
    }
    assert_eq!(Vhid::new(0), None);
    let mut zero = both()[0].1.clone();
    zero[1] = 0;
    zero[6..8].copy_from_slice(&[0, 0]);
    let checksum = sum::checksum(&zero).to_be_bytes();
    zero[6..8].copy_from_slice(&checksum);
    assert_eq!(Advert::parse(&zero), Err(Refusal::BadVhid));
}

#[test]
fn item_04_bytes_2_and_5_are_skew_and_base() {
    for (_, carp) in both() {
        assert_eq!((carp[2], carp[5]), (100, 2));
    }
}

#[test]
fn item_05_byte_4_is_the_demotion_that_the_node_gives() {
    assert_eq!(both()[0].1[4], 9);
    assert_eq!(corpus::get("ob-demoted").advert().demote, 33);
    assert_eq!(corpus::get("fb-demoted").advert().demote, 0, "FreeBSD says it in the skew alone");
}

#[test]
fn item_06_the_checksum_covers_the_36_bytes_and_no_pseudo_header_in_either_family() {
    for (_, carp) in both() {
        assert_eq!(plain_sum(&carp), 0xffff);
    }
    let vector = corpus::get("fb-v6-only");
    assert_eq!(vector.resealed(), vector.frame());
}

#[test]
fn item_09_an_ipv4_advert_has_the_fixed_header_fields() {
    let (frame, _) = sealed(SOURCE_V4.into(), 0x10, &advert());
    let packet = SlicedPacket::from_ethernet(&frame).expect("etherparse reads it");
    let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("no IPv4: {packet:?}") };
    let header = ip.header();
    assert_eq!((header.protocol().0, header.ttl(), header.ihl(), header.identification()), (112, 255, 5, 0));
    assert!(header.dont_fragment() && !header.more_fragments());
    assert_eq!(header.dcp().value() << 2 | header.ecn().value(), 0x10);
    assert_eq!((header.source_addr(), header.destination_addr()), (SOURCE_V4, Ipv4Addr::new(224, 0, 0, 18)));
    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    assert_eq!(macs(&frame).1, [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
}

#[test]
fn item_10_an_ipv6_advert_has_the_fixed_header_fields() {
    let (frame, _) = sealed(SOURCE_V6.into(), 0xe0, &advert());
    let packet = SlicedPacket::from_ethernet(&frame).expect("etherparse reads it");
    let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6: {packet:?}") };
    let header = ip.header();
    assert_eq!((header.next_header().0, header.hop_limit(), header.traffic_class()), (112, 255, 0xe0));
    assert_eq!((header.flow_label().value(), header.payload_length()), (0, 36));
    assert!(ip.extensions().is_empty());
    let group: Ipv6Addr = "ff02::12".parse().expect("an address");
    assert_eq!((header.source_addr(), header.destination_addr()), (SOURCE_V6, group));
    assert_eq!(macs(&frame).1, [0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
}

#[test]
fn item_11_the_source_mac_is_the_virtual_one_in_both_families() {
    for (frame, _) in both() {
        assert_eq!(macs(&frame).0, [0x00, 0x00, 0x5e, 0x00, 0x01, 7]);
    }
}

#[test]
fn item_12_tos_and_traffic_class_are_free_and_network_control_by_default() {
    assert_eq!(NETWORK_CONTROL, 0xe0);
    for tos in [0, 0x10, 0xe0, 0xff] {
        let (v4, _) = sealed(SOURCE_V4.into(), tos, &advert());
        let (v6, _) = sealed(SOURCE_V6.into(), tos, &advert());
        assert_eq!((v4[15], v6[14], v6[15]), (tos, 0x60 | tos >> 4, tos << 4));
    }
}

#[test]
fn item_15_what_we_send_verifies_for_an_independent_implementation() {
    let key = Key::from_password(b"wombat").expect("short");
    let vips: Vec<IpAddr> =
        ["fd00::1", "10.0.0.9", "fe80::1", "10.0.0.1"].map(|vip| vip.parse().expect("an address")).to_vec();
    for variant in [Variant::Freebsd, Variant::OpenbsdNov6ll] {
        let state = Midstate::new(&key, variant, None, vhid(7), &vips);
        let mut advert = advert();
        advert.digest = state.digest(advert.counter.to_be_bytes());
        let (_, carp) = sealed(SOURCE_V4.into(), 0, &advert);
        let message = oracle::message(variant, None, 7, &vips, advert.counter);
        assert_eq!(carp[16..], oracle::hmac_sha1(&key, &message));
    }
}

#[test]
fn gratuitous_arp_is_what_etherparse_reads_as_a_broadcast_request_for_oneself() {
    let (vip, mac) = (Ipv4Addr::new(10, 0, 0, 1), virtual_mac(vhid(7)));
    let frame = arp::gratuitous(vip, mac);
    let packet = SlicedPacket::from_ethernet(frame.bytes()).expect("etherparse reads it");
    let Some(NetSlice::Arp(arp)) = packet.net else { panic!("no ARP: {packet:?}") };
    let arp = arp.to_packet();
    assert_eq!((arp.hw_addr_type.0, arp.proto_addr_type.0, arp.operation.0), (1, 0x0800, 1));
    assert_eq!((arp.sender_hw_addr(), arp.target_hw_addr()), (&mac.0[..], &[0; 6][..]));
    assert_eq!(
        (arp.sender_protocol_addr(), arp.target_protocol_addr()),
        (&vip.octets()[..], &vip.octets()[..])
    );
    assert_eq!(macs(frame.bytes()), (mac.0, Mac::BROADCAST.0));
}

#[test]
fn an_unsolicited_advertisement_is_what_etherparse_reads_with_a_valid_checksum() {
    let (vip, mac): (Ipv6Addr, _) = ("fd00::1".parse().expect("an address"), virtual_mac(vhid(7)));
    for router in [false, true] {
        let frame = ndp::unsolicited(vip, mac, router);
        let packet = SlicedPacket::from_ethernet(frame.bytes()).expect("etherparse reads it");
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6: {packet:?}") };
        assert_eq!((ip.header().hop_limit(), ip.header().source_addr()), (255, vip));
        let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6: {packet:?}") };
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        let etherparse::Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() else {
            panic!("{icmp:?}")
        };
        assert_eq!((flags.router, flags.solicited, flags.r#override), (router, false, true));
        assert_eq!(icmp.payload(), [&vip.octets()[..], &[2, 1], &mac.0].concat());
        assert_eq!(macs(frame.bytes()), (mac.0, [0x33, 0x33, 0, 0, 0, 1]));
    }
}

fn macs(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    let packet = SlicedPacket::from_ethernet(frame).expect("etherparse reads it");
    let ethernet = match packet.link {
        Some(LinkSlice::Ethernet2(ethernet)) => Some(ethernet),
        _ => None,
    };
    let ethernet = ethernet.expect("an Ethernet frame");
    (ethernet.source(), ethernet.destination())
}

/// RFC 1071 the slow way: add, and carry at once.
fn plain_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0_u16, |sum, word| {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
