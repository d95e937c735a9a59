//! Who is asked before a take-over: that nothing happens before the answer, and what follows from each.

use super::wire::{HOST, Wire, setup};
use carp_common::time::Span;
use carp_user::proto::event::{Action, Answer, Command, Event, HostSetup, Reason, Role};
use carp_user::proto::gate::{AGAIN, Bar, Setup};

const PATIENCE: Span = Span::secs(2);
/// Of a node with skew 100, and a little more.
const DEAD: Span = Span::millis(3_500);

fn gated(skew: u8, passes_unanswered: bool) -> HostSetup {
    HostSetup { gate: Some(Setup { patience: PATIENCE, passes_unanswered }), ..setup(skew, false) }
}

/// Node 0 serves and has no gate; node 1 is its backup, and has one.
fn pair(passes_unanswered: bool) -> Wire {
    let mut wire = Wire::new(vec![setup(0, false), gated(100, passes_unanswered)]);
    wire.run(Span::secs(8));
    assert!(wire.serves(0) && wire.role(1) == Role::Backup);
    assert_eq!(asked(&wire), 0);
    wire
}

fn asked(wire: &Wire) -> usize {
    wire.nodes[1].questions.len()
}

/// The gate of node 1 answers what it was asked last.
fn answer(wire: &mut Wire, answer: Answer) -> Vec<Action> {
    let number = wire.nodes[1].questions.last().expect("it was asked").number;
    wire.tell(1, Event::Answered { number, answer })
}

fn veto() -> Answer {
    Answer::Veto("tell: exit code 1: not today".to_owned())
}

fn sent_by_1(wire: &Wire) -> usize {
    wire.frames.iter().filter(|(_, by, _)| *by == 1).count()
}

#[test]
fn a_backup_asks_when_its_master_is_dead_and_says_and_does_nothing_before_the_answer() {
    let mut wire = pair(false);
    assert!(
        !wire.host(1).standing.armed && wire.host(1).standing.heir_of.is_some(),
        "its datapath does not ask"
    );
    wire.kill(0);
    wire.run(DEAD);
    assert_eq!(asked(&wire), 1);
    assert_eq!(wire.nodes[1].questions[0].reason, Reason::MasterTimedOut);
    let before = sent_by_1(&wire);
    wire.run(Span::secs(1));
    assert_eq!((wire.role(1), asked(&wire), sent_by_1(&wire)), (Role::Backup, 1, before));
    assert!(matches!(wire.host(1).standing.gate, Bar::Asked(_)));
    answer(&mut wire, Answer::Pass);
    wire.run(Span::millis(200));
    assert!(wire.serves(1));
    assert_eq!(wire.host(1).reason, Reason::MasterTimedOut);
    wire.run(Span::secs(10));
    assert!(wire.serves(1) && asked(&wire) == 1, "a master is not asked");
}

#[test]
fn one_that_is_refused_stays_a_backup_says_why_and_asks_again() {
    let mut wire = pair(true);
    wire.kill(0);
    wire.run(DEAD);
    answer(&mut wire, veto());
    let Bar::Vetoed(why, _) = wire.host(1).standing.gate else { panic!("it was refused") };
    assert_eq!(why, "tell: exit code 1: not today");
    let before = sent_by_1(&wire);
    wire.run(AGAIN);
    assert_eq!((wire.role(1), asked(&wire), sent_by_1(&wire)), (Role::Backup, 1, before));
    wire.run(DEAD);
    assert_eq!(asked(&wire), 2);
    answer(&mut wire, Answer::Pass);
    wire.run(Span::millis(200));
    assert!(wire.serves(1));
}

#[test]
fn without_an_answer_it_goes_on_or_not_as_is_configured() {
    for passes in [true, false] {
        let mut wire = pair(passes);
        wire.kill(0);
        wire.run(DEAD + PATIENCE + Span::millis(200));
        assert_eq!(wire.serves(1), passes);
        assert_eq!(asked(&wire), 1);
        answer(&mut wire, if passes { veto() } else { Answer::Pass });
        wire.run(Span::millis(500));
        assert_eq!(wire.serves(1), passes, "an answer that comes too late is of no meaning");
    }
}

#[test]
fn a_master_that_lives_again_meanwhile_is_left_alone() {
    let slow = Setup { patience: Span::secs(60), passes_unanswered: false };
    let mut wire = Wire::new(vec![setup(0, false), HostSetup { gate: Some(slow), ..setup(100, false) }]);
    wire.run(Span::secs(8));
    wire.kill(0);
    wire.run(DEAD);
    wire.wake(0);
    wire.run(Span::secs(5));
    assert!(wire.serves(0) && asked(&wire) == 1);
    answer(&mut wire, Answer::Pass);
    wire.run(Span::secs(10));
    assert!(wire.serves(0) && wire.role(1) == Role::Backup && asked(&wire) == 1);
}

#[test]
fn a_role_that_is_handed_over_is_taken_after_the_answer() {
    let mut wire = pair(false);
    wire.tell(0, Event::Command(Command::Cede { hosts: vec![HOST], spare: true }));
    wire.run(Span::millis(20));
    assert_eq!((asked(&wire), wire.role(1)), (1, Role::Backup));
    assert_eq!(wire.nodes[1].questions[0].reason, Reason::HandedOver);
    answer(&mut wire, Answer::Pass);
    wire.run(Span::millis(1));
    assert!(wire.serves(1), "as if it had come just now");
}

#[test]
fn or_is_handed_back_at_once_when_that_is_no() {
    let mut wire = pair(false);
    wire.tell(0, Event::Command(Command::Cede { hosts: vec![HOST], spare: true }));
    wire.run(Span::millis(20));
    answer(&mut wire, veto());
    wire.run(Span::millis(20));
    assert!(wire.serves(0) && wire.role(1) == Role::Backup);
}

#[test]
fn a_better_node_that_comes_back_asks_before_it_preempts() {
    let mut wire = Wire::new(vec![setup(100, false), gated(0, false)]);
    wire.run(Span::secs(20));
    assert!(wire.serves(0), "nobody has answered");
    // The question of now, not one that was given up.
    let before = asked(&wire);
    while asked(&wire) == before {
        wire.run(Span::millis(100));
    }
    assert_eq!(wire.nodes[1].questions[before].reason, Reason::Preempted);
    answer(&mut wire, Answer::Pass);
    wire.run(Span::secs(2));
    assert!(wire.serves(1) && wire.role(0) == Role::Backup);
}

#[test]
fn who_is_forced_or_has_no_gate_does_not_ask() {
    let mut wire = pair(false);
    wire.tell(1, Event::Command(Command::Force { host: HOST, master: true }));
    wire.run(Span::secs(1));
    assert_eq!(asked(&wire), 0);
    wire.kill(1);
    wire.run(Span::secs(5));
    assert!(wire.serves(0) && wire.nodes[0].questions.is_empty());
}
