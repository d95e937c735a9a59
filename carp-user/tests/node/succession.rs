//! The heir of a master, armed windows, announced claims, and a lease that a new daemon resumes.

use super::wire::{HOST, LINK, Wire, setup};
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Command, Event, Reason, Role, Setup};
use carp_user::proto::node::Node;
use std::net::IpAddr;

/// Skews 0, 100, … that have elected the first.
fn elected(nodes: u8) -> Wire {
    let mut wire = Wire::new((0..nodes).map(|index| setup(index * 100, false)).collect());
    wire.run(Span::secs(5));
    assert_eq!(wire.role(0), Role::Master);
    wire
}

fn is_armed(wire: &Wire, node: usize) -> bool {
    wire.nodes[node].window.is_armed(wire.now)
}

/// The announcements so far: when, and by whom.
fn announcements(wire: &Wire) -> Vec<(Instant, usize)> {
    let is_one = |bytes: &[u8]| matches!(Heard::parse(bytes), Some(Ok(heard)) if heard.is_announcement());
    wire.frames.iter().filter(|(.., bytes)| is_one(bytes)).map(|(at, by, _)| (*at, *by)).collect()
}

#[test]
fn the_only_backup_is_armed_for_its_own_dead_time_and_for_this_master() {
    let wire = elected(2);
    let window = wire.nodes[1].window;
    assert!(!is_armed(&wire, 0) && is_armed(&wire, 1));
    assert_eq!(window.dead, Pace { base: 1, skew: 100 }.dead().as_nanos());
    let master: IpAddr = [10, 0, 0, 2].into();
    assert_eq!(window, Window::armed(Pace { base: 1, skew: 100 }.dead(), armed_until(&window), master));
    assert!(!window.is_leased(wire.now));
}

fn armed_until(window: &Window) -> Instant {
    Instant::from_nanos(window.armed_until)
}

#[test]
fn it_stays_armed_as_long_as_the_master_lives_and_no_longer_than_ten_leases_without_its_daemon() {
    let mut wire = elected(2);
    for _ in 0..60 {
        wire.run(Span::secs(1));
        let left = armed_until(&wire.nodes[1].window).since(wire.now);
        assert!(Span::secs(24) <= left && left <= Span::secs(30), "{left}");
    }
    wire.kill(1);
    wire.run(Span::secs(31));
    assert!(!is_armed(&wire, 1));
}

#[test]
fn of_several_backups_one_is_the_heir_and_another_only_when_that_one_is_long_gone() {
    let mut wire = elected(3);
    let armed = |wire: &Wire| (0..3).filter(|node| is_armed(wire, *node)).collect::<Vec<_>>();
    let heirs = armed(&wire);
    let [heir] = heirs[..] else { panic!("{heirs:?}") };
    wire.kill(heir);
    for _ in 0..32 {
        wire.run(Span::secs(1));
        assert!(armed(&wire).iter().all(|node| *node == heir), "the promise may still be counted on");
    }
    wire.run(Span::secs(8));
    assert_eq!(armed(&wire), [3 - heir]);
}

#[test]
fn a_demoted_backup_is_not_armed_until_it_recovers() {
    let mut wire = elected(2);
    let (name, reason) = ("states".to_owned(), "a test".to_owned());
    wire.tell(1, Event::Command(Command::Demote { name: name.clone(), amount: 1, reason, until: None }));
    assert!(!is_armed(&wire, 1));
    wire.run(Span::secs(5));
    assert!(!is_armed(&wire, 1));
    wire.tell(1, Event::Command(Command::Undemote { name }));
    // With the next advert: it is not armed by what it heard a while ago.
    wire.run(Span::millis(1_100));
    assert!(is_armed(&wire, 1));
}

#[test]
fn a_backup_that_will_preempt_is_not_armed() {
    let mut wire = elected(2);
    wire.link(0, false);
    wire.run(Span::secs(5));
    wire.link(0, true);
    while wire.role(0) != Role::Master {
        wire.run(Span::millis(1));
        assert!(!is_armed(&wire, 0));
    }
}

#[test]
fn an_heir_takes_over_at_the_dead_time_without_a_word_before_and_settles_not_at_all() {
    let mut wire = elected(2);
    let announced = announcements(&wire).len();
    wire.kill(0);
    while wire.role(1) != Role::Master {
        wire.run(Span::micros(50));
    }
    assert!(wire.serves(1));
    assert_eq!(announcements(&wire).len(), announced);
    assert!(!is_armed(&wire, 1), "a lease took the place of the armed window");
}

/// One of three that is not armed, a moment after it announced its claim against a master that is dead.
fn announced() -> (Wire, usize) {
    let mut wire = elected(3);
    let heir = (1..3).find(|node| is_armed(&wire, *node)).expect("one is armed");
    wire.kill(0);
    wire.kill(heir);
    let told = announcements(&wire).len();
    while announcements(&wire).len() == told {
        wire.run(Span::micros(50));
    }
    (wire, 3 - heir)
}

#[test]
fn another_backup_announces_its_claim_to_nodes_of_ours_and_has_settled_when_it_makes_it() {
    let (mut wire, node) = announced();
    let (at, by) = announcements(&wire).pop().unwrap();
    assert_eq!(by, node);
    while wire.role(node) != Role::Master {
        assert!(!wire.serves(node));
        wire.run(Span::micros(50));
    }
    assert_eq!(wire.now.since(at).as_millis(), 155);
    assert!(wire.serves(node));
}

#[test]
fn a_claim_that_was_announced_before_a_sleep_has_not_settled() {
    let (mut wire, node) = announced();
    wire.kill(node);
    wire.run(Span::secs(1));
    wire.wake(node);
    wire.tell(node, Event::Command(Command::Force { host: HOST, master: true }));
    assert!(wire.role(node) == Role::Master && !wire.serves(node), "others may have claimed meanwhile");
    wire.run(Span::secs(1));
    assert!(wire.serves(node));
}

#[test]
fn a_node_whose_rank_changes_announces_its_claim_anew() {
    let (mut wire, node) = announced();
    let told = announcements(&wire).len();
    let demote =
        Command::Demote { name: "test".to_owned(), amount: 1, reason: "a test".to_owned(), until: None };
    wire.tell(node, Event::Command(demote));
    wire.run(Span::millis(1));
    assert_eq!(announcements(&wire).len(), told + 1);
}

#[test]
fn a_claim_that_cannot_be_sent_asks_for_no_moment_that_is_over() {
    let mut wire = elected(2);
    wire.kill(0);
    wire.nodes[1].sends_fail = true;
    wire.tell(1, Event::Command(Command::Force { host: HOST, master: true }));
    for _ in 0..3_000 {
        // Timers fire a little late.
        wire.now = wire.now + Span::micros(1_300);
        wire.tell(1, Event::Tick);
        let due = wire.nodes[1].node.deadline();
        assert!(due.is_none_or(|due| wire.now < due), "{due:?} at {:?}", wire.now);
    }
}

#[test]
fn an_announcement_disarms_the_heir_and_its_claim_is_announced_like_any_other() {
    let mut wire = elected(2);
    let stranger = Wire::new(vec![setup(50, false)]);
    let announcement = {
        let mut alone = stranger;
        alone.run(Span::secs(4));
        let is_one =
            |bytes: &Vec<u8>| matches!(Heard::parse(bytes), Some(Ok(heard)) if heard.is_announcement());
        alone.frames.iter().map(|(.., bytes)| bytes.clone()).find(is_one).unwrap()
    };
    // From another address than the two have.
    let mut forged = announcement;
    forged[29] = 77;
    let sum: u32 = (0..10)
        .filter(|word| *word != 5)
        .map(|word| u32::from(u16::from_be_bytes([forged[14 + 2 * word], forged[15 + 2 * word]])))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    forged[24..26].copy_from_slice(&sum.to_be_bytes());
    wire.hear(1, &forged);
    assert!(!is_armed(&wire, 1));
    wire.kill(0);
    while wire.role(1) != Role::Master {
        wire.run(Span::micros(50));
    }
    let (at, by) = announcements(&wire).pop().unwrap();
    assert_eq!((by, wire.now.since(at).as_millis()), (1, 155), "it may not be the only one");
}

#[test]
fn a_new_daemon_resumes_a_lease_that_runs_and_never_closes_its_window() {
    let mut wire = elected(2);
    wire.kill(0);
    let lease = Instant::from_nanos(wire.nodes[0].window.serve_until);
    wire.run(Span::millis(500));
    let host = carp_user::proto::event::HostSetup { resume_until: Some(lease), ..setup(0, false) };
    wire.restart(0, Node::new(Setup { hosts: vec![host], seed: 77, epoch: 0 }, wire.now));
    let actions = wire.link(0, true);
    let closes =
        |action: &Action| matches!(action, Action::Window { window, .. } if !window.is_leased(wire.now));
    assert!(!actions.iter().any(closes), "{actions:?}");
    let changed: Vec<_> = actions
        .iter()
        .filter_map(|action| {
            if let Action::Changed(change) = action { Some((change.to, change.reason)) } else { None }
        })
        .collect();
    assert_eq!(changed, [(Role::Backup, Reason::Initialized), (Role::Master, Reason::Resumed)]);
    for _ in 0..600 {
        wire.run(Span::millis(10));
        assert!(wire.serves(0) && !wire.serves(1));
    }
}

#[test]
fn what_is_no_lease_any_more_is_closed_and_not_resumed() {
    let mut wire = elected(2);
    wire.kill(0);
    let lease = Instant::from_nanos(wire.nodes[0].window.serve_until);
    wire.run(Span::secs(4));
    let host = carp_user::proto::event::HostSetup { resume_until: Some(lease), ..setup(0, false) };
    wire.restart(0, Node::new(Setup { hosts: vec![host], seed: 77, epoch: 0 }, wire.now));
    let actions = wire.link(0, true);
    assert_eq!(actions[0], Action::Window { host: HOST, window: Window::CLOSED });
    assert_eq!(wire.role(0), Role::Backup);
    assert_eq!(LINK, wire.host(0).link);
}
