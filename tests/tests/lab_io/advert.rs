use crate::namespace::{ip, proc_net, soon, until, with_pair};
use carp_common::id::{IfIndex, Mac};
use carp_common::time::Span;
use carp_common::wire::Frame;
use carp_common::wire::eth::{CARP_GROUP_V4, CARP_GROUP_V6, IPV4, IPV6};
use carp_user::io::address::Addresses;
use carp_user::io::advert::{Receiver, Sender};
use carp_user::io::clock::{Alarm, now};
use carp_user::io::error::Error;
use carp_user::io::fdb::VirtualMacs;
use carp_user::io::group::Membership;
use carp_user::io::link::Links;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::collections::BTreeSet;
use std::io::ErrorKind;

fn ends() -> [IfIndex; 2] {
    let links = Links::open(&["a0".to_owned(), "b0".to_owned()], BTreeSet::new()).unwrap();
    ["a0", "b0"].map(|name| links.index(name).unwrap())
}

/// A frame to CARP's group with this protocol number; its last byte is `mark`.
fn frame(ethertype: u16, protocol: u8, mark: u8) -> Frame {
    let (group, at, len) = if ethertype == IPV4 { (CARP_GROUP_V4, 9, 56) } else { (CARP_GROUP_V6, 6, 76) };
    let mut packet = vec![0; len];
    packet[0] = if ethertype == IPV4 { 0x45 } else { 0x60 };
    packet[at] = protocol;
    *packet.last_mut().unwrap() = mark;
    Frame::of(&[&group.0, &Mac([0, 0, 0x5e, 0, 1, 1]).0, &ethertype.to_be_bytes(), &packet])
}

#[test]
fn an_advertisement_arrives_at_the_other_end_byte_for_byte_and_nothing_else_does() {
    with_pair(|| async {
        let [a, b] = ends();
        let sender = Sender::open().unwrap();
        let mut receiver = Receiver::open(&[a, b]).unwrap();
        assert_eq!(receiver.waiting().unwrap(), None);
        sender.send(a, &frame(IPV4, 51, 1)).unwrap();
        for sent in [frame(IPV4, 112, 2), frame(IPV6, 112, 3)] {
            let before = now();
            sender.send(a, &sent).unwrap();
            let got = soon(receiver.received()).await.unwrap();
            assert_eq!((got.link, got.frame), (b, sent.bytes()));
            println!("sent and received in {}", got.at.since(before));
            assert!(got.at >= before);
        }
        sender.send(b, &frame(IPV4, 112, 4)).unwrap();
        assert_eq!(soon(receiver.received()).await.unwrap().link, a);
        assert_eq!(receiver.waiting().unwrap(), None, "our own frames are not ours to hear");
    });
}

#[test]
fn a_tagged_frame_is_not_the_link_s_own() {
    with_pair(|| async {
        let [a, b] = ends();
        let (sender, mut receiver) = (Sender::open().unwrap(), Receiver::open(&[b]).unwrap());
        let plain = frame(IPV4, 112, 1);
        let (macs, rest) = plain.bytes().split_at(12);
        let tagged = Frame::of(&[macs, &[0x81, 0, 0, 7], rest]);
        sender.send(a, &tagged).unwrap();
        sender.send(a, &plain).unwrap();
        assert_eq!(soon(receiver.received()).await.unwrap().frame, plain.bytes());
    });
}

#[test]
fn a_flooded_link_does_not_silence_the_other() {
    with_pair(|| async {
        let [a, b] = ends();
        let sender = Sender::open().unwrap();
        let mut receiver = Receiver::open(&[a, b]).unwrap();
        for mark in 0..200 {
            sender.send(a, &frame(IPV4, 112, mark)).unwrap();
        }
        sender.send(b, &frame(IPV4, 112, 201)).unwrap();
        // The seventh column: bytes that wait to be read.
        let waiting = |line: &str| line.split_whitespace().nth(6).is_some_and(|bytes| bytes != "0");
        until(|| proc_net("packet").lines().skip(1).filter(|line| waiting(line)).count() == 2).await;
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(soon(receiver.received()).await.unwrap().link);
        }
        assert!(order.contains(&a) && order.contains(&b), "{order:?}");
    });
}

#[test]
fn a_link_that_goes_down_and_returns_needs_nothing_and_sending_there_fails_meanwhile() {
    with_pair(|| async {
        let [a, b] = ends();
        let sender = Sender::open().unwrap();
        let mut receiver = Receiver::open(&[b]).unwrap();
        ip("link set b0 down");
        ip("link set a0 down");
        assert_eq!(sender.send(a, &frame(IPV4, 112, 1)).unwrap_err().kind(), ErrorKind::NetworkDown);
        assert_eq!(receiver.waiting().unwrap(), None);
        ip("link set b0 up");
        ip("link set a0 up");
        sender.send(a, &frame(IPV4, 112, 2)).unwrap();
        assert_eq!(soon(receiver.received()).await.unwrap().frame, frame(IPV4, 112, 2).bytes());
        ip("link del a0");
        assert!(sender.send(a, &frame(IPV4, 112, 1)).is_err());
        assert_eq!(receiver.waiting().unwrap(), None);
    });
}

#[test]
fn item_107_groups_are_joined_once_a_link_and_left_when_dropped() {
    with_pair(|| async {
        let [a, b] = ends();
        let state = || ["igmp", "igmp6", "dev_mcast"].map(proc_net).concat();
        let before = state();
        let vips = ["10.9.0.1", "fd09::1", "fd0a::1"].map(|vip| vip.parse().unwrap());
        let membership = Membership::join(a, "a0", &vips).unwrap();
        assert!(proc_net("igmp").contains("120000E0"), "224.0.0.18 in {}", proc_net("igmp"));
        let v6 = "a0              ff020000000000000000000000000012";
        // Two addresses that end alike are in one group of solicited nodes.
        let solicited = "a0              ff0200000000000000000001ff000001     1 ";
        assert!(
            [v6, solicited].iter().all(|group| proc_net("igmp6").contains(group)),
            "{}",
            proc_net("igmp6")
        );
        for mac in ["01005e000012", "333300000012", "3333ff000001"] {
            assert!(proc_net("dev_mcast").lines().any(|line| line.contains("a0") && line.contains(mac)));
        }
        let other = Membership::join(b, "b0", &vips[..1]).unwrap();
        assert_eq!(proc_net("igmp6").matches("00000012 ").count(), 1, "no IPv6 where it is not asked for");
        drop((membership, other));
        // Another test that starts a process may hold a copy of the sockets until its exec.
        until(|| state() == before).await;
    });
}

#[test]
fn a_missing_capability_is_named() {
    with_pair(|| async {
        let [a, _] = ends();
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        let vips = BTreeSet::new();
        let mut macs = VirtualMacs::open().unwrap();
        let errors = [
            (Sender::open().unwrap_err(), "CAP_NET_RAW"),
            (Receiver::open(&[a]).unwrap_err(), "CAP_NET_RAW"),
            (Membership::join(a, "a0", &["10.9.0.1".parse().unwrap()]).unwrap_err(), "CAP_NET_RAW"),
            (macs.add(a, "a0", CARP_GROUP_V4).unwrap_err(), "CAP_NET_ADMIN"),
        ];
        for (error, name) in errors {
            assert!(matches!(&error, Error::Privilege { capability, .. } if *capability == name), "{error}");
            assert!(error.to_string().contains("run carpd as root"));
        }
        let wanted = carp_user::io::address::Held { link: a, address: "10.9.0.1".parse().unwrap() };
        let failures = Addresses::open(&vips).unwrap().apply(&[wanted].into());
        assert!(failures[0].error.to_string().contains("CAP_NET_ADMIN"));
    });
}

#[test]
fn the_alarm_is_exact_to_less_than_a_millisecond_in_the_middle() {
    with_pair(|| async {
        let mut alarm = Alarm::new().unwrap();
        let mut late = Vec::new();
        for _ in 0..200 {
            let at = now() + Span::micros(2_300);
            alarm.set(Some(at)).unwrap();
            soon(alarm.fired()).await.unwrap();
            late.push(now().since(at));
        }
        late.sort_unstable();
        println!("alarm late by {} in the middle, {} at the 99th percentile", late[100], late[197]);
        assert!(late[100] < Span::millis(1));
    });
}
