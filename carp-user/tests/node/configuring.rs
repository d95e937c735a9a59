//! A configuration that changes while its node runs: what is not touched goes on, and two nodes that learn of it one
//! after the other never serve both.

use super::wire::{HOST, LINK, Wire, setup};
use carp_common::admission::Mode;
use carp_common::id::Vhid;
use carp_common::map::{MAX_HOSTS, Window};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Changes, Event, Former, HostId, HostSetup, News, Role, Setup};
use carp_user::proto::node::Node;
use proptest::prelude::*;
use std::net::IpAddr;

const STEP: Span = Span::millis(1);
/// Long after everything.
const LATER: Instant = Instant::from_nanos(1_000_000_000_000_000);

/// Node 0 leads, node 1 is its backup and heir; both have settled.
fn pair(mode: Mode, v6: bool) -> Wire {
    let host = |skew| HostSetup { mode, ..setup(skew, v6) };
    let mut wire = Wire::new(vec![host(0), host(100)]);
    wire.run(Span::secs(8));
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    wire
}

/// Has a node go on with these virtual hosts.
fn reload(wire: &mut Wire, index: usize, wanted: Vec<HostSetup>) -> Vec<Action> {
    let changes = Changes::between(wire.nodes[index].node.setups(), wanted, wire.now).unwrap();
    wire.tell(index, Event::Configure(changes))
}

/// Lets time pass in which node 0 serves, and nobody else.
fn nothing_moves(wire: &mut Wire, span: Span) {
    for _ in 0..span.as_micros() / STEP.as_micros() {
        wire.run(STEP);
        assert!(wire.serves(0) && !wire.serves(1), "at {:?}", wire.now);
    }
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
}

fn with_vips(of: &HostSetup, vips: &[&str]) -> HostSetup {
    let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
    HostSetup { vips, former: Former::default(), ..of.clone() }
}

fn current(wire: &Wire, index: usize) -> HostSetup {
    HostSetup { former: Former::default(), ..wire.nodes[index].node.setup(HOST).unwrap().clone() }
}

/// Both get these VIPs, the first one so much earlier.
fn both_change(wire: &mut Wire, order: [usize; 2], vips: &[&str]) {
    for index in order {
        let wanted = with_vips(&current(wire, index), vips);
        reload(wire, index, vec![wanted]);
        nothing_moves(wire, Span::secs(5));
    }
    nothing_moves(wire, Span::secs(65));
    for index in [0, 1] {
        let former = &wire.nodes[index].node.setup(HOST).unwrap().former;
        assert_eq!(former.signed, None, "node {index} still signs for former VIPs");
    }
}

#[test]
fn new_vips_that_the_nodes_learn_of_five_seconds_apart_move_nothing_whoever_is_first() {
    for mode in [Mode::Carp, Mode::Migrate, Mode::Strict] {
        for order in [[0, 1], [1, 0]] {
            let mut wire = pair(mode, false);
            both_change(&mut wire, order, &["10.0.0.1", "10.0.0.77"]);
            both_change(&mut wire, order, &["10.0.0.77"]);
            both_change(&mut wire, order, &["10.0.0.1", "10.0.0.77", "10.0.0.78"]);
        }
    }
}

#[test]
fn a_family_comes_and_goes_without_a_move() {
    for mode in [Mode::Carp, Mode::Strict] {
        for order in [[0, 1], [1, 0]] {
            let mut wire = pair(mode, false);
            both_change(&mut wire, order, &["10.0.0.1", "fd00::1"]);
            both_change(&mut wire, order, &["fd00::1"]);
            both_change(&mut wire, order, &["10.0.0.1"]);
        }
    }
}

#[test]
fn a_node_that_alone_has_new_vips_goes_on_for_as_long_as_that_lasts() {
    for index in [0, 1] {
        let mut wire = pair(Mode::Carp, false);
        let wanted = with_vips(&current(&wire, index), &["10.0.0.1", "10.0.0.77"]);
        reload(&mut wire, index, vec![wanted]);
        nothing_moves(&mut wire, Span::secs(120));
        assert_eq!(wire.nodes[index].news, [News::Behind]);
        assert_eq!(wire.refused(1 - index, "badauth") > 0, index == 1, "a backup asks, a master waits");
    }
}

/// It did not hear of the change, and begins with the new configuration.
#[test]
fn a_peer_that_comes_back_with_the_new_vips_is_understood_at_once() {
    let mut wire = pair(Mode::Carp, false);
    let new = with_vips(&current(&wire, 1), &["10.0.0.1", "10.0.0.77"]);
    wire.kill(1);
    let wanted = with_vips(&current(&wire, 0), &["10.0.0.1", "10.0.0.77"]);
    reload(&mut wire, 0, vec![wanted]);
    wire.nodes[1].window = Window::CLOSED;
    nothing_moves(&mut wire, Span::secs(3));
    let now = wire.now;
    wire.restart(1, Node::new(Setup { hosts: vec![new], seed: 5, epoch: 0 }, now));
    wire.link(1, true);
    for _ in 0..20_000 {
        wire.run(STEP);
        assert!(!(wire.serves(0) && wire.serves(1)), "two serve at {:?}", wire.now);
    }
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    assert!(wire.nodes[0].news.ends_with(&[News::Ahead]));
}

#[test]
fn a_master_announces_the_vips_that_are_new_and_no_others() {
    let mut wire = pair(Mode::Carp, false);
    let wanted = with_vips(&current(&wire, 0), &["10.0.0.1", "10.0.0.77"]);
    let actions = reload(&mut wire, 0, vec![wanted]);
    let arp = |action: &Action| {
        let Action::Announce { frame, .. } = action else { return None };
        let is_arp = frame.bytes().get(12..14) == Some(&[8, 6]);
        is_arp.then(|| frame.bytes()[38..42].to_vec())
    };
    let announced: Vec<_> = actions.iter().filter_map(arp).collect();
    assert_eq!(announced, [[10, 0, 0, 77]]);
}

#[test]
fn what_is_not_touched_is_not_touched() {
    let mut wire = pair(Mode::Carp, false);
    let before = wire.host(0);
    let mut other = setup(0, false);
    (other.vhid, other.vips) = (Vhid::new(9).unwrap(), vec!["10.0.0.99".parse().unwrap()]);
    let same = current(&wire, 0);
    assert_eq!(reload(&mut wire, 0, vec![same.clone()]), []);
    let actions = reload(&mut wire, 0, vec![other.clone(), same.clone()]);
    assert!(actions.iter().all(|action| host_of(action) != Some(HOST)), "{actions:?}");
    assert_eq!(format!("{:?}", wire.host(0)), format!("{before:?}"));
    nothing_moves(&mut wire, Span::secs(5));
    let status = wire.nodes[0].node.status(wire.now);
    let roles: Vec<_> = status.hosts.iter().map(|host| (host.vhid.get(), host.role)).collect();
    assert_eq!(roles, [(1, Role::Master), (9, Role::Master)]);
    let actions = reload(&mut wire, 0, vec![same]);
    assert_eq!(actions[0], Action::Window { host: HostId(1), window: Window::CLOSED });
    let left = Wire::farewells(&actions);
    assert!(left.iter().all(|heard| heard.advert.vhid.get() == 9 && heard.advert.pace == Pace::BOW_OUT));
    assert_eq!(left.len(), 1);
    assert!(actions.iter().all(|action| host_of(action) != Some(HOST)), "{actions:?}");
    nothing_moves(&mut wire, Span::secs(5));
}

/// A number that leaves and comes back goes on counting, or the others would refuse it as a replay.
#[test]
fn a_strict_virtual_host_that_comes_back_counts_on() {
    let mut wire = pair(Mode::Strict, false);
    let same = current(&wire, 0);
    let counter = |wire: &Wire| Heard::parse(&wire.last_advert(0)).unwrap().unwrap().advert.counter;
    let before = counter(&wire);
    reload(&mut wire, 0, Vec::new());
    wire.run(Span::secs(3));
    assert_eq!(wire.role(1), Role::Master);
    reload(&mut wire, 0, vec![same]);
    wire.run(Span::secs(10));
    let status = wire.nodes[0].node.status(wire.now);
    assert_eq!(status.hosts[0].role, Role::Master, "it leads again");
    assert_eq!(wire.role(1), Role::Backup);
    assert!(counter(&wire) > before);
}

#[test]
fn a_master_tells_of_its_new_skew_at_once_and_the_better_one_takes_over() {
    let mut wire = pair(Mode::Carp, false);
    let slower = HostSetup { pace: Pace { base: 1, skew: 200 }, ..current(&wire, 0) };
    let actions = reload(&mut wire, 0, vec![slower]);
    assert!(actions.iter().any(|action| matches!(action, Action::Advertise { .. })));
    for _ in 0..10_000 {
        wire.run(STEP);
        assert!(!(wire.serves(0) && wire.serves(1)));
    }
    assert_eq!((wire.role(0), wire.role(1)), (Role::Backup, Role::Master));
}

/// The nodes of a pair get another base one after the other; no lease outlasts the shorter wait.
#[test]
fn another_base_never_makes_two_serve() {
    for (from, to) in [(1, 4), (4, 1)] {
        for order in [[0, 1], [1, 0]] {
            let host = |skew| HostSetup { pace: Pace { base: from, skew }, ..setup(skew, false) };
            let mut wire = Wire::new(vec![host(0), host(100)]);
            wire.run(Span::secs(60));
            for index in order {
                let old = current(&wire, index);
                let pace = Pace { base: to, ..old.pace };
                reload(&mut wire, index, vec![HostSetup { pace, ..old }]);
                for _ in 0..5_000 {
                    wire.run(STEP);
                    assert!(!(wire.serves(0) && wire.serves(1)), "{from} to {to}, {order:?}");
                }
            }
            wire.kill(0);
            for _ in 0..30_000 {
                wire.run(STEP);
                assert!(!(wire.serves(0) && wire.serves(1)), "{from} to {to}, {order:?}, one died");
            }
            assert!(wire.serves(1));
        }
    }
}

fn host_of(action: &Action) -> Option<HostId> {
    match action {
        Action::Window { host, .. }
        | Action::Advertise { host, .. }
        | Action::Announce { host, .. }
        | Action::Challenge { host, .. }
        | Action::Tell { host, .. }
        | Action::Peer { host, .. }
        | Action::Serving { host, .. }
        | Action::Warn { host, .. } => Some(*host),
        Action::Changed(transition) => Some(transition.host),
        Action::Ask(question) => Some(question.host),
        Action::Send { .. } | Action::Watch { .. } | Action::Demoted(_) => None,
    }
}

fn hosts() -> impl Strategy<Value = Vec<HostSetup>> {
    let host = (1_u8..6, 0_u8..4, 1_u8..5).prop_map(|(vhid, skew, vip)| HostSetup {
        vhid: Vhid::new(vhid).unwrap(),
        vips: (0..vip).map(|last| IpAddr::from([10, 0, vhid, last])).collect(),
        ..setup(skew, false)
    });
    prop::collection::vec(host, 0..6).prop_map(|mut hosts| {
        hosts.sort_by_key(|host| host.vhid);
        hosts.dedup_by_key(|host| host.vhid);
        hosts
    })
}

proptest! {
    #[test]
    fn what_is_changed_from_one_configuration_to_another_makes_the_other(a in hosts(), b in hosts()) {
        let running: Vec<_> = (0..).map(HostId).zip(a).collect();
        let running = || running.iter().map(|(id, host)| (*id, host));
        let changes = Changes::between(running(), b.clone(), LATER).unwrap();
        let applied = changes.applied(running());
        let mut result: Vec<_> =
            applied.values().map(|host| HostSetup { former: Former::default(), ..host.clone() }).collect();
        result.sort_by_key(|host| host.vhid);
        prop_assert_eq!(result, b.clone());
        prop_assert!(changes.added.iter().all(|(id, _)| running().all(|(taken, _)| taken != *id)));
        let again = Changes::between(applied.iter().map(|(id, host)| (*id, host)), b, LATER).unwrap();
        prop_assert!(again.is_empty(), "{:?}", again);
    }
}

#[test]
fn there_is_no_room_for_a_whole_new_set_of_the_most_virtual_hosts() {
    let link = |n: u32| carp_common::id::IfIndex(LINK.0 + n);
    let some = |from: u32| (0..MAX_HOSTS).map(move |n| HostSetup { link: link(from + n), ..setup(0, false) });
    let running: Vec<_> = (0..).map(HostId).zip(some(0)).collect();
    let running = running.iter().map(|(id, host)| (*id, host));
    assert!(Changes::between(running.clone(), some(MAX_HOSTS).collect(), LATER).is_err());
    assert!(Changes::between(running, some(0).collect(), LATER).unwrap().is_empty());
}

#[test]
fn a_change_that_is_taken_back_signs_as_before() {
    let first = setup(0, false);
    let second = with_vips(&first, &["10.0.0.1", "10.0.0.77"]);
    let step = |running: &HostSetup, wanted: &HostSetup| {
        let changes = Changes::between([(HOST, running)].into_iter(), vec![wanted.clone()], LATER).unwrap();
        changes.changed[0].1.clone()
    };
    let there = step(&first, &second);
    assert_eq!(
        there.former,
        Former { lists: vec![first.vips.clone()], signed: Some(0), since: Instant::ZERO }
    );
    let back = step(&there, &first);
    assert_eq!(back.former, Former { lists: vec![second.vips], signed: None, since: Instant::ZERO });
    assert_eq!(back.signed_vips(), first.vips);
}

/// Of as many changes as can be accepted none is forgotten that another node may sign for.
#[test]
fn changes_that_nobody_else_knows_yet_add_up() {
    let first = setup(0, false);
    let lists = ["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"];
    let mut host = first.clone();
    for vip in lists {
        let changes =
            Changes::between([(HOST, &host)].into_iter(), vec![with_vips(&host, &[vip])], LATER).unwrap();
        host = changes.changed[0].1.clone();
        assert_eq!(host.signed_vips(), first.vips);
    }
    assert_eq!(host.former.lists.len(), lists.len());
    assert!(carp_user::proto::keyring::is_too_much(&host), "the last one is for nobody to use");
    let known = HostSetup { former: Former { signed: None, ..host.former.clone() }, ..host };
    let next = with_vips(&known, &["10.0.0.15"]);
    let known = HostSetup { former: Former { since: LATER, ..known.former.clone() }, ..known };
    let at = |now| {
        let changes = Changes::between([(HOST, &known)].into_iter(), vec![next.clone()], now).unwrap();
        changes.changed[0].1.clone()
    };
    assert!(carp_user::proto::keyring::is_too_much(&at(LATER + Span::secs(59))), "others may sleep");
    let host = &at(LATER + Span::secs(60));
    assert!(!carp_user::proto::keyring::is_too_much(host), "what is older than what is signed for goes");
    assert_eq!(host.signed_vips(), known.vips);
}
