//! Moves that somebody asks for, and a node that is to wait before it takes the role back.

use super::wire::{HOST, Wire, setup};
use carp_common::time::Span;
use carp_user::proto::event::{Action, Command, Event, HostSetup, Reason, Role};
use carp_user::proto::restraint::Held;
use carp_user::proto::standing::Wait;

/// Node 0 is the better one and serves; node 1 is its backup and heir.
fn pair() -> Wire {
    pair_of(setup(0, false))
}

fn pair_of(better: HostSetup) -> Wire {
    let mut wire = Wire::new(vec![better, setup(100, false)]);
    wire.run(Span::secs(8));
    assert!(wire.serves(0) && !wire.serves(1));
    wire
}

fn cede(spare: bool) -> Event<'static> {
    Event::Command(Command::Cede { hosts: vec![HOST], spare })
}

fn reasons(actions: &[Action]) -> Vec<Reason> {
    let reason = |action: &Action| {
        if let Action::Changed(change) = action { Some(change.reason) } else { None }
    };
    actions.iter().filter_map(reason).collect()
}

#[test]
fn a_master_that_is_asked_hands_over_at_once_and_learns_that_the_other_serves() {
    let mut wire = pair();
    let (heir, age) = wire.host(0).standing.heir.expect("an heir");
    assert_eq!(heir.to_string(), "10.0.0.3");
    assert!(age <= Span::secs(3), "heard {age} ago");
    assert_eq!(reasons(&wire.tell(0, cede(true))), [Reason::HandingOver]);
    assert!(!wire.serves(0), "fenced first");
    wire.run(Span::micros(500));
    assert!(wire.serves(1));
    wire.run(Span::millis(50));
    assert_eq!(wire.host(0).standing.served_by, Some(heir));
}

#[test]
fn it_leaves_the_new_master_alone_although_it_ranks_higher_until_it_is_told_otherwise() {
    let mut wire = pair();
    wire.tell(0, cede(true));
    wire.run(Span::secs(60));
    assert!(wire.serves(1) && wire.role(0) == Role::Backup);
    assert!(matches!(wire.host(0).standing.held, Some(Held::Ceded(_))));
    wire.tell(0, Event::Command(Command::Reclaim { hosts: vec![HOST] }));
    wire.run(Span::secs(2));
    assert!(wire.serves(0));
    assert_eq!(wire.host(0).standing.held, None);
}

#[test]
fn it_takes_over_when_the_new_master_fails_and_is_as_configured_then() {
    let mut wire = pair();
    wire.tell(0, cede(true));
    wire.run(Span::secs(5));
    wire.kill(1);
    wire.run(Span::secs(4));
    assert!(wire.serves(0));
    wire.wake(1);
    wire.run(Span::secs(8));
    assert!(wire.serves(0), "nothing is left of the hand-over");
}

#[test]
fn it_takes_over_when_the_new_master_is_demoted() {
    let mut wire = pair();
    wire.tell(0, cede(true));
    wire.run(Span::secs(5));
    let (name, reason) = ("link wan0".to_owned(), "hardware interface down".to_owned());
    wire.tell(1, Event::Command(Command::Demote { name, amount: 240, reason, until: None }));
    wire.run(Span::secs(2));
    assert!(wire.serves(0), "two nodes that each serve a part of a gateway would be worse");
}

#[test]
fn who_is_handed_the_role_although_it_is_demoted_loses_it_again() {
    let mut wire = pair();
    let (name, reason) = ("link wan0".to_owned(), "hardware interface down".to_owned());
    wire.tell(1, Event::Command(Command::Demote { name, amount: 240, reason, until: None }));
    wire.tell(0, cede(true));
    wire.run(Span::secs(3));
    assert!(wire.serves(0));
}

#[test]
fn a_backup_that_held_back_still_takes_over_by_its_datapath_as_the_heir() {
    let mut wire = pair();
    wire.tell(0, cede(true));
    wire.run(Span::secs(8));
    let standing = wire.host(0).standing;
    assert!(standing.armed && standing.heir_of.is_some(), "{standing:?}");
    assert!(matches!(standing.waits, Some((Wait::Silence, _))));
}

#[test]
fn a_hand_over_for_maintenance_works_where_nobody_preempts() {
    let stays = HostSetup { preempt: false, ..setup(0, false) };
    let other = HostSetup { preempt: false, ..setup(100, false) };
    let mut wire = Wire::new(vec![stays, other]);
    wire.run(Span::secs(8));
    wire.tell(0, cede(false));
    wire.run(Span::millis(1));
    assert!(wire.serves(1));
}

#[test]
fn one_that_serves_nothing_has_nothing_to_hand_over() {
    let mut wire = pair();
    assert_eq!(reasons(&wire.tell(1, cede(true))), []);
    assert_eq!(wire.host(1).standing.held, None);
}

#[test]
fn a_node_that_comes_back_waits_with_preempting_and_with_nothing_else() {
    let patient = HostSetup { preempt_delay: Span::secs(30), ..setup(0, false) };
    let mut wire = pair_of(patient);
    wire.link(0, false);
    wire.run(Span::secs(5));
    wire.link(0, true);
    wire.run(Span::secs(29));
    assert!(wire.serves(1));
    assert!(matches!(wire.host(0).standing.held, Some(Held::Waits(left)) if left <= Span::secs(1)));
    wire.run(Span::secs(4));
    assert!(wire.serves(0), "its time is over");
    wire.link(0, false);
    wire.run(Span::secs(5));
    wire.link(0, true);
    wire.run(Span::secs(5));
    wire.kill(1);
    wire.run(Span::secs(4));
    assert!(wire.serves(0), "a dead master is replaced at once");
}

#[test]
fn a_demotion_that_has_an_end_ends() {
    let mut wire = pair();
    let until = Some(wire.now + Span::secs(10));
    let (name, reason) = ("maintenance".to_owned(), "new memory".to_owned());
    wire.tell(0, Event::Command(Command::Demote { name, amount: 240, reason, until }));
    wire.run(Span::secs(9));
    assert!(wire.serves(1));
    assert_eq!(wire.nodes[0].node.status(wire.now).demotions[0].until, until);
    wire.run(Span::secs(3));
    assert!(wire.serves(0) && wire.nodes[0].node.status(wire.now).demotions.is_empty());
}

#[test]
fn what_happens_is_told_with_both_ranks() {
    let mut wire = pair();
    let (name, reason) = ("user test".to_owned(), "a test".to_owned());
    let demoted = wire.tell(0, Event::Command(Command::Demote { name, amount: 240, reason, until: None }));
    let told = demoted.iter().find_map(|action| match action {
        Action::Demoted(demoted) => Some((demoted.name.as_str(), demoted.amount, demoted.sum)),
        Action::Window { .. }
        | Action::Advertise { .. }
        | Action::Send { .. }
        | Action::Announce { .. }
        | Action::Challenge { .. }
        | Action::Watch { .. }
        | Action::Changed(_)
        | Action::Tell { .. }
        | Action::Serving { .. }
        | Action::Peer { .. }
        | Action::Ask(_)
        | Action::Warn { .. } => None,
    });
    assert_eq!(told, Some(("user test", 240, 240)));
    wire.run(Span::secs(2));
    assert!(wire.serves(1));
    let change = wire.nodes[0].changes.last().expect("a change");
    assert_eq!((change.rank_before.skew, change.rank.skew), (0, 240));
    assert_eq!(
        change.master.map(|(address, pace)| (address.to_string(), pace.skew)),
        Some(("10.0.0.3".to_owned(), 100))
    );
}

#[test]
fn a_peer_is_told_of_when_it_is_heard_and_when_it_is_not_any_more() {
    let mut wire = pair();
    assert_eq!(wire.nodes[0].peers, [("10.0.0.3".to_owned(), true)]);
    assert_eq!(wire.nodes[1].peers, [("10.0.0.2".to_owned(), true)]);
    wire.kill(1);
    wire.run(Span::secs(13));
    assert_eq!(wire.nodes[0].peers.last(), Some(&("10.0.0.3".to_owned(), false)));
    wire.wake(1);
    wire.run(Span::secs(4));
    assert_eq!(wire.nodes[0].peers.last(), Some(&("10.0.0.3".to_owned(), true)));
    assert_eq!(wire.nodes[0].peers.len(), 3);
}
