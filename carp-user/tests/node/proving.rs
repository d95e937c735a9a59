//! Strict authentication between whole nodes: greetings, and the signs of life that answer them.

use super::wire::{HOST, LINK, Wire, setup};
use carp_common::admission::Mode;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Command, Errand, Event, HostSetup, Role, Setup};
use carp_user::proto::node::Node;

const MASTER: Pace = Pace { base: 1, skew: 0 };

fn strict(skew: u8) -> HostSetup {
    HostSetup { mode: Mode::Strict, ..setup(skew, false) }
}

/// A master (node 0) that has advertised once, at 3 s, and a backup.
fn pair() -> Wire {
    let mut wire = Wire::new(vec![strict(0), strict(100)]);
    wire.run(Span::millis(3900));
    assert!(wire.serves(0) && wire.role(1) == Role::Backup);
    wire
}

/// What a node has sent: when, what, and its bytes.
fn sent(wire: &Wire, by: usize) -> Vec<(Instant, Heard, Vec<u8>)> {
    let frames = wire.frames.iter().filter(|(_, from, _)| *from == by);
    frames.filter_map(|(at, _, bytes)| Some((*at, Heard::parse(bytes)?.ok()?, bytes.clone()))).collect()
}

fn is_advert_to_group(heard: &Heard) -> bool {
    heard.seen().is_to_group() && heard.advert.pace == MASTER
}

#[test]
fn a_masters_greeting_does_not_prolong_its_lease() {
    let wire = pair();
    let sent = sent(&wire, 0);
    let (advertised_at, ..) = sent.iter().rev().find(|(_, heard, _)| is_advert_to_group(heard)).unwrap();
    let (greeted_at, ..) =
        sent.iter().rev().find(|(_, heard, _)| heard.advert.pace == Pace::GREETING).unwrap();
    assert!(advertised_at < greeted_at);
    assert_eq!(wire.nodes[0].window.serve_until, (*advertised_at + MASTER.lease()).nanos());
}

#[test]
fn a_masters_words_to_a_node_end_with_an_advert_to_it_as_they_may_have_overtaken_one() {
    let mut wire = pair();
    wire.run(Span::secs(10));
    let sent = sent(&wire, 0);
    let words =
        sent.iter().filter(|(_, heard, _)| heard.advert.pace.is_word() && !heard.seen().is_to_group());
    let mut count = 0;
    for (at, word, _) in words {
        let is_later = |advert: &Heard| {
            advert.advert.pace == MASTER
                && advert.destination == word.destination
                && advert.advert.counter > word.advert.counter
        };
        assert!(sent.iter().any(|(when, advert, _)| when == at && is_later(advert)), "{word:?}");
        count += 1;
    }
    assert!(count > 2, "greetings and answers");
}

#[test]
fn an_answer_that_waited_to_be_read_proves_that_its_sender_lives_though_it_was_greeted_again() {
    let mut wire = pair();
    let node = Node::new(Setup { hosts: vec![strict(100)], seed: 9, epoch: 1 }, wire.now);
    wire.restart(1, node);
    wire.link(1, true);
    let begun = wire.now;
    wire.run(Span::micros(100_150));
    // It has heard the advert of 4 s and greeted the master, and sleeps from then on.
    wire.kill(1);
    wire.run(Span::secs(2));
    wire.wake(1);
    let sent = sent(&wire, 0);
    let adverts: Vec<_> =
        sent.iter().filter(|(at, heard, _)| begun < *at && is_advert_to_group(heard)).collect();
    let is_answer = |heard: &Heard| matches!(heard.advert.pace, Pace::ANSWER | Pace::PROMISE);
    let answer = sent.iter().find(|(at, heard, _)| begun < *at && is_answer(heard)).unwrap();
    let [_, before, after] = adverts.as_slice() else { panic!("{} adverts", adverts.len()) };
    let mut hear = |(at, _, frame): &(Instant, Heard, Vec<u8>)| {
        wire.tell(1, Event::Frame { link: LINK, at: *at, frame });
    };
    hear(before);
    hear(answer);
    hear(after);
    assert_eq!(wire.refused(1, "unproven"), 2, "the one that made it ask, and the one before the answer");
}

/// A master advertises for so many seconds while the backup does not hear, then dies; what it advertised.
fn unheard(wire: &mut Wire, seconds: u64) -> Vec<Vec<u8>> {
    wire.kill(1);
    let begun = wire.now;
    wire.run(Span::secs(seconds));
    wire.kill(0);
    let adverts = sent(wire, 0).into_iter().filter(|(at, heard, _)| begun < *at && is_advert_to_group(heard));
    adverts.map(|(.., bytes)| bytes).collect()
}

#[test]
fn unheard_adverts_of_a_dead_master_that_are_replayed_for_12_s_hold_a_claim_up_for_two_leases() {
    let mut wire = pair();
    let recorded = unheard(&mut wire, 12);
    wire.wake(1);
    // Longer silent than what a node is remembered for: it has to prove that it lives.
    wire.run(Span::millis(10));
    let begun = wire.now;
    let lease = MASTER.longest_lease();
    let mut served_after = None;
    for advert in &recorded {
        wire.hear(1, advert);
        for _ in 0..100 {
            wire.run(Span::millis(10));
            served_after = served_after.or_else(|| wire.serves(1).then(|| wire.now.since(begun)));
        }
    }
    let served_after = served_after.expect("it serves at last");
    assert!(lease <= served_after && served_after <= lease.times(2) + Span::secs(2), "{served_after}");
    assert!(wire.refused(1, "unproven") > 3);
}

#[test]
fn a_node_that_slept_before_its_question_left_waits_for_what_was_heard_meanwhile() {
    let mut wire = pair();
    let recorded = unheard(&mut wire, 8);
    wire.wake(1);
    wire.run(Span::millis(10));
    // Node 1 hears an advert, is to ask, and sleeps two seconds before it does.
    let heard_at = wire.now;
    let frame = &recorded[0];
    let actions = wire.nodes[1].node.handle(Event::Frame { link: LINK, at: heard_at, frame }, heard_at);
    let question = actions.iter().find_map(|action| {
        let Action::Advertise { host, errand: errand @ Errand::Greeting(_), .. } = action else {
            return None;
        };
        Some((*host, *errand))
    });
    let (host, errand) = question.unwrap();
    wire.now = wire.now + Span::secs(2);
    wire.tell(1, Event::Sent { host, errand, at: wire.now, ok: true });
    let second_at = wire.now - Span::millis(100);
    wire.tell(1, Event::Frame { link: LINK, at: second_at, frame: &recorded[1] });
    wire.tell(1, Event::Command(Command::Force { host: HOST, master: true }));
    while !wire.serves(1) {
        wire.run(Span::millis(10));
    }
    assert!(second_at + MASTER.longest_lease() <= wire.now, "the second came before it could be answered");
}

#[test]
fn a_node_that_lost_its_epoch_learns_of_a_master_that_refuses_all_it_says_and_never_serves_beside_it() {
    let mut wire = pair();
    wire.run(Span::secs(5));
    wire.restart(1, Node::new(Setup { hosts: vec![strict(100)], seed: 9, epoch: 0 }, wire.now));
    wire.link(1, true);
    for _ in 0..3_000 {
        wire.run(Span::millis(10));
        assert!(wire.serves(0) && !wire.serves(1));
    }
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    assert!(wire.refused(0, "replay") > 0, "its counters begin again");
    // And takes over when the master dies.
    wire.kill(0);
    wire.run(Span::secs(8));
    assert!(wire.serves(1));
}

#[test]
fn an_answer_that_was_held_back_for_longer_than_a_lease_proves_nothing() {
    let mut wire = pair();
    // Node 1 asks, and the answer does not arrive.
    let answers = |wire: &Wire| -> Vec<Vec<u8>> {
        let of = |heard: &Heard| matches!(heard.advert.pace, Pace::ANSWER | Pace::PROMISE);
        sent(wire, 0).into_iter().filter(|(_, heard, _)| of(heard)).map(|(.., bytes)| bytes).collect()
    };
    wire.kill(1);
    wire.run(Span::secs(6));
    wire.wake(1);
    let before = answers(&wire).len();
    let advert = wire.last_advert(0);
    wire.hear(1, &advert);
    wire.kill(1);
    wire.run(Span::millis(10));
    let held_back = answers(&wire).split_off(before);
    let [answer] = held_back.as_slice() else { panic!("{} answers", held_back.len()) };
    let later: Vec<_> = unheard(&mut wire, 5);
    wire.wake(1);
    wire.run(Span::secs(12));
    assert!(wire.serves(1), "the master is dead");
    let refused = wire.refused(1, "unproven");
    wire.hear(1, answer);
    later.iter().for_each(|advert| wire.hear(1, advert));
    assert_eq!(wire.refused(1, "unproven"), refused + 6);
    assert!(wire.serves(1));
}
