//! What leaves, further: as an independent dissector reads it, and odd options.

use crate::frames::*;
use crate::harness::{DROP, Kernel, LINK_MAC, Outcome, PASS};
use crate::leaving::{arp_of, neighbour, option, ours, packet4, packet6};
use crate::windows::{open, set_up};
use carp_common::map::{Counter, Vip};
use carp_user::io::bpf::Standing;
use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};

const REWRITTEN: Counter = Counter::EgressRewritten;

#[test]
fn another_dissector_finds_the_virtual_mac_and_a_right_checksum() {
    let mut kernel = serving();
    for case in ours().iter().filter(|row| row.open.frame().is_some() && row.frame[12..14] == [0x86, 0xdd]) {
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
    kernel.set_vip(CLIENT6.into(), Vip { slot: 1, vhid: u16::from(VHID) + 1, flags: 0 });
    let outcome = kernel.run(&neighbour(136, CLIENT6, VIP6, &option(2, LINK_MAC)));
    assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::EgressNdpFenced]));
}

#[test]
fn an_option_that_is_cut_off_empty_or_far_behind_leaves_the_message_as_it_is() {
    let mut kernel = serving();
    let far = nonce_option().repeat(4);
    for options in [vec![1, 1, 2, 0], vec![9, 0, 0, 0, 0, 0, 0, 0], [far, option(1, LINK_MAC)].concat()] {
        let frame = neighbour(135, VIP6, CLIENT6, &options);
        let wanted = from(virtual_mac(VHID), frame.clone());
        assert_eq!(kernel.run(&frame), Outcome { action: PASS, frame: wanted, counted: vec![REWRITTEN] });
    }
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

fn serving() -> Kernel {
    let mut kernel = Kernel::leaving();
    set_up(&mut kernel, 0);
    kernel.set_window(0, open());
    kernel
}
