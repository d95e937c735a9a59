//! What a node refuses, counts and warns of; keys and counters.

use super::wire::{LINK, Wire, setup};
use carp_common::auth::Key;
use carp_common::id::{IfIndex, Vhid};
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Advert, Envelope, Heard};
use carp_user::proto::event::{Event, Role, Warning};

const GROUP: [u8; 4] = [10, 0, 0, 9];

/// A master (node 0) that serves.
fn master() -> Wire {
    let mut wire = Wire::new(vec![setup(100, false)]);
    wire.run(Span::secs(4));
    assert_eq!(wire.role(0), Role::Master);
    wire
}

/// A valid advert of another node, with the pace and counter given.
fn advert(password: &[u8], pace: Pace, counter: u64) -> Advert {
    let host = setup(0, false);
    let key = Key::from_password(password).unwrap();
    let midstate = carp_common::auth::Midstate::new(&key, host.digest, None, host.vhid, &host.vips);
    let digest = midstate.digest(counter.to_be_bytes());
    Advert { vhid: host.vhid, pace, demote: 0, counter, digest }
}

fn frame(advert: &Advert) -> Vec<u8> {
    Envelope::to_group(GROUP.into(), 0xe0).seal(advert).bytes().to_vec()
}

fn parsed(bytes: &[u8]) -> Advert {
    Heard::parse(bytes).unwrap().unwrap().advert
}

#[test]
fn item_30_a_forged_advert_changes_nothing_but_its_counter_and_warns_once_a_minute() {
    let mut wire = master();
    let better = Pace { base: 1, skew: 0 };
    let wrong_key = advert(b"wrong", better, 1);
    let mut flipped = advert(b"secret", better, 2);
    flipped.digest[19] ^= 1;
    for forged in [wrong_key, flipped] {
        wire.hear(0, &frame(&forged));
    }
    assert_eq!(wire.role(0), Role::Master);
    assert!(wire.serves(0));
    assert_eq!(wire.refused(0, "badauth"), 2);
    assert_eq!(wire.nodes[0].warnings, [Warning::BadAuth(GROUP.into())]);
    for _ in 0..61 {
        wire.run(Span::secs(1));
    }
    wire.hear(0, &frame(&wrong_key));
    assert_eq!(wire.nodes[0].warnings.len(), 2);
}

#[test]
fn item_29_another_vip_list_has_another_digest() {
    let mut other = setup(0, false);
    other.vips.push("10.0.0.77".parse().unwrap());
    let mut wire = Wire::new(vec![setup(100, false), other]);
    wire.run(Span::secs(5));
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Master));
    assert!(wire.refused(0, "badauth") > 0 && wire.refused(1, "badauth") > 0);
}

#[test]
fn items_34_37_repeated_lower_and_wrapping_counters_are_accepted() {
    let mut wire = Wire::new(vec![setup(100, false)]);
    let better = Pace { base: 1, skew: 0 };
    for counter in [7, 7, 3, u64::MAX, 0] {
        wire.hear(0, &frame(&advert(b"secret", better, counter)));
    }
    assert_eq!(wire.host(0).accepted, 5);
}

#[test]
fn items_35_37_counters_are_random_until_a_peer_is_heard_then_count_on_and_wrap() {
    let mut wire = master();
    let first = parsed(&wire.last_advert(0)).counter;
    wire.run(Span::secs(2));
    let second = parsed(&wire.last_advert(0)).counter;
    assert!(first.abs_diff(second) > 1 << 32, "random, not counted: {first} {second}");
    let worse = Pace { base: 1, skew: 200 };
    let mut last = second;
    while last < u64::MAX - 1 {
        last += (u64::MAX - 1 - last).min(1 << 62);
        wire.hear(0, &frame(&advert(b"secret", worse, last)));
    }
    wire.hear(0, &frame(&advert(b"secret", worse, u64::MAX - (1 << 50))));
    wire.run(Span::secs(4));
    let counters: Vec<u64> = wire
        .frames
        .iter()
        .filter_map(|(.., bytes)| Some(Heard::parse(bytes)?.ok()?.advert.counter))
        .collect();
    assert!(counters.ends_with(&[u64::MAX, 0, 1]), "{counters:?}");
}

#[test]
fn item_36_the_two_families_consume_two_counters() {
    let mut wire = Wire::new(vec![setup(0, true), setup(100, true)]);
    wire.run(Span::secs(6));
    let heard: Vec<Heard> = wire.frames.iter().filter_map(|(.., bytes)| Heard::parse(bytes)?.ok()).collect();
    let to_group = heard.iter().filter(|heard| heard.destination.is_multicast());
    let counters: Vec<u64> = to_group.map(|heard| heard.advert.counter).collect();
    let last = &counters[counters.len() - 4..];
    assert!(last.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{last:?}");
}

#[test]
fn item_38_an_own_advert_that_comes_back_is_a_loop_and_the_master_stays() {
    let mut wire = master();
    let own = wire.last_advert(0);
    for _ in 0..3 {
        wire.hear(0, &own);
    }
    assert_eq!(wire.role(0), Role::Master);
    assert_eq!(wire.refused(0, "loop"), 3);
    assert_eq!(wire.nodes[0].warnings, [Warning::Loop]);
}

#[test]
fn item_40_41_43_damaged_adverts_are_counted_by_reason() {
    let mut wire = master();
    let good = frame(&advert(b"secret", Pace { base: 1, skew: 0 }, 1));
    let damage = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    wire.hear(0, &damage(22, 254));
    wire.hear(0, &damage(34, 0x41));
    wire.hear(0, &damage(36, 17));
    wire.hear(0, &good[..60]);
    for reason in ["badttl", "badver", "badsum", "badlen"] {
        assert_eq!(wire.refused(0, reason), 1, "{reason}");
    }
    assert_eq!(wire.role(0), Role::Master);
}

#[test]
fn item_42_vrrp_on_our_vhid_changes_nothing_and_warns_once() {
    let mut wire = master();
    let mut vrrp = frame(&advert(b"secret", Pace { base: 1, skew: 0 }, 1));
    vrrp[34] = 0x31;
    for _ in 0..5 {
        wire.hear(0, &vrrp);
    }
    assert_eq!(wire.refused(0, "vrrp"), 5);
    assert_eq!(wire.nodes[0].warnings, [Warning::Vrrp]);
    assert_eq!(wire.role(0), Role::Master);
}

#[test]
fn item_48_an_unknown_vhid_or_link_or_family_is_badvhid_and_nothing_else() {
    let mut wire = master();
    let mut other = advert(b"secret", Pace { base: 1, skew: 0 }, 1);
    let v6 = Envelope::to_group("fe80::9".parse().unwrap(), 0).seal(&other);
    wire.hear(0, v6.bytes());
    assert_eq!(wire.refused(0, "badvhid"), 1, "an IPv6 advert for an IPv4-only virtual host");
    let at = wire.now;
    wire.tell(0, Event::Frame { link: IfIndex(99), at, frame: &frame(&other) });
    other.vhid = Vhid::new(2).unwrap();
    wire.tell(0, Event::Frame { link: LINK, at, frame: &frame(&other) });
    let stray = wire.nodes[0].node.status(wire.now).stray;
    assert!(stray.contains(&("badvhid", 2)), "{stray:?}");
    assert_eq!(wire.role(0), Role::Master);
}

#[test]
fn item_54_a_flood_of_forged_adverts_does_not_keep_a_valid_one_out() {
    let mut wire = master();
    let forged = frame(&advert(b"wrong", Pace { base: 1, skew: 0 }, 1));
    for _ in 0..10_000 {
        wire.hear(0, &forged);
    }
    wire.hear(0, &frame(&advert(b"secret", Pace { base: 1, skew: 0 }, 2)));
    assert_eq!(wire.role(0), Role::Backup);
}

#[test]
fn item_80_adverts_in_init_only_set_the_counter() {
    let mut wire = Wire::new(vec![setup(100, false)]);
    wire.link(0, false);
    wire.hear(0, &frame(&advert(b"secret", Pace { base: 1, skew: 200 }, 500)));
    assert_eq!(wire.role(0), Role::Init);
    wire.link(0, true);
    wire.run(Span::secs(4));
    // One more was used up by the announcement of the claim.
    assert_eq!(parsed(&wire.last_advert(0)).counter, 502);
}

#[test]
fn items_85_86_mismatching_bases_and_equal_ranks_are_warned_of() {
    let mut wire = Wire::new(vec![setup(100, false)]);
    wire.hear(0, &frame(&advert(b"secret", Pace { base: 4, skew: 0 }, 1)));
    assert_eq!(wire.nodes[0].warnings, [Warning::BaseMismatch(GROUP.into(), 4)]);
    wire.hear(0, &frame(&advert(b"secret", Pace { base: 1, skew: 100 }, 2)));
    assert_eq!(wire.nodes[0].warnings[1..], [Warning::EqualRank(GROUP.into())]);
}
