//! Gateways that ask each other whether they serve, simulated: how soon the backup takes over, and that it never does while
//! the master may serve, as far as one can know.

use carp_common::time::{Instant, Span};
use carp_tests::sim::fault::{Fault, Way, Weather};
use carp_tests::sim::scenario::Scenario;
use carp_tests::sim::world::World;
use carp_user::proto::detect::Detect;
use carp_user::proto::event::{Reason, Role};

const BLOCKED: Weather = Weather { blocked: true, loss: 0, duplicate: 0, delay: Span::ZERO };
const DETECT: Detect = Detect { interval: Span::millis(5), lease: Span::millis(100), aside: None };
const FAULT: Span = Span::secs(10);

#[test]
fn a_paused_or_killed_daemon_is_replaced_as_its_lease_ends_and_not_before() {
    for fault in [Fault::Pause(0, Span::secs(5)), Fault::Crash { node: 0, ring: true }] {
        let mut world = played(gateways().at(FAULT, fault.clone()), FAULT);
        let (ends, begins) =
            (until(&mut world, |world| !world.serves(0, 0)), until(&mut world, |world| world.serves(1, 0)));
        assert!(
            (Span::millis(80)..=DETECT.lease).contains(&ends.since(Instant::ZERO + FAULT)),
            "{fault}: {ends:?}"
        );
        assert!(begins.since(ends) <= Span::millis(3), "{fault}: {ends:?} {begins:?}");
        assert!(world.serves(1, 1));
        assert_eq!(reason(&world), Reason::MasterLapsed.text(), "{fault}");
        // It goes on as a backup, and takes the role back as it preempts.
        world.run_until(Instant::ZERO + Span::secs(30));
        let master = if matches!(fault, Fault::Pause(..)) { 0 } else { 1 };
        assert!(world.failure().is_none() && world.serves(master, 0) && world.serves(master, 1), "{fault}");
    }
}

#[test]
fn a_dead_machine_is_replaced_after_three_questions() {
    let mut world = played(gateways().at(FAULT, Fault::PowerOff(0)), FAULT);
    let begins = until(&mut world, |world| world.serves(1, 0));
    assert!(begins.since(Instant::ZERO + FAULT) <= DETECT.interval.times(5), "{begins:?}");
    assert_eq!(reason(&world), Reason::MasterSilent.text());
}

#[test]
fn a_master_that_answers_on_one_path_is_not_replaced() {
    for segment in [0, 1] {
        let ways = Way::between(segment, 0, 1);
        let scenario =
            ways.iter().fold(gateways(), |scenario, way| scenario.at(FAULT, Fault::Weather(*way, BLOCKED)));
        let world = played(scenario, Span::secs(40));
        assert!([0, 1].iter().all(|host| world.serves(0, *host)), "segment {segment}");
    }
}

#[test]
fn one_that_answers_over_the_sync_link_alone_is_not_replaced_and_one_that_dies_is() {
    let aside = || Scenario { aside: true, ..gateways() };
    let ways = || [0, 1].into_iter().flat_map(|segment| Way::between(segment, 0, 1));
    let cut = |at| ways().fold(aside(), |scenario, way| scenario.at(at, Fault::Weather(way, BLOCKED)));
    // Also one that was never heard.
    for at in [FAULT, Span::ZERO] {
        let off = Span::secs(41);
        let mut world = played(cut(at).at(off, Fault::PowerOff(0)), Span::secs(40));
        assert!([0, 1].iter().all(|host| world.serves(0, *host) && !world.serves(1, *host)), "cut at {at}");
        // One that nobody has heard for long has promised nothing.
        world.run_until(Instant::ZERO + Span::secs(45));
        assert!(world.serves(1, 0) && world.serves(1, 1));
    }
    let mut world = played(aside().at(FAULT, Fault::PowerOff(0)), FAULT);
    let begins = until(&mut world, |world| world.serves(1, 0));
    assert!(begins.since(Instant::ZERO + FAULT) <= DETECT.interval.times(5), "{begins:?}");
}

#[test]
fn a_backup_that_was_paused_takes_nobody_for_gone_when_it_runs_again() {
    for span in [20, 90, 400, 2_000] {
        let world = played(gateways().at(FAULT, Fault::Pause(1, Span::millis(span))), Span::secs(20));
        assert_eq!((world.role(0, 0), world.role(1, 0)), (Role::Master, Role::Backup), "{span} ms");
        assert!(world.serves(0, 0));
    }
}

#[test]
fn after_a_false_alarm_only_adverts_count_for_a_minute() {
    // All paths are cut for less than a dead time, twice.
    let cut = |scenario: Scenario, at: Span, weather| {
        let ways = [0, 1].into_iter().flat_map(|segment| Way::between(segment, 0, 1));
        ways.fold(scenario, |scenario, way| scenario.at(at, Fault::Weather(way, weather)))
    };
    let fair = Weather::default();
    let scenario = cut(cut(gateways(), FAULT, BLOCKED), FAULT + Span::millis(500), fair);
    let scenario = cut(cut(scenario, Span::secs(20), BLOCKED), Span::millis(20_500), fair);
    let mut world = played(scenario, FAULT + Span::millis(200));
    assert!(world.serves(1, 0), "nobody can tell this from a death");
    world.run_until(Instant::ZERO + Span::secs(19));
    assert!(world.serves(0, 0) && !world.serves(1, 0), "as soon as a path is back, the better one has all");
    world.run_until(Instant::ZERO + Span::millis(20_400));
    assert!(world.serves(0, 0) && !world.serves(1, 0));
    assert!(world.failure().is_none(), "{:?}", world.failure());
}

fn gateways() -> Scenario {
    Scenario { detect: Some(DETECT), ..Scenario::gateways(Span::ZERO) }
}

fn played(scenario: Scenario, until: Span) -> World {
    let mut world = World::new(scenario, 1, None);
    world.run_until(Instant::ZERO + until);
    assert!(world.failure().is_none(), "{:?}", world.failure());
    world
}

/// When that was so first, to the millisecond.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) -> Instant {
    let end = world.now() + Span::secs(1);
    while !is_so(world) {
        assert!(world.now() < end, "not within a second");
        world.run_until(world.now() + Span::millis(1));
        assert!(world.failure().is_none(), "{:?}", world.failure());
    }
    world.now()
}

/// Why the second machine has its role.
fn reason(world: &World) -> &'static str {
    world.status(1).expect("it runs").hosts[0].reason.text()
}
