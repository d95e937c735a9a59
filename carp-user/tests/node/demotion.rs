//! Demotions, and links that come and go.

use super::wire::{LINK, Wire, setup};
use carp_common::id::Vhid;
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::Heard;
use carp_user::proto::event::{Command, Event, LinkState, Role, Setup};
use carp_user::proto::node::Node;

fn demote(name: &str, amount: u8) -> Event<'static> {
    Event::Command(Command::Demote {
        name: name.to_owned(),
        amount,
        reason: "a test".to_owned(),
        until: None,
    })
}

fn undemote(name: &str) -> Event<'static> {
    Event::Command(Command::Undemote { name: name.to_owned() })
}

#[test]
fn item_87_skew_and_demotions_add_up_to_240_at_most_on_the_wire_and_in_comparisons() {
    for (skew, demotions, effective) in [
        (0, [0, 0], 0),
        (100, [100, 0], 200),
        (100, [100, 100], 240),
        (254, [0, 0], 240),
        (240, [255, 255], 240),
    ] {
        let mut wire = Wire::new(vec![setup(skew, false), setup(254, false)]);
        wire.run(Span::secs(8));
        for (name, amount) in [("one", demotions[0]), ("two", demotions[1])] {
            wire.tell(0, demote(name, amount));
        }
        wire.run(Span::secs(3));
        assert_eq!(wire.host(0).effective, Pace { base: 1, skew: effective });
        let said = Heard::parse(&wire.last_advert(0)).unwrap().unwrap().advert;
        assert_eq!((said.pace.base, said.pace.skew), (1, effective));
        // The backup ranks it by just that, and itself likewise.
        assert_eq!(wire.host(1).peer.unwrap().pace, Pace { base: 1, skew: effective });
        assert_eq!(wire.host(1).effective, Pace { base: 1, skew: 240 });
        assert_eq!(wire.role(1), Role::Backup);
    }
}

#[test]
fn item_88_a_rank_that_rises_above_the_configured_one_of_others_makes_no_second_master() {
    // Nobody can be demoted by less than nothing here: lifting a demotion is all that raises a rank.
    let mut wire = Wire::new(vec![setup(50, false), setup(100, false)]);
    wire.run(Span::secs(5));
    for round in 0..20 {
        let at = round % 2;
        wire.tell(at, demote("one", 60));
        for _ in 0..4_000 {
            wire.run(Span::micros(500));
            assert!(!(wire.serves(0) && wire.serves(1)), "round {round}");
        }
        wire.tell(at, undemote("one"));
        for _ in 0..4_000 {
            wire.run(Span::micros(500));
            assert!(!(wire.serves(0) && wire.serves(1)), "round {round}");
        }
        assert!(wire.serves(0), "as configured");
    }
}

#[test]
fn item_90_a_demotion_is_every_virtual_hosts_and_leaves_none_when_lifted() {
    let hosts = [1, 2].map(|vhid| {
        let mut host = setup(20 * vhid, false);
        host.vhid = Vhid::new(vhid).unwrap();
        host
    });
    let wire = Wire::new(Vec::new());
    let mut node = Node::new(Setup { hosts: hosts.to_vec(), seed: 1, epoch: 0 }, wire.now);
    let skews = |node: &Node| node.status(wire.now).hosts.iter().map(|host| host.effective.skew).collect();
    let before: Vec<u8> = skews(&node);
    node.handle(demote("maintenance", 100), wire.now);
    assert_eq!((before, skews(&node)), (vec![20, 40], vec![120, 140]));
    node.handle(undemote("maintenance"), wire.now);
    assert_eq!(skews(&node), [20, 40]);
}

#[test]
fn item_92_after_a_lost_link_nothing_is_advertised_before_a_master_is_heard_or_timed_out() {
    let mut wire = Wire::new(vec![setup(0, false)]);
    wire.run(Span::secs(5));
    assert_eq!(wire.role(0), Role::Master);
    wire.link(0, false);
    assert_eq!(wire.role(0), Role::Init);
    wire.run(Span::secs(2));
    let (back, before) = (wire.now, wire.frames.len());
    wire.link(0, true);
    assert_eq!(wire.role(0), Role::Backup);
    wire.run(Span::secs(5));
    assert_eq!(wire.role(0), Role::Master);
    let dead = Pace { base: 1, skew: 0 }.dead();
    let adverts = wire.frames[before..].iter().filter_map(|(at, _, bytes)| {
        let heard = Heard::parse(bytes)?.ok()?;
        // What is said before is no claim: it looks for a master, or announces that one will be made.
        (heard.destination.is_multicast() && !heard.is_announcement()).then_some(*at)
    });
    assert!(adverts.map(|at| at.since(back)).min().unwrap() >= dead);
}

#[test]
fn item_91_of_two_links_that_are_lost_each_counts_once() {
    let mut other = setup(0, false);
    other.link.0 += 1;
    other.interface = "wan0".to_owned();
    let wire = Wire::new(Vec::new());
    let mut node =
        Node::new(Setup { hosts: vec![setup(0, false), other.clone()], seed: 1, epoch: 0 }, wire.now);
    let state = |up| LinkState {
        up,
        mac: carp_common::id::Mac([2, 0, 0, 0, 0, 1]),
        source_v4: Some([10, 0, 0, 2].into()),
        source_v6: None,
        shielded: true,
        router: true,
    };
    let mut tell = |link, up| {
        node.handle(Event::Link { link, state: state(up) }, wire.now);
        node.status(wire.now).demotion
    };
    tell(LINK, true);
    assert_eq!(tell(other.link, true), 0);
    assert_eq!(tell(LINK, false), 240);
    assert_eq!(tell(LINK, false), 240);
    assert_eq!(tell(other.link, false), 480);
    assert_eq!(tell(LINK, true), 240);
    assert_eq!(tell(other.link, true), 0);
}
