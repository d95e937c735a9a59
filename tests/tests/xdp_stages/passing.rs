//! What must pass untouched although the node serves, and what must pass although it does not.

use crate::frames::*;
use crate::harness::{Kernel, LINK, LINK_MAC, Outcome, PASS};
use crate::serving::{set_up, windows};
use carp_common::id::IfIndex;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Frames that look like ours and are not.
fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let tag = |ethertype: [u8; 2], frame: Vec<u8>| [&frame[..12], &ethertype, &[0, 5], &frame[12..]].concat();
    let ask = |kind, code, hops| {
        let message = solicitation_message(kind, code, VIP6, &source_option());
        ethernet(
            [0x33, 0x33, 0xff, 0, 0, 1],
            IPV6,
            &ipv6(58, hops, CLIENT6, "ff02::1:ff00:1".parse().unwrap(), &message),
        )
    };
    let after_options = |first| {
        let message = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &solicitation_message(135, 0, VIP6, &[])].concat();
        ethernet(
            [0x33, 0x33, 0xff, 0, 0, 1],
            IPV6,
            &ipv6(first, 255, CLIENT6, "ff02::1:ff00:1".parse().unwrap(), &message),
        )
    };
    let damaged = |at: usize, value| {
        let mut frame = arp_request(VIP4);
        frame[at] = value;
        frame
    };
    vec![
        ("a gratuitous ARP request of another", arp(BROADCAST, 1, VIP4, VIP4)),
        ("an ARP reply about a VIP", arp(LINK_MAC, 2, VIP4, CLIENT4)),
        ("an ARP reply to a VIP", arp(LINK_MAC, 2, CLIENT4, VIP4)),
        ("ARP of another hardware", damaged(15, 6)),
        ("ARP of another protocol", damaged(16, 0x86)),
        ("ARP with long addresses", damaged(18, 8)),
        ("ARP for another address", arp_request(OTHER4)),
        ("a solicitation from afar", ask(135, 0, 254)),
        ("a solicitation with a code", ask(135, 1, 255)),
        ("an advertisement for the VIP", ask(136, 0, 255)),
        ("a router solicitation", ask(133, 0, 255)),
        ("a solicitation behind hop-by-hop options", after_options(0)),
        ("a solicitation in a fragment", after_options(44)),
        ("a solicitation for another address", solicitation(CLIENT6, "fd09::2".parse().unwrap(), &[])),
        ("a tagged frame to the virtual MAC", tag([0x81, 0], udp4(virtual_mac(VHID), CLIENT4))),
        ("a service-tagged frame to it", tag([0x88, 0xa8], udp4(virtual_mac(VHID), CLIENT4))),
        ("a tagged ARP request", tag([0x81, 0], arp_request(VIP4))),
        ("a tagged advert", tag([0x81, 0], advert4(VHID))),
        ("a frame to a virtual MAC of another", udp4(virtual_mac(VHID + 1), CLIENT4)),
        ("a frame to VRRP's IPv6 virtual MAC", udp4([0, 0, 0x5e, 0, 2, VHID], CLIENT4)),
        ("an advert of another vhid", advert4(VHID + 1)),
        ("an IPv6 advert of another vhid", advert6(VHID + 1)),
        ("an advert of vhid 0", advert4(0)),
        ("another protocol to the group", ethernet(LINK_MAC, IPV4, &ipv4(89, group, &carp_payload(VHID)))),
        ("protocol 112 with a short header", ethernet(LINK_MAC, IPV4, &short_header())),
        ("a packet to another address", udp4(LINK_MAC, OTHER4)),
        ("an IPv6 packet to another address", udp6(LINK_MAC, CLIENT6)),
        ("a broadcast", udp4(BROADCAST, Ipv4Addr::BROADCAST)),
        ("an IPv6 multicast", udp6([0x33, 0x33, 0, 0, 0, 1], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))),
        ("IPv4 that says it is version 6", wrong_version(udp4(LINK_MAC, VIP4), 0x65)),
        ("IPv6 that says it is version 4", wrong_version(udp6(LINK_MAC, VIP6), 0x40)),
    ]
}

#[test]
fn strangers_pass_untouched_and_uncounted_whether_or_not_this_node_serves() {
    let mut kernel = Kernel::new();
    set_up(&mut kernel);
    for window in [windows().open[0].1, windows().closed[0].1] {
        kernel.set_window(0, window);
        for (name, frame) in strangers() {
            let untouched = Outcome { action: PASS, frame: frame.clone(), counted: Vec::new() };
            assert_eq!(kernel.run(&frame), untouched, "{name}");
        }
    }
}

#[test]
fn a_virtual_host_of_another_link_is_none_of_this_links() {
    let mut kernel = Kernel::new();
    kernel.set_host(IfIndex(LINK.0 + 1), VHID, 0);
    kernel.set_window(0, windows().closed[0].1);
    for frame in [advert4(VHID), advert6(VHID), udp4(virtual_mac(VHID), CLIENT4)] {
        assert_eq!(kernel.run(&frame), Outcome { action: PASS, frame: frame.clone(), counted: Vec::new() });
    }
}

/// Header length 4 words: less than a header.
fn short_header() -> Vec<u8> {
    let mut packet = ipv4(112, Ipv4Addr::new(224, 0, 0, 18), &carp_payload(VHID));
    packet[0] = 0x44;
    packet
}

fn wrong_version(mut frame: Vec<u8>, byte: u8) -> Vec<u8> {
    frame[14] = byte;
    frame
}
