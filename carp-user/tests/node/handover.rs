//! How the role moves: preemption with confirmation, leases, bow-out, demotion, links.

use super::wire::{HOST, LINK, Wire, setup};
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Envelope, Heard};
use carp_user::proto::event::{Action, Command, Errand, Event, Role};

/// Node 0 is the better one, node 1 its backup; both have settled.
fn pair() -> Wire {
    let mut wire = Wire::new(vec![setup(0, false), setup(100, false)]);
    wire.run(Span::secs(5));
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    assert!(wire.serves(0) && !wire.serves(1));
    wire
}

/// No node serves for so long when the role is handed over: a claim settles, and frames travel.
const SETTLED: u64 = 5_400;

/// Runs in steps of 50 µs and says for how long exactly one, none and both of the pair served.
fn census(wire: &mut Wire, span: Span) -> (u64, u64, u64) {
    let step = Span::micros(50);
    let (mut one, mut none, mut both) = (0, 0, 0);
    for _ in 0..span.as_micros() / step.as_micros() {
        wire.run(step);
        match (wire.serves(0), wire.serves(1)) {
            (true, true) => both += step.as_micros(),
            (false, false) => none += step.as_micros(),
            (true, false) | (false, true) => one += step.as_micros(),
        }
    }
    (one, none, both)
}

#[test]
fn a_stopping_master_hands_over_within_the_time_to_settle() {
    let mut wire = pair();
    wire.tell(0, Event::Stop);
    assert!(!wire.serves(0));
    let (_, none, both) = census(&mut wire, Span::secs(1));
    assert_eq!(both, 0);
    assert!(none <= SETTLED, "nobody served for {none} µs");
    assert_eq!(wire.role(1), Role::Master);
}

#[test]
fn a_stopping_master_fences_before_it_speaks_and_bows_out_to_all() {
    let mut wire = pair();
    let actions = wire.tell(0, Event::Stop);
    assert_eq!(actions[0], Action::Window { host: HOST, window: Window::CLOSED });
    let sent = Wire::farewells(&actions);
    assert!(sent.iter().all(|heard| heard.advert.pace == Pace::BOW_OUT));
    assert!(sent.iter().any(|heard| heard.destination.is_multicast()));
    assert!(wire.tell(0, Event::Tick).is_empty(), "nothing comes after it");
}

/// Switches learn from the source where the virtual MAC is: the heir may have announced itself by
/// the time that the last farewell is out.
#[test]
fn a_farewell_does_not_leave_from_the_virtual_mac() {
    let mut wire = pair();
    let actions = wire.tell(0, Event::Stop);
    let mut sources = Vec::new();
    for action in &actions {
        if let Action::Send { frame, .. } = action {
            sources.push(&frame.bytes()[6..12]);
        }
    }
    assert!(!sources.is_empty());
    assert!(sources.iter().all(|source| !source.starts_with(&[0, 0, 0x5e, 0, 1])), "{sources:02x?}");
}

#[test]
fn a_killed_master_serves_to_the_end_of_its_lease_and_never_beside_the_next() {
    let mut wire = pair();
    wire.kill(0);
    let (_, none, both) = census(&mut wire, Span::secs(5));
    assert_eq!(both, 0);
    assert_eq!(wire.role(1), Role::Master);
    // 100/256 s of skew, the lease's margin, and the claim's time to settle.
    let most = Span::micros(390_625 + 46_875 + 5_000 + 1_000).as_micros();
    assert!(none <= most, "nobody served for {none} µs");
}

#[test]
fn a_returning_master_preempts_without_overlap_and_with_hardly_a_gap() {
    let mut wire = pair();
    wire.link(0, false);
    wire.run(Span::secs(5));
    assert!(wire.serves(1));
    wire.link(0, true);
    let (_, none, both) = census(&mut wire, Span::secs(5));
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    assert!(wire.serves(0));
    assert_eq!(both, 0);
    assert!(none <= SETTLED, "nobody served for {none} µs");
}

#[test]
fn a_claim_against_a_frozen_master_waits_for_its_lease() {
    let mut wire = Wire::new(vec![setup(0, false), setup(100, false)]);
    wire.link(0, false);
    wire.run(Span::secs(5));
    wire.link(0, true);
    // Acquainted by the answer to its greeting; then node 1 freezes before it hears the claim.
    while wire.role(0) != Role::Master {
        wire.run(Span::micros(50));
    }
    wire.kill(1);
    let (_, _, both) = census(&mut wire, Span::secs(4));
    assert_eq!(both, 0);
    assert!(wire.serves(0), "it serves once the lease is over");
}

#[test]
fn a_silent_peer_is_preempted_after_two_greetings_and_one_lease_of_listening() {
    let mut wire = Wire::new(vec![setup(0, false)]);
    let mut theirs = carp_common::wire::Advert {
        vhid: setup(0, false).vhid,
        pace: Pace { base: 1, skew: 100 },
        demote: 0,
        counter: 0,
        digest: [0; 20],
    };
    let host = setup(0, false);
    let midstate = carp_common::auth::Midstate::new(&host.key, host.digest, None, host.vhid, &host.vips);
    for counter in 1..=4_u64 {
        assert_eq!(wire.role(0), Role::Backup);
        theirs.counter = counter;
        theirs.digest = midstate.digest(counter.to_be_bytes());
        let frame = Envelope::to_group([10, 0, 0, 9].into(), 0).seal(&theirs);
        wire.hear(0, frame.bytes());
        wire.run(Span::secs(1));
    }
    assert_eq!(wire.role(0), Role::Master);
    assert!(wire.serves(0));
}

#[test]
fn a_late_or_replayed_confirmation_is_not_believed() {
    let mut wire = pair();
    wire.tell(0, Event::Stop);
    let confirmation = wire.frames.iter().rev().find_map(|(_, from, bytes)| {
        let heard = Heard::parse(bytes)?.ok()?;
        (*from == 0 && !heard.destination.is_multicast()).then(|| bytes.clone())
    });
    let mut wire = pair();
    let refused_before = wire.role(1);
    wire.run(Span::secs(3));
    wire.hear(1, &confirmation.unwrap());
    assert_eq!(wire.role(1), refused_before);
    assert!(wire.serves(0) && !wire.serves(1));
}

#[test]
fn items_83_of_two_masters_on_one_wire_the_better_stays() {
    let mut wire = pair();
    wire.tell(1, Event::Command(Command::Force { host: HOST, master: true }));
    assert_eq!(wire.role(1), Role::Master);
    let (_, none, both) = census(&mut wire, Span::millis(1_100));
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
    assert_eq!((none, both), (0, 0), "the forced one never served");
}

#[test]
fn equal_masters_are_told_apart_by_address_before_both_serve() {
    let mut wire = Wire::new(vec![setup(50, false), setup(50, false)]);
    let (_, _, both) = census(&mut wire, Span::secs(6));
    assert_eq!(both, 0);
    assert_eq!((wire.role(0), wire.role(1)), (Role::Master, Role::Backup));
}

#[test]
fn a_bow_out_heard_by_two_backups_makes_one_master() {
    let mut wire = Wire::new(vec![setup(0, false), setup(100, false), setup(200, false)]);
    wire.run(Span::secs(5));
    wire.tell(0, Event::Stop);
    for _ in 0..20_000 {
        wire.run(Span::micros(50));
        assert!(!(wire.serves(1) && wire.serves(2)));
    }
    assert!(wire.serves(1));
    assert_eq!(wire.role(2), Role::Backup);
}

#[test]
fn item_89_90_a_demoted_master_is_preempted_at_once_and_takes_over_again() {
    let mut wire = pair();
    let demote = Command::Demote {
        name: "user test".to_owned(),
        amount: 240,
        reason: "a test".to_owned(),
        until: None,
    };
    wire.tell(0, Event::Command(demote));
    let (_, none, both) = census(&mut wire, Span::millis(20));
    assert!(wire.serves(1), "item 89: within 50 ms");
    assert_eq!(both, 0);
    assert!(none <= SETTLED, "nobody served for {none} µs");
    assert_eq!(wire.host(0).effective, Pace { base: 1, skew: 240 });
    wire.tell(0, Event::Command(Command::Undemote { name: "user test".to_owned() }));
    wire.run(Span::secs(2));
    assert!(wire.serves(0));
}

#[test]
fn item_91_a_hundred_flaps_leave_no_demotion_behind() {
    let mut wire = pair();
    for _ in 0..100 {
        wire.link(0, false);
        assert_eq!(wire.nodes[0].node.status(wire.now).demotion, 240);
        assert_eq!(wire.role(0), Role::Init);
        wire.link(0, true);
        assert_eq!(wire.role(0), Role::Backup);
    }
    assert_eq!(wire.nodes[0].node.status(wire.now).demotion, 0);
}

#[test]
fn item_94_three_send_errors_demote_and_three_successes_undo() {
    let mut wire = Wire::new(vec![setup(0, false)]);
    wire.run(Span::secs(4));
    let demotion = |wire: &Wire| wire.nodes[0].node.status(wire.now).demotion;
    wire.nodes[0].sends_fail = true;
    wire.run(Span::millis(1_900));
    assert_eq!(demotion(&wire), 0);
    wire.run(Span::secs(8));
    assert_eq!(demotion(&wire), 240);
    wire.nodes[0].sends_fail = false;
    wire.run(Span::secs(10));
    assert_eq!(demotion(&wire), 0);
}

#[test]
fn item_95_a_master_of_both_families_bows_out_in_both() {
    let mut wire = Wire::new(vec![setup(0, true), setup(100, true)]);
    wire.run(Span::secs(5));
    let actions = wire.tell(0, Event::Stop);
    let farewells = Wire::farewells(&actions);
    let to_group = farewells.iter().filter(|heard| heard.destination.is_multicast());
    let to_group: Vec<bool> = to_group.map(|heard| heard.source.is_ipv4()).collect();
    assert_eq!(to_group, [true, false]);
    wire.run(Span::millis(50));
    assert!(wire.serves(1), "within 50 ms");
}

#[test]
fn item_102_103_the_announcement_follows_the_advert_and_is_repeated_after_two() {
    let mut wire = Wire::new(vec![setup(0, true)]);
    wire.run(Span::secs(6));
    // Told to nodes of ours only, and before: that a claim will be made.
    let is_announcement = |bytes: &[u8]| Heard::parse(bytes).is_some_and(|it| it.unwrap().is_announcement());
    assert!(wire.frames[..2].iter().all(|(.., bytes)| is_announcement(bytes)), "in both families");
    wire.frames.drain(..2);
    let kind = |bytes: &[u8]| match Heard::parse(bytes) {
        Some(_) => "advert",
        None if bytes[12..14] == [8, 6] => "arp",
        None => "na",
    };
    let kinds: Vec<&str> = wire.frames.iter().map(|(.., bytes)| kind(bytes)).collect();
    assert_eq!(kinds[..4], ["advert", "advert", "arp", "na"]);
    assert!(wire.frames[2].0.since(wire.frames[0].0) <= Span::millis(10));
    assert_eq!(kinds.iter().filter(|kind| **kind == "arp").count(), 2);
}

#[test]
fn a_master_that_slept_through_its_lease_looks_before_it_speaks() {
    let mut wire = Wire::new(vec![setup(0, false)]);
    wire.run(Span::secs(4));
    assert!(wire.serves(0));
    wire.now = wire.now + Span::secs(10);
    let actions = wire.tell(0, Event::Tick);
    assert!(actions.iter().all(|action| !matches!(action, Action::Advertise { .. })), "{actions:?}");
    assert_eq!(wire.role(0), Role::Backup);
}

#[test]
fn without_an_address_to_advertise_from_it_does_not_run() {
    let mut wire = Wire::new(vec![setup(0, true)]);
    let state = carp_user::proto::event::LinkState {
        up: true,
        mac: carp_common::id::Mac([2; 6]),
        source_v4: Some([10, 0, 0, 2].into()),
        source_v6: None,
        shielded: true,
        router: false,
    };
    wire.tell(0, Event::Link { link: LINK, state });
    assert_eq!(wire.role(0), Role::Init, "item 13: nothing is sent from no address");
}

#[test]
fn a_greeting_goes_out_like_an_advert_and_is_reported_as_none() {
    let mut master = Wire::new(vec![setup(0, false)]);
    master.run(Span::secs(4));
    let advert = master.last_advert(0);
    let mut wire = Wire::new(vec![setup(0, false), setup(100, false)]);
    wire.kill(0);
    let actions = wire.tell(1, Event::Frame { link: LINK, at: wire.now, frame: &advert });
    let said = |action: &Action| {
        let Action::Advertise { errand, frame, .. } = action else { return None };
        Some((*errand, Heard::parse(frame.bytes())?.ok()?.advert.pace))
    };
    let said: Vec<_> = actions.iter().filter_map(said).collect();
    let master = Heard::parse(&advert).unwrap().unwrap().source;
    assert_eq!(said, [(Errand::Greeting(master), Pace::GREETING)]);
}
