//! Which adverts a master sends, by the families of its VIPs and of its link (conformance 13, 14).

use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Errand, Event, Family, Flavour, Former, HostSetup, LinkState, Setup};
use carp_user::proto::node::Node;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LINK: IfIndex = IfIndex(3);
const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The adverts of a lone node's first ten seconds: when, family and source.
fn adverts(
    vips: &[&str],
    source_v4: Option<Ipv4Addr>,
    source_v6: Option<Ipv6Addr>,
) -> Vec<(u64, Family, IpAddr)> {
    let host = HostSetup {
        interface: "eth0".into(),
        link: LINK,
        group: None,
        vhid: Vhid::new(1).expect("not zero"),
        vips: vips.iter().map(|vip| vip.parse().expect("an address")).collect(),
        pace: Pace { base: 1, skew: 0 },
        preempt: true,
        gate: None,
        preempt_delay: Span::ZERO,
        flavour: Flavour::Freebsd,
        mode: Mode::Carp,
        key: Key([7; 20]),
        next_key: None,
        digest: Variant::Freebsd,
        accept: vec![Variant::Freebsd],
        tos: 0xe0,
        answer_ping: false,
        former: Former::default(),
        resume_until: None,
    };
    let start = Instant::ZERO + Span::secs(100);
    let mut node = Node::new(Setup { hosts: vec![host], seed: 1, epoch: 0 }, start);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let state = LinkState { up: true, mac, source_v4, source_v6, shielded: true, router: false };
    let mut heard = Vec::new();
    let mut now = start;
    let mut todo = node.handle(Event::Link { link: LINK, state }, now);
    loop {
        while !todo.is_empty() {
            let Action::Advertise { host, errand, frame, .. } = todo.remove(0) else { continue };
            let advert = Heard::parse(frame.bytes()).expect("protocol 112").expect("well-formed");
            if let (false, Errand::Advert(family)) = (advert.is_announcement(), errand) {
                heard.push((now.since(start).as_millis(), family, advert.source));
            }
            todo.extend(node.handle(Event::Sent { host, errand, at: now, ok: true }, now));
        }
        now = match node.deadline() {
            Some(next) if next <= start + Span::secs(10) => next,
            Some(_) | None => return heard,
        };
        todo = node.handle(Event::Tick, now);
    }
}

#[test]
fn item_13_adverts_come_from_the_links_own_address_and_never_from_none() {
    let both = adverts(&["10.0.0.1", "fd00::1"], Some(SOURCE_V4), Some(SOURCE_V6));
    assert!(!both.is_empty());
    for (_, family, source) in &both {
        let own = match family {
            Family::V4 => IpAddr::V4(SOURCE_V4),
            Family::V6 => IpAddr::V6(SOURCE_V6),
        };
        assert_eq!(*source, own);
    }
    assert_eq!(adverts(&["10.0.0.1", "fd00::1"], None, None), [], "no address, no advert");
    let v6_only = adverts(&["10.0.0.1", "fd00::1"], None, Some(SOURCE_V6));
    assert!(v6_only.iter().all(|(_, family, _)| *family == Family::V6), "nothing from 0.0.0.0: {v6_only:?}");
}

#[test]
fn item_14_each_family_with_a_vip_is_advertised_once_in_each_interval_ipv4_first() {
    let families = |vips: &[&str]| {
        let list = adverts(vips, Some(SOURCE_V4), Some(SOURCE_V6));
        list.into_iter().map(|(at, family, _)| (at, family)).collect::<Vec<_>>()
    };
    let each_second = |of: &[Family]| {
        let seconds = (3..=10).map(|second| second * 1000);
        seconds.flat_map(|at| of.iter().map(move |family| (at, *family))).collect::<Vec<_>>()
    };
    assert_eq!(families(&["10.0.0.1", "fd00::1", "10.0.0.9"]), each_second(&[Family::V4, Family::V6]));
    assert_eq!(families(&["10.0.0.1"]), each_second(&[Family::V4]));
    assert_eq!(families(&["fd00::1", "fd00::2"]), each_second(&[Family::V6]));
}
