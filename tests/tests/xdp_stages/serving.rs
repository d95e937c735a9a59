//! Every stage with every kind of window: what is done, what the frame becomes, what is counted.

use crate::frames::*;
use crate::harness::{DROP, Kernel, LINK, LINK_MAC, Outcome, PASS, TX};
use carp_common::map::{ARMED_FOR, CAPTURE_LEN, Counter, Host, Vip, Window};
use carp_common::time::{Instant, Span};
use carp_user::io::bpf::Standing;
use carp_user::io::clock;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv6Slice, LinkHeader, NetSlice, SlicedPacket, TransportSlice,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The windows that matter, by name.
pub struct Windows {
    pub open: Vec<(&'static str, Standing)>,
    /// Open, but not for longer than a few frames take.
    pub taken_over: (&'static str, Standing),
    pub closed: Vec<(&'static str, Standing)>,
}

/// A window that does not depend on what was heard.
pub fn always(window: Window) -> Standing {
    Standing { window, heard: Instant::ZERO }
}

pub fn windows() -> Windows {
    let (now, hour, dead) = (clock::now(), Span::secs(3600), Span::secs(3));
    let armed_window = |until| Window::armed(dead, until, CLIENT4.into());
    let armed = |until, silence| Standing { window: armed_window(until), heard: now - silence };
    let lease = Window::new(Instant::ZERO, now + hour);
    let of = |window| Standing { window, heard: now };
    Windows {
        open: vec![
            ("a master's lease", of(lease)),
            ("a window that has begun", of(Window::new(now - Span::millis(1), now + hour))),
            ("for ever", of(Window::new(Instant::ZERO, Instant::MAX))),
            ("a lease while armed", of(Window { dead: 1, armed_until: u64::MAX, ..lease })),
        ],
        taken_over: ("an armed backup's, begun", armed(now + hour, dead)),
        closed: vec![
            ("zero", of(Window::CLOSED)),
            ("expired", of(Window::new(Instant::ZERO, now - Span::millis(1)))),
            ("not yet begun", of(Window::new(now + hour, now + hour + hour))),
            ("never", of(Window::new(Instant::MAX, Instant::MAX))),
            ("upside down", of(Window::new(now + hour, now - Span::millis(1)))),
            ("armed, master heard", armed(now + hour, Span::ZERO)),
            ("armed, nobody ever heard", always(armed_window(now + hour))),
            ("armed, taken over and not claimed", armed(now + hour, dead + ARMED_FOR)),
            ("armed no longer", armed(now - Span::millis(1), dead)),
        ],
    }
}

/// One virtual host with a VIP of each family in slot 0.
pub fn set_up(kernel: &mut Kernel) {
    kernel.set_host(LINK, VHID, 0);
    for vip in VIPS {
        kernel.set_vip(vip, Vip { slot: 0, vhid: u16::from(VHID), flags: Host::ROUTER });
    }
}

/// Frame, and per open and closed window: action and counter.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    open: (u32, Counter),
    closed: (u32, Counter),
}

fn cases() -> Vec<Case> {
    let arp = ((TX, Counter::ArpAnswered), (DROP, Counter::ArpSilent));
    let ndp = ((TX, Counter::NdpAnswered), (DROP, Counter::NdpSilent));
    let mac = ((PASS, Counter::VirtualMacServed), (DROP, Counter::VirtualMacFenced));
    let vip = ((PASS, Counter::VipServed), (DROP, Counter::VipFenced));
    let to_us = virtual_mac(VHID);
    let case = |name, frame, (open, closed)| Case { name, frame, open, closed };
    let probe = Ipv4Addr::UNSPECIFIED;
    let nothing = Ipv6Addr::UNSPECIFIED;
    let unicast = |to| {
        let message = solicitation_message(135, 0, VIP6, &source_option());
        ethernet(to, IPV6, &ipv6(58, 255, CLIENT6, VIP6, &message))
    };
    vec![
        case("an ARP request", arp_request(VIP4), arp),
        case("an ARP probe", crate::frames::arp(BROADCAST, 1, probe, VIP4), arp),
        case("an ARP request to the virtual MAC", crate::frames::arp(to_us, 1, CLIENT4, VIP4), arp),
        case("one for another address to it", crate::frames::arp(to_us, 1, CLIENT4, OTHER4), mac),
        case("a solicitation", solicitation(CLIENT6, VIP6, &source_option()), ndp),
        case("a solicitation without option", solicitation(CLIENT6, VIP6, &[]), ndp),
        case(
            "one with two options",
            solicitation(CLIENT6, VIP6, &[source_option(), nonce_option()].concat()),
            ndp,
        ),
        case("a probe by a node without address", solicitation(nothing, VIP6, &nonce_option()), ndp),
        case("a unicast solicitation", unicast(LINK_MAC), ndp),
        case("one to the virtual MAC", unicast(to_us), ndp),
        case("IPv4 through the virtual MAC", udp4(to_us, CLIENT4), mac),
        case("IPv6 through the virtual MAC", udp6(to_us, CLIENT6), mac),
        case("something else to the virtual MAC", ethernet(to_us, 0x88cc, &[7; 50]), mac),
        case("IPv4 to the VIP", udp4(LINK_MAC, VIP4), vip),
        case("a fragment to the VIP, with options", fragment(), vip),
        case("IPv6 to the VIP", udp6(LINK_MAC, VIP6), vip),
    ]
}

#[test]
fn every_kind_of_frame_is_served_within_the_window_and_dropped_outside() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel);
    for case in cases() {
        for which in 0..=windows().open.len() {
            let (window_name, window) = windows().open.get(which).copied().unwrap_or(windows().taken_over);
            kernel.set_window(0, window);
            let outcome = kernel.run(&case.frame);
            expect(&outcome, case.open, &format!("{}, window {window_name}", case.name));
        }
        for (window_name, window) in windows().closed {
            kernel.set_window(0, window);
            let outcome = kernel.run(&case.frame);
            expect(&outcome, case.closed, &format!("{}, window {window_name}", case.name));
            assert_eq!(outcome.frame, case.frame, "{}", case.name);
        }
    }
}

#[test]
fn without_entries_every_kind_of_frame_passes_untouched_and_uncounted() {
    let mut kernel = Kernel::new();
    kernel.set_window(0, windows().open[0].1);
    for frame in cases().into_iter().map(|case| case.frame).chain([advert4(VHID), advert6(VHID)]) {
        assert_eq!(kernel.run(&frame), Outcome { action: PASS, frame: frame.clone(), counted: Vec::new() });
    }
}

#[test]
fn an_arp_answer_carries_the_virtual_mac_and_goes_to_the_asker_alone() {
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
fn a_solicitation_is_answered_with_flags_option_and_checksum_in_86_bytes() {
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
fn a_frame_to_the_virtual_mac_gets_the_links_mac_and_nothing_else_changes() {
    let mut kernel = serving();
    let frame = udp4(virtual_mac(VHID), CLIENT4);
    let out = kernel.run(&frame).frame;
    assert_eq!(out[..6], LINK_MAC);
    assert_eq!(out[6..], frame[6..]);
}

#[test]
fn an_advert_passes_and_its_first_128_bytes_go_to_the_daemon_whatever_the_window() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel);
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
    set_up(&mut kernel);
    let mut heard = 0;
    let full = loop {
        let outcome = kernel.run(&advert4(VHID));
        if outcome.counted != [Counter::Advert] {
            break outcome;
        }
        heard += 1;
        assert!(heard < 1000, "the ring never fills");
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
    set_up(&mut kernel);
    kernel.set_window(0, windows().open[0].1);
    kernel
}

fn expect(outcome: &Outcome, (action, counter): (u32, Counter), name: &str) {
    assert_eq!((outcome.action, &outcome.counted[..]), (action, &[counter][..]), "{name}");
}

fn fragment() -> Vec<u8> {
    let mut packet = ipv4_with(8, 6, VIP4, &[9; 40]);
    packet[6..8].copy_from_slice(&[0x20, 0x10]);
    ethernet(LINK_MAC, IPV4, &packet)
}
