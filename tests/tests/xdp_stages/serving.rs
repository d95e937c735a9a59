//! Answers as an independent dissector reads them; the adverts in the ring buffer.

use crate::frames::*;
use crate::harness::{DROP, Hook, Kernel, LINK, LINK_MAC, Outcome, PASS};
use crate::windows::{always, open, set_up};
use carp_common::map::{CAPTURE_LEN, Counter, Host, Vip, Window};
use carp_user::io::clock;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv6Slice, LinkHeader, NetSlice, SlicedPacket, TransportSlice,
};
use std::net::{Ipv4Addr, Ipv6Addr};

#[test]
fn item_100_an_arp_answer_carries_the_virtual_mac_and_goes_to_the_asker_alone() {
    let mut kernel = serving();
    for sender in [CLIENT4, Ipv4Addr::UNSPECIFIED] {
        let out = kernel.run(&arp(BROADCAST, 1, sender, VIP4)).frame;
        let packet = SlicedPacket::from_ethernet(&out).unwrap();
        let ethernet = packet.link.as_ref().unwrap().to_header().and_then(LinkHeader::ethernet2).unwrap();
        assert_eq!((ethernet.destination, ethernet.source), (CLIENT_MAC, virtual_mac(VHID)));
        let Some(NetSlice::Arp(arp)) = packet.net else { panic!("no ARP in {out:02x?}") };
        let answer = ArpEthIpv4Packet {
            operation: ArpOperation::REPLY,
            sender_mac: virtual_mac(VHID),
            sender_ipv4: VIP4.octets(),
            target_mac: CLIENT_MAC,
            target_ipv4: sender.octets(),
        };
        assert_eq!(arp.to_packet().try_eth_ipv4().unwrap(), answer);
    }
}

#[test]
fn items_100_105_a_solicitation_is_answered_with_the_virtual_mac_and_the_router_flag_if_we_forward() {
    let both = [source_option(), nonce_option()].concat();
    for (options, flags) in [(Vec::new(), 0), (source_option(), Host::ROUTER), (both, Host::ROUTER)] {
        let mut kernel = serving();
        kernel.set_vip(VIP6.into(), Vip { slot: 0, vhid: u16::from(VHID), flags });
        let out = kernel.run(&solicitation(CLIENT6, VIP6, &options)).frame;
        let answer = Answer::read(&out);
        assert_eq!((answer.to, answer.source, answer.destination), (CLIENT_MAC, VIP6, CLIENT6));
        assert_eq!((answer.router, answer.solicited), (flags == Host::ROUTER, true));
    }
}

#[test]
fn a_probe_for_a_vip_is_answered_to_all_nodes() {
    let mut kernel = serving();
    for options in [Vec::new(), nonce_option()] {
        let out = kernel.run(&solicitation(Ipv6Addr::UNSPECIFIED, VIP6, &options)).frame;
        let answer = Answer::read(&out);
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        assert_eq!(
            (answer.to, answer.source, answer.destination),
            ([0x33, 0x33, 0, 0, 0, 1], VIP6, all_nodes)
        );
        assert_eq!((answer.router, answer.solicited), (true, false));
    }
}

#[test]
fn item_101_from_the_write_that_closes_the_window_on_nothing_is_answered_or_let_through() {
    let mac = virtual_mac(VHID);
    let frames = [
        arp_request(VIP4),
        solicitation(CLIENT6, VIP6, &source_option()),
        ping4(mac, 64, &[7; 40]).request,
        udp4(mac, CLIENT4),
        ethernet(mac, 0x88cc, &[7; 50]),
        udp4(LINK_MAC, VIP4),
        udp6(LINK_MAC, VIP6),
    ];
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc] {
        let mut kernel = Kernel::at(hook);
        set_up(&mut kernel, Host::ANSWER_PING);
        for frame in &frames {
            kernel.set_window(0, open());
            assert_ne!(kernel.run(frame).action, DROP);
            kernel.set_window(0, always(Window::CLOSED));
            assert_eq!(kernel.run(frame).action, DROP, "{frame:02x?}");
        }
    }
}

#[test]
fn an_advert_passes_and_its_first_128_bytes_go_to_the_daemon_whatever_the_window() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, Host::ROUTER);
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let with =
        |words, len| ethernet(virtual_mac(VHID), IPV4, &ipv4_with(words, 112, group, &vec![VHID; len]));
    // The last ones: options as long as they get, VRRP's length, two bytes, too long for a record.
    let frames =
        [advert4(VHID), advert6(VHID), with(15, 36), with(5, 20), with(5, 2), with(15, 100), with(6, 1200)];
    for frame in frames {
        let from = clock::now();
        let outcome = kernel.run(&frame);
        let to = clock::now();
        assert_eq!(outcome, Outcome { action: PASS, frame: frame.clone(), counted: vec![Counter::Advert] });
        let heard = kernel.adverts();
        assert_eq!(heard.len(), 1);
        assert!((from.nanos()..=to.nanos()).contains(&heard[0].at));
        assert_eq!(heard[0].ifindex, LINK.0);
        assert_eq!(usize::try_from(heard[0].frame_len).unwrap(), frame.len());
        let copied = frame.len().min(CAPTURE_LEN);
        assert_eq!(heard[0].frame[..copied], frame[..copied]);
        assert!(heard[0].frame[copied..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn adverts_for_a_full_ring_are_counted_and_pass() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, Host::ROUTER);
    let mut heard = 0;
    let full = loop {
        let outcome = kernel.run(&advert4(VHID));
        if outcome.counted != [Counter::Advert] {
            break outcome;
        }
        heard += 1;
        assert!(heard < 10_000, "the ring never fills");
    };
    assert_eq!((full.action, full.counted), (PASS, vec![Counter::RingFull]));
    assert_eq!(kernel.adverts().len(), heard);
    println!("the ring holds {heard} adverts");
}

/// A neighbour advertisement as an independent dissector reads it.
struct Answer {
    to: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    router: bool,
    solicited: bool,
}

impl Answer {
    fn read(frame: &[u8]) -> Self {
        assert_eq!(frame.len(), 86);
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let ethernet = packet.link.as_ref().unwrap().to_header().and_then(LinkHeader::ethernet2).unwrap();
        assert_eq!(ethernet.source, virtual_mac(VHID));
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6 in {frame:02x?}") };
        let header = ip.header();
        assert_eq!((header.hop_limit(), header.payload_length()), (255, 32));
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
        let icmp: Icmpv6Slice<'_> = icmp;
        assert!(icmp.is_checksum_valid(header.source(), header.destination()), "{frame:02x?}");
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (136, 0));
        let (head, body) = icmp.slice().split_at(8);
        let option = [&[2, 1], &virtual_mac(VHID)[..]].concat();
        assert_eq!((&body[..16], &body[16..]), (&VIP6.octets()[..], &option[..]));
        assert_eq!((head[4] & 0x1f, &head[5..8]), (0, &[0, 0, 0][..]), "reserved bits");
        assert_ne!(head[4] & 0x20, 0, "override");
        Self {
            to: ethernet.destination,
            source: header.source_addr(),
            destination: header.destination_addr(),
            router: head[4] & 0x80 != 0,
            solicited: head[4] & 0x40 != 0,
        }
    }
}

fn serving() -> Kernel {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, Host::ROUTER);
    kernel.set_window(0, open());
    kernel
}
