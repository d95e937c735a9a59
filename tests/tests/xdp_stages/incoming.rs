//! The table of what comes in.

use crate::adverts;
use crate::frames::*;
use crate::harness::{Hook, Kernel, LINK, LINK_MAC, Outcome, PASS};
use crate::strict;
use crate::table::{Fate, Row, answers, becomes, check, drops, passes, untouched};
use crate::windows::windows;
use carp_common::id::IfIndex;
use carp_common::map::{Counter, Host};
use carp_common::pace::Pace;
use carp_user::io::bpf::{PROGRAM, program_of_this_kernel};
use std::net::{Ipv4Addr, Ipv6Addr};

const US: [u8; 6] = virtual_mac(VHID);

#[test]
fn the_table_of_what_comes_in() {
    let rows = rows();
    check(Hook::Xdp, &rows);
    check(Hook::OneBuffer, &rows);
    check(Hook::Tc, &rows);
    println!("{} rows", rows.len());
}

pub fn rows() -> Vec<Row> {
    [questions(), adverts(), pings(), kernels_pings(), packets(), strangers()].into_iter().flatten().collect()
}

/// With an MTU of 9000 bytes, and a buffer of less. Linux before 5.18 hands out no such frames.
#[test]
fn the_table_of_frames_in_more_than_one_buffer() {
    if program_of_this_kernel() != PROGRAM {
        println!("this kernel hands out no frames of more than one buffer");
        return;
    }
    check(Hook::Xdp, &jumbos());
}

#[test]
fn a_virtual_host_of_another_link_is_none_of_this_links() {
    let mut kernel = Kernel::new();
    kernel.set_host(IfIndex(LINK.0 + 1), VHID, 0);
    kernel.set_window(0, windows().closed[0].1);
    for frame in [advert4(VHID), advert6(VHID), udp4(US, CLIENT4)] {
        assert_eq!(kernel.run(&frame), Outcome { action: PASS, frame: frame.clone(), counted: Vec::new() });
    }
}

fn row(name: &'static str, frame: Vec<u8>, open: Fate, closed: Fate) -> Row {
    Row { name, flags: 0, frame, open, closed }
}

/// ARP requests and neighbour solicitations for a VIP.
fn questions() -> Vec<Row> {
    let asked = |name, frame, sender| {
        let answer = answers(arp_answer(sender), Counter::ArpAnswered);
        row(name, frame, answer, drops(Counter::ArpSilent))
    };
    let solicited = |name, frame, answer| {
        row(name, frame, answers(answer, Counter::NdpAnswered), drops(Counter::NdpSilent))
    };
    let (nobody4, nobody6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let unicast = |to| {
        let message = solicitation_message(135, 0, VIP6, &source_option());
        ethernet(to, IPV6, &ipv6(58, 255, CLIENT6, VIP6, &message))
    };
    let (option, nonce) = (source_option(), nonce_option());
    let both = [&option[..], &nonce].concat();
    let probed = || advertisement(ALL_NODES_MAC, ALL_NODES, OVERRIDE);
    let answer = || advertisement(CLIENT_MAC, CLIENT6, SOLICITED | OVERRIDE);
    let of_router = advertisement(CLIENT_MAC, CLIENT6, ROUTER | SOLICITED | OVERRIDE);
    vec![
        asked("an ARP request", arp_request(VIP4), CLIENT4),
        asked("an ARP probe", arp(BROADCAST, 1, nobody4, VIP4), nobody4),
        asked("an ARP request to the virtual MAC", arp(US, 1, CLIENT4, VIP4), CLIENT4),
        row(
            "an ARP request with padding",
            [&arp_request(VIP4)[..], &[0x5a; 18]].concat(),
            answers([&arp_answer(CLIENT4)[..], &[0x5a; 18]].concat(), Counter::ArpAnswered),
            drops(Counter::ArpSilent),
        ),
        solicited(
            "one with padding",
            [&solicitation(CLIENT6, VIP6, &[])[..], &[0x5a; 40]].concat(),
            answer(),
        ),
        solicited("a solicitation", solicitation(CLIENT6, VIP6, &option), answer()),
        solicited("one without option", solicitation(CLIENT6, VIP6, &[]), answer()),
        solicited("one with two options", solicitation(CLIENT6, VIP6, &both), answer()),
        solicited("a probe by a node without address", solicitation(nobody6, VIP6, &[]), probed()),
        solicited("a probe with a nonce", solicitation(nobody6, VIP6, &nonce), probed()),
        solicited("a unicast solicitation", unicast(LINK_MAC), answer()),
        solicited("one to the virtual MAC", unicast(US), answer()),
        Row {
            flags: Host::ROUTER,
            ..solicited("one while we forward", solicitation(CLIENT6, VIP6, &option), of_router)
        },
    ]
}

fn adverts() -> Vec<Row> {
    let heard = |name, frame| row(name, frame, passes(Counter::Advert), passes(Counter::Advert));
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let with = |words, len| ethernet(US, IPV4, &ipv4_with(words, 112, group, &vec![VHID; len]));
    vec![
        heard("an advert", advert4(VHID)),
        heard("an IPv6 advert", advert6(VHID)),
        heard("an advert with options, to the virtual MAC", with(15, 36)),
        heard("VRRPv2 of our number", with(5, 20)),
        heard("an authentic advert", adverts::good(CLIENT4.into())),
        heard("an authentic IPv6 advert", adverts::good(CLIENT6.into())),
        heard("an announced claim", adverts::announced(CLIENT4.into())),
        heard("a strict advert", strict::advert(CLIENT4.into(), 7)),
        heard("a strict IPv6 advert", strict::advert(CLIENT6.into(), 7)),
        heard("a strict answer", strict::word(CLIENT4.into(), Pace::ANSWER, 6, 5)),
        heard("a word to this node", adverts::to_node(CLIENT4.into(), adverts::OWN4.into(), Pace::GREETING)),
    ]
}

/// Echo requests that are answered here.
fn pings() -> Vec<Row> {
    let asked = |name, Ping { request, answer }, closed| Row {
        flags: Host::ANSWER_PING,
        ..row(name, request, answers(answer, Counter::PingAnswered), drops(closed))
    };
    let to_us = |name, ping| asked(name, ping, Counter::VirtualMacFenced);
    let to_link = |name, ping| asked(name, ping, Counter::VipFenced);
    let padded = |Ping { request, answer }| Ping {
        request: [&request[..], &[0x5a; 18]].concat(),
        answer: [&answer[..], &[0x5a; 18]].concat(),
    };
    let message: Vec<u8> = (0..60).collect();
    vec![
        to_us("a ping", ping4(US, 64, &message)),
        to_link("one to the link's own MAC", ping4(LINK_MAC, 64, &message)),
        to_us("one at the end of its way", ping4(US, 1, &message)),
        to_us("one of odd length", ping4(US, 255, &message[..59])),
        to_us("one with nothing but zeros", ping4(US, 64, &[0; 12])),
        to_us("one with nothing but ones", ping4(US, 64, &[0xff; 12])),
        to_us("the shortest, padded", padded(ping4(US, 64, &[1, 2, 3, 4]))),
        to_us("a long one", ping4(US, 64, &[7; 1476])),
        to_us("a ping by IPv6", ping6(US, 64, &message)),
        to_link("one by IPv6 to the link's own MAC", ping6(LINK_MAC, 1, &message[..59])),
        to_us("one by IPv6 with nothing but zeros", ping6(US, 64, &[0; 12])),
        to_us("the shortest by IPv6, padded", padded(ping6(US, 64, &[1, 2, 3, 4]))),
        to_us("a long one by IPv6", ping6(US, 64, &[7; 1456])),
    ]
}

/// Pings that the kernel answers, or nobody.
fn kernels_pings() -> Vec<Row> {
    let kernels = |name, frame| Row {
        flags: Host::ANSWER_PING,
        ..row(name, frame, passes(Counter::VipServed), drops(Counter::VipFenced))
    };
    let ping4 = |to| ping4(to, 64, &[7; 44]).request;
    let ping6 = |to| ping6(to, 64, &[7; 44]).request;
    let from_ip4 = |ip: [u8; 4]| [&ping4(LINK_MAC)[..26], &ip, &ping4(LINK_MAC)[30..]].concat();
    let from_ip6 = |ip: Ipv6Addr| [&ping6(LINK_MAC)[..22], &ip.octets(), &ping6(LINK_MAC)[38..]].concat();
    let with4 = |at, byte| with_byte(ping4(LINK_MAC), at, byte);
    let with6 = |at, byte| with_byte(ping6(LINK_MAC), at, byte);
    let another = [2, 0, 0, 0, 0, 0x99];
    let options = ethernet(LINK_MAC, IPV4, &ipv4_with(6, 1, VIP4, &ping4(LINK_MAC)[34..]));
    let extended = |first: u8, header: [u8; 8]| {
        let payload = [&header[..], &ping6(LINK_MAC)[54..]].concat();
        ethernet(LINK_MAC, IPV6, &ipv6(first, 64, CLIENT6, VIP6, &payload))
    };
    vec![
        Row { flags: 0, ..kernels("a ping without answer_ping", ping4(LINK_MAC)) },
        Row { flags: Host::ROUTER, ..kernels("one by IPv6 without answer_ping", ping6(LINK_MAC)) },
        kernels("a ping to another station", ping4(another)),
        kernels("one by IPv6 to another station", ping6(another)),
        kernels("a ping to all stations", ping4(BROADCAST)),
        kernels("a ping from a group of stations", from(ALL_NODES_MAC, ping4(LINK_MAC))),
        kernels("a ping with options", options),
        kernels("the first fragment of a ping", with4(20, 0x20)),
        kernels("another fragment of a ping", with4(21, 1)),
        kernels("a ping that says it is longer than it is", with4(17, 73)),
        kernels("a ping that says it is shorter than its head", with4(17, 27)),
        kernels("a ping with a code", with4(35, 1)),
        kernels("an answer to a ping", with4(34, 0)),
        kernels("a ping of another protocol", with4(23, 58)),
        kernels("a ping from the VIP", from_ip4(VIP4.octets())),
        kernels("a ping from nowhere", from_ip4([0; 4])),
        kernels("a ping from ourselves", from_ip4([127, 0, 0, 1])),
        kernels("a ping from a group", from_ip4([224, 0, 0, 1])),
        kernels("a ping from everybody", from_ip4([255; 4])),
        kernels("a ping by IPv6 behind hop-by-hop options", extended(0, [58, 0, 1, 4, 0, 0, 0, 0])),
        kernels("a ping by IPv6 in a fragment", extended(44, [58, 0, 0, 1, 0, 0, 0, 9])),
        kernels("one by IPv6 that says it is longer than it is", with6(19, 49)),
        kernels("one by IPv6 that says it is shorter than its head", with6(19, 7)),
        kernels("one by IPv6 with a code", with6(55, 1)),
        kernels("an answer to a ping by IPv6", with6(54, 129)),
        kernels("a ping by IPv6 from the VIP", from_ip6(VIP6)),
        kernels("a ping by IPv6 from nowhere", from_ip6(Ipv6Addr::UNSPECIFIED)),
        kernels("a ping by IPv6 from ourselves", from_ip6(Ipv6Addr::LOCALHOST)),
        kernels("a ping by IPv6 from a group", from_ip6(ALL_NODES)),
    ]
}

/// To a virtual MAC, or to a VIP.
fn packets() -> Vec<Row> {
    let through = |name, frame: Vec<u8>| {
        let readdressed = [&LINK_MAC[..], &frame[6..]].concat();
        let open = becomes(readdressed, Counter::VirtualMacServed);
        row(name, frame, open, drops(Counter::VirtualMacFenced))
    };
    let to_vip = |name, frame| row(name, frame, passes(Counter::VipServed), drops(Counter::VipFenced));
    let ipv4_of = |payload: &[u8]| ethernet(LINK_MAC, IPV4, payload);
    vec![
        through("IPv4 through the virtual MAC", udp4(US, CLIENT4)),
        through("IPv6 through the virtual MAC", udp6(US, CLIENT6)),
        through("IPv4 to the VIP through it", udp4(US, VIP4)),
        through("IPv6 to the VIP through it", udp6(US, VIP6)),
        through("an ARP request for another to it", arp(US, 1, CLIENT4, OTHER4)),
        through("an ARP reply to it", arp(US, 2, CLIENT4, VIP4)),
        through("something else to it", ethernet(US, 0x88cc, &[7; 50])),
        to_vip("IPv4 to the VIP", udp4(LINK_MAC, VIP4)),
        to_vip("IPv6 to the VIP", udp6(LINK_MAC, VIP6)),
        to_vip("IPv4 with options to the VIP", ipv4_of(&ipv4_with(15, 17, VIP4, &[9; 40]))),
        to_vip("IPv4 to the VIP that says it is longer than it is", with_byte(udp4(LINK_MAC, VIP4), 16, 9)),
        to_vip("IPv4 to the VIP that says it is shorter than it is", with_byte(udp4(LINK_MAC, VIP4), 17, 20)),
        to_vip("a fragment to the VIP, with options", ipv4_of(&fragment(ipv4_with(8, 6, VIP4, &[9; 40])))),
        to_vip("an IPv6 fragment to the VIP", {
            ethernet(LINK_MAC, IPV6, &ipv6(44, 64, CLIENT6, VIP6, &[17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4]))
        }),
        to_vip("a solicitation for another to the VIP", {
            let message = solicitation_message(135, 0, CLIENT6, &source_option());
            ethernet(LINK_MAC, IPV6, &ipv6(58, 255, CLIENT6, VIP6, &message))
        }),
    ]
}

/// What goes back goes back in one buffer; all else is as with short frames.
fn jumbos() -> Vec<Row> {
    let long = |mut frame: Vec<u8>| {
        frame.resize(9014, 0x5a);
        frame
    };
    let ping4 = ping4(US, 64, &[7; 8976]).request;
    let ping6 = ping6(LINK_MAC, 64, &[7; 8956]).request;
    let through = |name, frame: Vec<u8>| {
        let readdressed = [&LINK_MAC[..], &frame[6..]].concat();
        let open = becomes(readdressed, Counter::VirtualMacServed);
        Row { flags: Host::ANSWER_PING, ..row(name, frame, open, drops(Counter::VirtualMacFenced)) }
    };
    let to_vip = |name, frame| Row {
        flags: Host::ANSWER_PING,
        ..row(name, frame, passes(Counter::VipServed), drops(Counter::VipFenced))
    };
    let heard = passes(Counter::Advert);
    vec![
        through("IPv4 through the virtual MAC", long(udp4(US, CLIENT4))),
        through("IPv6 through the virtual MAC", long(udp6(US, CLIENT6))),
        through("a ping", ping4),
        to_vip("a ping by IPv6", ping6),
        to_vip("IPv4 to the VIP", long(udp4(LINK_MAC, VIP4))),
        to_vip("IPv6 to the VIP", long(udp6(LINK_MAC, VIP6))),
        row("a solicitation", long(solicitation(CLIENT6, VIP6, &[])), untouched(), drops(Counter::NdpSilent)),
        row("an ARP request", long(arp_request(VIP4)), untouched(), drops(Counter::ArpSilent)),
        row("an advert", long(advert4(VHID)), heard.clone(), heard),
        row("IPv4 to another", long(udp4(LINK_MAC, OTHER4)), untouched(), untouched()),
        row(
            "a tagged packet to the VIP",
            long(tagged([0x81, 0], &udp4(LINK_MAC, VIP4))),
            untouched(),
            untouched(),
        ),
    ]
}

/// Frames that look like ours and are not.
fn strangers() -> Vec<Row> {
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let solicited_node = "ff02::1:ff00:1".parse().unwrap();
    let ask = |kind, code, hops| {
        let message = solicitation_message(kind, code, VIP6, &source_option());
        ethernet([0x33, 0x33, 0xff, 0, 0, 1], IPV6, &ipv6(58, hops, CLIENT6, solicited_node, &message))
    };
    let after_options = |first| {
        let message = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &solicitation_message(135, 0, VIP6, &[])].concat();
        ethernet([0x33, 0x33, 0xff, 0, 0, 1], IPV6, &ipv6(first, 255, CLIENT6, solicited_node, &message))
    };
    let frames = [
        ("a gratuitous ARP request of another", arp(BROADCAST, 1, VIP4, VIP4)),
        ("an ARP reply about a VIP", arp(LINK_MAC, 2, VIP4, CLIENT4)),
        ("an ARP reply to a VIP", arp(LINK_MAC, 2, CLIENT4, VIP4)),
        ("ARP of another hardware", with_byte(arp_request(VIP4), 15, 6)),
        ("ARP of another protocol", with_byte(arp_request(VIP4), 16, 0x86)),
        ("ARP with long addresses", with_byte(arp_request(VIP4), 18, 8)),
        ("ARP for another address", arp_request(OTHER4)),
        ("a solicitation from afar", ask(135, 0, 254)),
        ("a solicitation with a code", ask(135, 1, 255)),
        ("an advertisement for the VIP", ask(136, 0, 255)),
        ("a router solicitation", ask(133, 0, 255)),
        ("a solicitation behind hop-by-hop options", after_options(0)),
        ("a solicitation in a fragment", after_options(44)),
        ("a solicitation for another address", solicitation(CLIENT6, "fd09::2".parse().unwrap(), &[])),
        ("a tagged frame to the virtual MAC", tagged([0x81, 0], &udp4(US, CLIENT4))),
        ("a service-tagged frame to it", tagged([0x88, 0xa8], &udp4(US, CLIENT4))),
        ("a frame to it with two tags", tagged([0x88, 0xa8], &tagged([0x81, 0], &udp4(US, CLIENT4)))),
        ("a tagged packet to the VIP", tagged([0x81, 0], &udp4(LINK_MAC, VIP4))),
        ("a tagged ARP request", tagged([0x81, 0], &arp_request(VIP4))),
        ("a tagged advert", tagged([0x81, 0], &advert4(VHID))),
        ("a frame to a virtual MAC of another", udp4(virtual_mac(VHID + 1), CLIENT4)),
        ("a frame to VRRP's IPv6 virtual MAC", udp4([0, 0, 0x5e, 0, 2, VHID], CLIENT4)),
        ("an advert of another vhid", advert4(VHID + 1)),
        ("an IPv6 advert of another vhid", advert6(VHID + 1)),
        ("an advert of vhid 0", advert4(0)),
        ("another protocol to the group", ethernet(LINK_MAC, IPV4, &ipv4(89, group, &carp_payload(VHID)))),
        ("protocol 112 with a short header", {
            with_byte(ethernet(LINK_MAC, IPV4, &ipv4(112, group, &carp_payload(VHID))), 14, 0x44)
        }),
        ("an IPv6 packet to the IPv4 address", udp6(LINK_MAC, VIP4.to_ipv6_mapped())),
        ("a solicitation for the IPv4 address", solicitation(CLIENT6, VIP4.to_ipv6_mapped(), &[])),
        ("a ping to another address", with_byte(ping4(LINK_MAC, 64, &[7; 44]).request, 33, 9)),
        ("a packet to another address", udp4(LINK_MAC, OTHER4)),
        ("an IPv6 packet to another address", udp6(LINK_MAC, CLIENT6)),
        ("a broadcast", udp4(BROADCAST, Ipv4Addr::BROADCAST)),
        ("an IPv6 multicast", udp6(ALL_NODES_MAC, ALL_NODES)),
        ("IPv4 that says it is version 6", with_byte(udp4(LINK_MAC, VIP4), 14, 0x65)),
        ("IPv6 that says it is version 4", with_byte(udp6(LINK_MAC, VIP6), 14, 0x40)),
    ];
    frames.into_iter().map(|(name, frame)| row(name, frame, untouched(), untouched())).collect()
}
