//! What leaves: every kind of frame with every kind of window, the frame as it leaves, cut frames,
//! random frames against a model.

use crate::egress_model::{Maps, OTHER_VHID};
use crate::frames::*;
use crate::harness::{Kernel, LINK_MAC, NEXT, Outcome, SHOT};
use crate::random::Random;
use crate::serving::{set_up, windows};
use carp_common::map::{Counter, Vip};
use carp_common::verdict::Verdict;
use carp_user::io::bpf::Standing;
use carp_user::io::clock;
use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};
use std::net::{Ipv4Addr, Ipv6Addr};

const REWRITTEN: Counter = Counter::EgressRewritten;

/// A frame, what it becomes when served, and how it is counted when not.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    open: Option<Vec<u8>>,
    fenced: Counter,
}

fn from(source: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&source);
    frame
}

/// ARP as the kernel sends it, with this MAC as its own.
fn arp_of(mac: [u8; 6], operation: u8, sender: Ipv4Addr) -> Vec<u8> {
    let mut frame = from(mac, arp(BROADCAST, operation, sender, CLIENT4));
    frame[22..28].copy_from_slice(&mac);
    frame
}

fn packet4(source: Ipv4Addr, protocol: u8) -> Vec<u8> {
    let mut frame = from(LINK_MAC, ethernet(CLIENT_MAC, IPV4, &ipv4(protocol, CLIENT4, &[0x22; 40])));
    frame[26..30].copy_from_slice(&source.octets());
    frame
}

fn packet6(source: Ipv6Addr, next: u8) -> Vec<u8> {
    from(LINK_MAC, ethernet(CLIENT_MAC, IPV6, &ipv6(next, 64, source, CLIENT6, &[0x22; 40])))
}

/// A neighbour message with its checksum.
fn neighbour(kind: u8, source: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = solicitation_message(kind, 0, target, options);
    let sum = carp_common::wire::sum::icmpv6(source.octets(), CLIENT6.octets(), &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    from(LINK_MAC, ethernet(CLIENT_MAC, IPV6, &ipv6(58, 255, source, CLIENT6, &message)))
}

fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// The same with the virtual MAC in the place of the link's own.
fn rewritten(kind: u8, source: Ipv6Addr, target: Ipv6Addr, before: &[u8], after: &[u8]) -> Vec<u8> {
    let mac = virtual_mac(VHID);
    from(mac, neighbour(kind, source, target, &[before, &option(kind - 134, mac), after].concat()))
}

fn cases() -> Vec<Case> {
    let (mac, nonce) = (virtual_mac(VHID), nonce_option());
    let case = |name, frame: Vec<u8>, open, fenced| Case { name, frame, open, fenced };
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

#[test]
fn what_is_ours_leaves_within_the_window_with_the_virtual_mac_and_is_dropped_outside() {
    let mut kernel = Kernel::leaving();
    set_up(&mut kernel);
    for case in cases() {
        let (frame, counted) = match &case.open {
            Some(rewritten) => (rewritten.clone(), vec![REWRITTEN]),
            None => (case.frame.clone(), Vec::new()),
        };
        for which in 0..=windows().open.len() {
            let (window_name, window) = windows().open.get(which).copied().unwrap_or(windows().taken_over);
            kernel.set_window(0, window);
            let wanted = Outcome { action: NEXT, frame: frame.clone(), counted: counted.clone() };
            assert_eq!(kernel.run(&case.frame), wanted, "{}, window {window_name}", case.name);
        }
        for (window_name, window) in windows().closed {
            kernel.set_window(0, window);
            let wanted = Outcome { action: SHOT, frame: case.frame.clone(), counted: vec![case.fenced] };
            assert_eq!(kernel.run(&case.frame), wanted, "{}, window {window_name}", case.name);
        }
    }
}

#[test]
fn what_is_not_ours_leaves_untouched_at_any_time() {
    let others = [
        ("an advert from the virtual MAC", from(virtual_mac(VHID), advert4(VHID))),
        ("an IPv6 advert from it", from(virtual_mac(VHID), advert6(VHID))),
        ("a virtual MAC that is not ours", from(virtual_mac(9), packet4(OTHER4, 17))),
        ("ARP that asks for the VIP", arp(BROADCAST, 1, CLIENT4, VIP4)),
        ("ARP of another hardware", {
            let mut frame = arp_of(LINK_MAC, 1, VIP4);
            frame[15] = 6;
            frame
        }),
        ("a solicitation for the VIP", neighbour(135, CLIENT6, VIP6, &option(1, LINK_MAC))),
        ("a probe for the VIP", neighbour(135, [0; 16].into(), VIP6, &nonce_option())),
        ("IPv4 to the VIP", udp4(CLIENT_MAC, VIP4)),
        ("IPv6 to the VIP", udp6(CLIENT_MAC, VIP6)),
        ("a VLAN's frame from the VIP", {
            let frame = packet4(VIP4, 17);
            [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat()
        }),
        ("something else", ethernet(CLIENT_MAC, 0x88cc, &[7; 50])),
    ];
    let mut kernel = Kernel::leaving();
    set_up(&mut kernel);
    for window in [windows().open[0].1, Standing::default()] {
        kernel.set_window(0, window);
        for (name, frame) in &others {
            let wanted = Outcome { action: NEXT, frame: frame.clone(), counted: Vec::new() };
            assert_eq!(kernel.run(frame), wanted, "{name}");
        }
    }
    let mut empty = Kernel::leaving();
    for case in cases() {
        let wanted = Outcome { action: NEXT, frame: case.frame.clone(), counted: Vec::new() };
        assert_eq!(empty.run(&case.frame), wanted, "{} without entries", case.name);
    }
}

#[test]
fn another_dissector_finds_the_virtual_mac_and_a_right_checksum() {
    let mut kernel = serving();
    for case in cases().iter().filter(|case| case.open.is_some() && case.frame[12..14] == [0x86, 0xdd]) {
        let out = kernel.run(&case.frame).frame;
        let packet = SlicedPacket::from_ethernet(&out).unwrap();
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6 in {out:02x?}") };
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("no ICMPv6") };
        let icmp: Icmpv6Slice<'_> = icmp;
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()), "{}", case.name);
        assert_eq!(out[6..12], virtual_mac(VHID), "{}", case.name);
        assert!(!out.windows(6).any(|six| six == LINK_MAC), "{}: {out:02x?}", case.name);
    }
}

#[test]
fn an_advertisement_for_a_served_vip_from_one_that_is_not_served_is_dropped() {
    let mut kernel = serving();
    kernel.set_vip(CLIENT6.into(), Vip { slot: 1, vhid: u16::from(OTHER_VHID), flags: 0 });
    let outcome = kernel.run(&neighbour(136, CLIENT6, VIP6, &option(2, LINK_MAC)));
    assert_eq!((outcome.action, outcome.counted), (SHOT, vec![Counter::EgressNdpFenced]));
}

#[test]
fn an_option_that_is_cut_off_empty_or_far_behind_leaves_the_message_as_it_is() {
    let mut kernel = serving();
    let far = nonce_option().repeat(4);
    for options in [vec![1, 1, 2, 0], vec![9, 0, 0, 0, 0, 0, 0, 0], [far, option(1, LINK_MAC)].concat()] {
        let frame = neighbour(135, VIP6, CLIENT6, &options);
        let wanted = from(virtual_mac(VHID), frame.clone());
        assert_eq!(kernel.run(&frame), Outcome { action: NEXT, frame: wanted, counted: vec![REWRITTEN] });
    }
}

#[test]
fn a_frame_cut_at_any_length_is_judged_by_what_is_there() {
    let mut kernel = Kernel::leaving();
    set_up(&mut kernel);
    for window in [windows().open[0].1, Standing::default()] {
        kernel.set_window(0, window);
        for frame in cases().into_iter().map(|case| case.frame) {
            for len in shortest(&frame)..=frame.len() {
                check(&mut kernel, &frame[..len], &Maps::set_up(window.is_open(clock::now())));
            }
        }
    }
}

#[test]
fn twenty_thousand_random_frames_agree_with_the_model() {
    let seed = std::env::var("CARP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("CARP_SEED={seed}");
    let mut random = Random(seed);
    let mut kernel = Kernel::leaving();
    let mut actions = [0_u32; 2];
    for _ in 0..100 {
        let maps = Maps::shuffled(&mut kernel, &mut random);
        for _ in 0..200 {
            let frame = random_frame(&mut random);
            let is_dropped = check(&mut kernel, &frame, &maps);
            actions[usize::from(is_dropped)] += 1;
        }
    }
    println!("passed, dropped: {actions:?}");
    assert!(actions.iter().all(|count| *count > 1000), "the frames try everything: {actions:?}");
}

#[test]
fn nanoseconds_per_frame_that_leaves_are_printed() {
    let mut kernel = serving();
    println!("verified instructions: {:?}", kernel.verified_instructions());
    let frames = [
        ("IPv4 of nobody's", packet4(OTHER4, 6)),
        ("IPv6 of nobody's", packet6(CLIENT6, 6)),
        ("IPv4 from the VIP", packet4(VIP4, 6)),
        ("an ARP request rewritten", arp_of(LINK_MAC, 1, VIP4)),
        ("an advert", from(virtual_mac(VHID), advert4(VHID))),
    ];
    for (name, frame) in frames {
        println!("{name:28} {:4} ns", kernel.nanos(&frame, 100_000));
    }
    kernel.set_window(0, Standing::default());
    println!("{:28} {:4} ns", "IPv4 from a fenced VIP", kernel.nanos(&packet4(VIP4, 6), 100_000));
}

/// The kernel's test run takes no frame without anything behind its Ethernet header, nor part of an
/// IP header.
fn shortest(frame: &[u8]) -> usize {
    match frame[12..14] {
        [8, 0] => 34,
        [0x86, 0xdd] => 54,
        _ => 15,
    }
}

fn serving() -> Kernel {
    let mut kernel = Kernel::leaving();
    set_up(&mut kernel);
    kernel.set_window(0, windows().open[0].1);
    kernel
}

/// Whether it is dropped, as the model says.
fn check(kernel: &mut Kernel, frame: &[u8], maps: &Maps) -> bool {
    let (verdict, vhid) = maps.verdict(frame);
    let outcome = kernel.run(frame);
    let (action, counted) = match verdict {
        Verdict::Pass => (NEXT, Vec::new()),
        Verdict::Rewrite(counter) => (NEXT, vec![counter]),
        Verdict::Drop(counter) => (SHOT, vec![counter]),
        Verdict::Answer(_) | Verdict::Serve(_) => panic!("{verdict:?} for {frame:02x?}"),
    };
    assert_eq!((outcome.action, outcome.counted), (action, counted), "{verdict:?} for {frame:02x?}");
    if let Verdict::Rewrite(_) = verdict {
        assert_eq!(outcome.frame[6..12], virtual_mac(u8::try_from(vhid).unwrap()), "{frame:02x?}");
        assert_eq!(outcome.frame.len(), frame.len());
    } else {
        assert_eq!(outcome.frame, frame);
    }
    action == SHOT
}

/// One of the kinds, mostly damaged.
fn random_frame(random: &mut Random) -> Vec<u8> {
    let kinds: Vec<Vec<u8>> = cases().into_iter().map(|case| case.frame).collect();
    let mut frame = random.pick(&kinds);
    if random.one_in(3) {
        let source = random.pick(&[virtual_mac(VHID), virtual_mac(OTHER_VHID), virtual_mac(9), LINK_MAC]);
        frame = from(source, frame);
    }
    if random.one_in(3) {
        frame.truncate(15 + random.below(frame.len() - 15));
    }
    if random.one_in(2) {
        for _ in 0..=random.below(3) {
            let at = 12 + random.below(frame.len().min(90) - 12);
            frame[at] = random.pick(&[0, 1, 4, 6, 8, 58, 112, 135, 136, 255, 0x45, 0x60, 0x81, 0x86]);
        }
    }
    let len = frame.len().max(shortest(&frame));
    frame.resize(len, 0);
    frame
}
