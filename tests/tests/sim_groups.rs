//! Gateways with a LAN and a WAN side that move as one, simulated: the classic failures of per-interface elections, each with
//! its outcome, and fixed seeds.

use carp_common::time::{Instant, Span};
use carp_tests::sim::chance;
use carp_tests::sim::fault::{Fault, Way, Weather};
use carp_tests::sim::hunt::{self, Until};
use carp_tests::sim::scenario::{Families, Scenario};
use carp_tests::sim::world::World;
use carp_user::proto::event::Role;

const BLOCKED: Weather = Weather { blocked: true, loss: 0, duplicate: 0, delay: Span::ZERO };
const LAN: usize = 0;
const WAN: usize = 1;

#[test]
fn two_hundred_fixed_seeds_break_no_rule() {
    let caught = hunt::hunt(chance::gateways, 0, 200, None, Until::Done, |_, _| ());
    let told: Vec<_> = caught.iter().map(|it| format!("--seed {}: {}", it.seed, it.failure)).collect();
    assert!(told.is_empty(), "replay with cargo xtask sim --groups:\n{}", told.join("\n"));
}

#[test]
fn seeds_that_found_something_stay_clean() {
    for seed in [301, 403, 635, 1055, 1767, 3504, 3982, 4005, 4798, 6786, 8019, 9080, 10_668] {
        let world = hunt::run(chance::gateways, seed, None);
        assert!(world.failure().is_none(), "seed {seed}: {:?}", world.failure());
    }
}

#[test]
fn a_master_that_one_path_loses_is_a_degraded_path_and_no_reason_to_take_over() {
    for segment in [LAN, WAN] {
        for ways in [vec![0], vec![1], vec![0, 1]] {
            let blocked = ways.iter().map(|way| Way::between(segment, 0, 1)[*way]);
            let scenario =
                blocked.fold(gateways(), |scenario, way| scenario.at(secs(10), Fault::Weather(way, BLOCKED)));
            let world = played(scenario, secs(60));
            assert_eq!(masters(&world), [0, 0], "{segment} {ways:?}");
            let hears_it = !ways.contains(&0);
            let hosts = world.status(1).expect("it runs").hosts;
            assert_eq!(hosts[segment].standing.silent_path, !hears_it, "{segment} {ways:?}");
        }
    }
}

#[test]
fn a_master_that_all_paths_lose_is_replaced_on_all() {
    let ways = [LAN, WAN].into_iter().flat_map(|segment| Way::between(segment, 0, 1));
    let scenario = ways.fold(gateways(), |scenario, way| scenario.at(secs(10), Fault::Weather(way, BLOCKED)));
    let world = played(scenario, secs(20));
    assert!((0..2).all(|host| world.serves(1, host)), "cut off on all paths, each has to serve");
}

#[test]
fn own_adverts_that_come_back_change_nothing() {
    let world = played(gateways().at(secs(10), Fault::Reflect(0, 1000)), secs(30));
    assert_eq!(masters(&world), [0, 0]);
}

#[test]
fn a_master_that_is_heard_in_one_family_is_not_silent() {
    let mut scenario = gateways();
    scenario.hosts.iter_mut().for_each(|host| host.families = Families::Both);
    // On the LAN IPv6 goes on; there is no path but that.
    let ways = Way::between(WAN, 0, 1);
    let scenario =
        ways.iter().fold(scenario, |scenario, way| scenario.at(secs(10), Fault::Weather(*way, BLOCKED)));
    let world = played(scenario, secs(40));
    assert_eq!(masters(&world), [0, 0]);
}

#[test]
fn a_lost_link_moves_all_whether_the_backup_preempts_or_not_and_comes_back_only_where_it_does() {
    for preempt in [true, false] {
        let down = Fault::Port { node: 0, segment: WAN, up: false, refuses: false };
        let up = Fault::Port { node: 0, segment: WAN, up: true, refuses: false };
        let scenario = gateways().preempt(preempt).at(secs(10), down).at(secs(20), up);
        let mut world = played(scenario, secs(14));
        assert_eq!(masters(&world), [1, 1], "preempt {preempt}");
        world.run_until(Instant::ZERO + secs(40));
        assert!(world.failure().is_none(), "{:?}", world.failure());
        assert_eq!(masters(&world), if preempt { [0, 0] } else { [1, 1] }, "preempt {preempt}");
    }
}

#[test]
fn lan_active_on_one_and_wan_on_the_other_ends_with_all_on_the_better_one() {
    for preempt in [true, false] {
        // Each starts while it reaches the other on no path, and loses one port: then the paths come back.
        let mut scenario = Scenario::gateways(secs(5)).preempt(preempt);
        for segment in [LAN, WAN] {
            for way in Way::between(segment, 0, 1) {
                scenario = scenario
                    .at(Span::ZERO, Fault::Weather(way, BLOCKED))
                    .at(secs(30), Fault::Weather(way, Weather { blocked: false, ..BLOCKED }));
            }
        }
        for (node, segment) in [(0, WAN), (1, LAN)] {
            for (at, up) in [(secs(1), false), (Span::millis(30_000), true)] {
                scenario = scenario.at(at, Fault::Port { node, segment, up, refuses: false });
            }
        }
        let mut world = played(scenario, secs(29));
        assert_eq!(masters(&world), [0, 1], "preempt {preempt}");
        world.run_until(Instant::ZERO + secs(45));
        assert!(world.failure().is_none(), "{:?}", world.failure());
        assert_eq!(masters(&world), [0, 0], "preempt {preempt}");
    }
}

/// Two that start at once.
fn gateways() -> Scenario {
    Scenario::gateways(Span::ZERO)
}

/// Which machine is the only master of each virtual host, and serves it.
fn masters(world: &World) -> [usize; 2] {
    [0, 1].map(|host| {
        let of = |is: &dyn Fn(usize) -> bool| (0..2).filter(|node| is(*node)).collect::<Vec<_>>();
        let masters = of(&|node| world.role(node, host) == Role::Master);
        assert_eq!(of(&|node| world.serves(node, host)), masters, "host {host}");
        assert_eq!(masters.len(), 1, "host {host}: {masters:?}");
        masters[0]
    })
}

fn played(scenario: Scenario, until: Span) -> World {
    let mut world = World::new(scenario, 1, None);
    world.run_until(Instant::ZERO + until);
    assert!(world.failure().is_none(), "{:?}", world.failure());
    world
}

fn secs(count: u64) -> Span {
    Span::secs(count)
}
