//! One configuration on two nodes: every single fault, and many by chance. After each, both are on one configuration.

use carp_common::time::Span;
use carp_tests::following::play::{self, DEEDS_ALONE, Deed};
use carp_tests::following::world::{Fate, Faults, Who, World};
use carp_user::proto::config_sync::coordinator::{News, Wish};
use std::collections::BTreeMap;

/// So many runs by chance; `CARP_SEEDS` and `CARP_SEED` say how many others, from which on.
const SEEDS: u64 = 3000;

#[test]
fn without_a_fault_each_deed_ends_as_it_should() {
    for require_peer in [false, true] {
        for deed in DEEDS_ALONE {
            let world = play::one(deed, require_peer, Faults::default())
                .unwrap_or_else(|breach| panic!("{deed:?}: {breach}"));
            let told = world.told.get(&2);
            let is_right = match deed {
                Deed::Apply | Deed::Confirm => matches!(told, Some(News::Both(_))),
                Deed::Away if !require_peer => matches!(told, Some(News::Owed(_))),
                Deed::Inadmissible
                | Deed::UnusableThere
                | Deed::UnusableHere
                | Deed::LetLapse
                | Deed::Away => matches!(told, Some(News::Neither(_))),
            };
            assert!(is_right, "{deed:?}, require_peer = {require_peer}: {told:?}");
        }
    }
}

#[test]
fn who_applies_waits_six_seconds_at_most_for_a_node_that_has_just_been_cut_off() {
    for require_peer in [false, true] {
        let mut world = World::new(require_peer, 0);
        world.pass(Span::secs(1)).expect("no breach");
        world.up = false;
        world.want(2, Wish::Apply);
        world.pass(Span::secs(6)).expect("no breach");
        let told = world.told.get(&2);
        let is_right = match told {
            Some(News::Owed(_)) => !require_peer,
            Some(News::Neither(_)) => require_peer,
            Some(News::Both(_) | News::Unsure | News::Would(_)) | None => false,
        };
        assert!(is_right, "require_peer = {require_peer}: {told:?}");
    }
}

#[test]
fn every_message_may_be_lost_come_twice_or_late() {
    let fates = [
        Fate::Lost,
        Fate::Twice(Span::millis(100)),
        Fate::Twice(Span::secs(40)),
        Fate::Late(Span::secs(3)),
        Fate::Late(Span::secs(8)),
        Fate::Late(Span::secs(40)),
    ];
    for require_peer in [false, true] {
        for deed in DEEDS_ALONE {
            for message in 1..=24 {
                for fate in fates {
                    let fates = BTreeMap::from([(message, fate)]);
                    let faults = Faults { fates, ..Faults::default() };
                    if let Err(breach) = play::one(deed, require_peer, faults) {
                        panic!(
                            "{deed:?}, require_peer = {require_peer}, message {message} {fate:?}: {breach}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn either_node_may_be_killed_after_every_step() {
    for require_peer in [false, true] {
        for deed in DEEDS_ALONE {
            for step in 1..=60 {
                for who in [Who::Editor, Who::Follower] {
                    let kills = BTreeMap::from([(step, who)]);
                    let faults = Faults { kills, ..Faults::default() };
                    if let Err(breach) = play::one(deed, require_peer, faults) {
                        panic!(
                            "{deed:?}, require_peer = {require_peer}, {who:?} killed after {step}: {breach}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_kill_and_a_lost_message_at_any_two_moments() {
    for deed in [Deed::Apply, Deed::Confirm, Deed::UnusableHere] {
        for step in 1..=24 {
            for message in 1..=12 {
                for who in [Who::Editor, Who::Follower] {
                    let (kills, fates) =
                        (BTreeMap::from([(step, who)]), BTreeMap::from([(message, Fate::Lost)]));
                    if let Err(breach) = play::one(deed, false, Faults { kills, fates, rough: 0 }) {
                        panic!("{deed:?}, {who:?} killed after {step}, message {message} lost: {breach}");
                    }
                }
            }
        }
    }
}

#[test]
fn after_whatever_happened_both_are_on_one_configuration() {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (from, count): (u64, u64) = (given("CARP_SEED").unwrap_or(0), given("CARP_SEEDS").unwrap_or(SEEDS));
    let failed: Vec<String> = (from..from + count)
        .filter_map(|seed| {
            Some(format!("CARP_SEED={seed} CARP_SEEDS=1: {}", play::by_chance(seed, false).err()?))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed[..failed.len().min(5)].join("\n"));
}

#[test]
fn a_follower_whose_disk_forgets_is_noticed() {
    let broken = (0..500).filter(|seed| play::by_chance(*seed, true).is_err()).count();
    assert!(broken > 0, "the oracle sees nothing");
}
