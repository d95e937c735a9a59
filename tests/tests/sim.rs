//! The simulator's own test run: fixed seeds stay clean, every mutant is caught, and the timelines
//! of the conformance list that need more than one node.

use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_tests::sim::chance;
use carp_tests::sim::fault::{Fault, Way, Weather};
use carp_tests::sim::hunt::{self, Until};
use carp_tests::sim::mutant::Mutant;
use carp_tests::sim::rng::Rng;
use carp_tests::sim::scenario::{Manners, Scenario};
use carp_tests::sim::story::What;
use carp_tests::sim::world::World;
use carp_user::proto::event::Role;

const BLOCKED: Weather = Weather { blocked: true, loss: 0, duplicate: 0, delay: Span::ZERO };
const FAIR: Weather = Weather { blocked: false, ..BLOCKED };

#[test]
fn three_hundred_fixed_seeds_break_no_rule() {
    let caught = hunt::hunt(chance::scenario, 0, 300, None, Until::Done, |_, _| ());
    let told: Vec<_> = caught.iter().map(|it| format!("--seed {}: {}", it.seed, it.failure)).collect();
    assert!(told.is_empty(), "replay with cargo xtask sim:\n{}", told.join("\n"));
}

#[test]
fn addresses_that_nodes_learn_of_one_after_the_other_break_no_rule_in_two_hundred_groups() {
    let count = std::env::var("CARP_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in (0..count.unwrap_or(200)).chain([17_164, 24_713]) {
        let mut world = World::new(chance::reloads(seed), seed, None).silent();
        world.run();
        assert!(world.failure().is_none(), "seed {seed}: {:?}", world.failure());
    }
}

#[test]
fn strict_a_masters_greeting_does_not_prolong_its_lease() {
    are_clean(&[1293, 2831, 3085, 3261]);
}

#[test]
fn strict_a_masters_advert_is_heard_though_its_greeting_overtakes_it() {
    are_clean(&[3114]);
}

#[test]
fn strict_an_answer_counts_that_waited_to_be_read_while_its_sender_was_greeted_again() {
    are_clean(&[11_041, 1_018_103]);
}

#[test]
fn strict_a_question_is_unanswered_only_since_it_left_this_node() {
    are_clean(&[20_162_690, 20_165_063, 20_190_399, 20_228_012, 20_232_304, 20_236_365, 20_294_404]);
}

#[test]
fn strict_a_late_confirmation_releases_nobody_from_a_newer_advert() {
    are_clean(&[20_232_316]);
}

#[test]
fn strict_an_advert_that_seemed_to_be_replayed_counts_once_its_sender_proves_that_it_lives() {
    are_clean(&[20_280_844]);
}

#[test]
fn a_claim_that_was_announced_with_another_rank_or_before_a_sleep_is_announced_anew() {
    are_clean(&[30_138_060, 30_474_745]);
}

#[test]
fn one_that_has_ever_confirmed_is_one_of_ours_and_a_stranger_is_looked_at_anew_after_a_silence() {
    are_clean(&[30_119_392, 30_250_184, 40_010_487, 90_035_424]);
}

#[test]
fn a_claim_whose_adverts_cannot_be_sent_is_not_tried_again_and_again_at_once() {
    are_clean(&[20_039_011, 20_072_316, 20_082_880]);
}

#[test]
fn every_mutant_is_caught_within_two_hundred_seeds() {
    for mutant in Mutant::ALL {
        assert!(hunt::catch(mutant, 200).is_some(), "{} escapes: the oracle has grown blunt", mutant.name());
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 7, 1234] {
        let story = |seed| format!("{:?}", hunt::run(chance::scenario, seed, None).story());
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}

#[test]
fn item_60_a_backup_with_skew_0_speaks_3_s_after_the_last_advert_of_a_killed_master() {
    let mut scenario = Scenario::of(2).preempt(false);
    scenario.machines[0].paces = vec![Pace { base: 1, skew: 100 }];
    scenario.machines[1].paces = vec![Pace { base: 1, skew: 0 }];
    let scenario = scenario
        .at(Span::ZERO, Fault::Start(0))
        .at(secs(5), Fault::Start(1))
        .at(Span::millis(20_500), Fault::Crash { node: 0, ring: false });
    let world = played(scenario, 1, secs(30));
    let last = adverts(&world, 0).last().copied().unwrap();
    let first = adverts(&world, 1).copied().find(|at| *at > last).unwrap();
    let silence = first.since(last);
    assert!(silence >= secs(3) && silence <= Span::millis(3050), "{silence}");
}

#[test]
fn item_82_two_nodes_converge_within_4500_ms_from_any_start_order() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let starts = [rng.span(Span::ZERO, secs(6)), rng.span(Span::ZERO, secs(6))];
        let scenario = Scenario::of(2)
            .manners(Manners::Prompt)
            .at(starts[0], Fault::Start(0))
            .at(starts[1], Fault::Start(1));
        let last = starts[0].max(starts[1]);
        let world = played(scenario, seed, last + Span::millis(4500));
        let roles = (world.role(0, 0), world.role(1, 0));
        assert_eq!(roles, (Role::Master, Role::Backup), "seed {seed}");
        assert!(world.serves(0, 0) && !world.serves(1, 0), "seed {seed}");
    }
}

#[test]
fn item_83_a_healed_partition_leaves_the_better_master_within_one_interval() {
    for seed in 0..100 {
        let heal = secs(20) + Rng::new(seed).span(Span::ZERO, secs(2));
        let mut scenario = pair_at_start().manners(Manners::Prompt);
        for way in Way::between(0, 0, 1) {
            scenario =
                scenario.at(secs(10), Fault::Weather(way, BLOCKED)).at(heal, Fault::Weather(way, FAIR));
        }
        let mut world = played(scenario, seed, heal);
        assert_eq!((world.role(0, 0), world.role(1, 0)), (Role::Master, Role::Master), "seed {seed}");
        world.run_until(Instant::ZERO + heal + Pace { base: 1, skew: 0 }.interval() + Span::millis(10));
        assert!(world.failure().is_none(), "seed {seed}: {:?}", world.failure());
        assert_eq!((world.role(0, 0), world.role(1, 0)), (Role::Master, Role::Backup), "seed {seed}");
        assert!(world.serves(0, 0) && !world.serves(1, 0), "seed {seed}");
    }
}

#[test]
fn item_84_three_nodes_have_one_master_two_dead_times_after_random_kills_and_restarts() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut scenario = Scenario::of(3).manners(Manners::Sloppy);
        let mut at = Span::ZERO;
        for node in 0..3 {
            scenario = scenario.at(Span::millis(rng.below(3000)), Fault::Start(node));
        }
        for _ in 0..10 {
            at = at + rng.span(Span::ZERO, secs(6));
            let node = rng.index(3);
            let fault = if rng.chance(500) { Fault::Crash { node, ring: true } } else { Fault::Start(node) };
            scenario = scenario.at(at, fault);
        }
        let dead = Pace { base: 1, skew: 200 }.dead();
        let world = played(scenario, seed, at + dead.times(2));
        let count = |is: &dyn Fn(usize) -> bool| (0..3).filter(|node| is(*node)).count();
        let alive = count(&|node| world.status(node).is_some());
        let masters = count(&|node| world.role(node, 0) == Role::Master);
        assert_eq!(masters, alive.min(1), "seed {seed}");
        assert_eq!(count(&|node| world.serves(node, 0)), masters, "seed {seed}");
    }
}

#[test]
fn a_planned_stop_hands_over_within_50_ms() {
    let world = played(pair_at_start().at(secs(10), Fault::Stop(0)), 1, Span::millis(10_050));
    assert_eq!(world.role(1, 0), Role::Master);
    assert!(world.serves(1, 0) && !world.serves(0, 0));
}

#[test]
fn a_frozen_master_falls_silent_before_the_backup_serves() {
    for node_freezes_at in 10_000..10_020 {
        let scenario = pair_at_start().at(Span::millis(node_freezes_at * 50), Fault::Pause(0, secs(9)));
        let mut world = played(scenario, node_freezes_at, Span::millis(node_freezes_at * 50) + secs(5));
        assert!(world.serves(1, 0) && !world.serves(0, 0));
        world.run_until(world.now() + secs(10));
        assert!(world.failure().is_none(), "{:?}", world.failure());
        assert!(world.serves(0, 0) && !world.serves(1, 0));
    }
}

/// Invariant 4 of the architecture: the datapath takes over by itself, whatever its daemon does.
#[test]
fn the_kernel_of_a_frozen_backup_takes_over_at_the_dead_time_and_closes_again() {
    for seed in 0..20 {
        let killed = Span::millis(10_000 + seed * 50);
        let scenario = pair_at_start()
            .at(secs(10), Fault::Pause(1, secs(20)))
            .at(killed, Fault::Crash { node: 0, ring: true });
        let mut world = played(scenario, seed, secs(10));
        world.run_until(Instant::ZERO + killed);
        let last = *adverts(&world, 0).last().expect("it advertised");
        let opens = last + Span::micros(100) + Pace { base: 1, skew: 100 }.dead();
        for (after, serves) in [(0, false), (2, true), (98, true), (102, false)] {
            world.run_until(opens - Span::millis(1) + Span::millis(after));
            assert_eq!(world.serves(1, 0), serves, "seed {seed}, {after} ms");
        }
        world.run_until(Instant::ZERO + secs(40));
        assert!(world.failure().is_none(), "seed {seed}: {:?}", world.failure());
        assert!(world.serves(1, 0), "seed {seed}: its daemon has woken");
    }
}

#[test]
fn a_daemon_that_starts_within_its_lease_goes_on_without_a_gap() {
    for after in (100..2_800).step_by(300) {
        let killed = secs(10);
        let scenario = pair_at_start()
            .at(killed, Fault::Crash { node: 0, ring: true })
            .at(killed + Span::millis(after), Fault::Start(0));
        let mut world = played(scenario, after, killed);
        let last = *adverts(&world, 0).last().expect("it advertised");
        let in_time =
            killed + Span::millis(after) < last.since(Instant::ZERO) + Pace { base: 1, skew: 0 }.lease();
        for step in 0..700 {
            world.run_until(Instant::ZERO + killed + Span::millis(step * 10));
            assert!(!in_time || world.serves(0, 0), "{after} ms: a gap at {step}");
        }
        assert!(world.failure().is_none(), "{after} ms: {:?}", world.failure());
    }
}

#[test]
fn a_node_that_cannot_send_serves_no_longer_than_its_lease() {
    let scenario = pair_at_start().at(Span::millis(10_500), Fault::SendErrors(0, 1000));
    let world = played(scenario, 1, secs(20));
    assert!(world.serves(1, 0) && !world.serves(0, 0));
}

fn pair_at_start() -> Scenario {
    Scenario::of(2).at(Span::ZERO, Fault::Start(0)).at(Span::ZERO, Fault::Start(1))
}

/// Seeds that broke a rule once.
fn are_clean(seeds: &[u64]) {
    for seed in seeds {
        let world = hunt::run(chance::scenario, *seed, None);
        assert!(world.failure().is_none(), "seed {seed}: {:?}", world.failure());
    }
}

/// Played until then, no rule broken.
fn played(scenario: Scenario, seed: u64, until: Span) -> World {
    let mut world = World::new(scenario, seed, None);
    world.run_until(Instant::ZERO + until);
    let story = || world.story().iter().map(|line| format!("{line}\n")).collect::<String>();
    assert!(world.failure().is_none(), "seed {seed}: {}\n{:?}", story(), world.failure());
    world
}

/// When a machine really advertised to the group.
fn adverts(world: &World, of: usize) -> impl Iterator<Item = &Instant> {
    let is_advert =
        move |what: &What| matches!(what, What::Advert { node, to: None, ok: true, .. } if *node == of);
    world.story().iter().filter(move |line| is_advert(&line.what)).map(|line| &line.at)
}

const fn secs(seconds: u64) -> Span {
    Span::secs(seconds)
}
