//! The two flavours of the election against the protocol document's vectors, which were derived from
//! the sources of FreeBSD and OpenBSD. Numbers are those of the conformance list (`carp-protocol`
//! section 9).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_user::proto::election::{Election, Families, Input, Terms, Tie};
use carp_user::proto::event::{Family, Flavour, Reason, Role};
use serde_json::Value;

const V4: Families = Families { v4: true, v6: false };
const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn vectors(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/carp-vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    vectors[kind]["cases"].as_array().unwrap().clone()
}

fn byte(case: &Value, key: &str) -> u8 {
    u8::try_from(case[key].as_u64().unwrap()).unwrap()
}

fn own(case: &Value) -> Pace {
    Pace { base: byte(case, "advbase"), skew: byte(case, "advskew") }
}

fn demotion(case: &Value) -> i32 {
    i32::try_from(case["demotion"].as_i64().unwrap()).unwrap()
}

fn backup(own: Pace, preempt: bool, flavour: Flavour) -> Election {
    let mut election =
        Election::new(Terms { configured: own, preempt, grouped: false, flavour, families: V4 });
    election.handle(Input::Up(Reason::Initialized), START);
    election
}

fn master(own: Pace, flavour: Flavour) -> Election {
    let mut election = backup(own, false, flavour);
    election.handle(Input::Force { master: true }, START);
    election
}

fn hear(election: &mut Election, pace: Pace, demote: u8) {
    let (family, at, tie) = (Family::V4, START, Tie::Theirs);
    election.handle(Input::Heard { family, at, pace, demote, tie, may_preempt: true }, START);
}

/// Plays a case, and holds role and timer against what the vector says.
fn play(case: &Value, flavour: Flavour, expected: &str) {
    let mut election = match case["state"].as_str().unwrap() {
        "MASTER" => master(own(case), flavour),
        _ => backup(own(case), case["preempt"].as_bool().unwrap(), flavour),
    };
    election.handle(Input::Demotion(demotion(case)), START);
    let peer = Pace { base: byte(case, "peer_advbase"), skew: byte(case, "peer_advskew") };
    hear(&mut election, peer, byte(case, "peer_demote_byte"));
    assert_eq!(election.role().name(), expected.split(' ').next().unwrap(), "{case}");
    if let Some((_, timer)) = expected.split_once("re-arm md timer ") {
        let micros = election.deadline().unwrap().since(START).as_micros();
        assert_eq!(micros.to_string(), timer.trim_end_matches(" us)"), "{case}");
    }
}

#[test]
fn item_79_all_decision_vectors_agree_in_both_flavours() {
    let mut checked = [0, 0];
    for case in vectors("decision_vectors") {
        // Base 0 cannot be configured, here as on FreeBSD.
        if byte(&case, "advbase") == 0 {
            continue;
        }
        for (flavour, checked) in Flavour::ALL.into_iter().zip(&mut checked) {
            let Some(expected) = case[flavour.name()].as_str() else { continue };
            play(&case, flavour, expected);
            *checked += 1;
        }
    }
    assert_eq!(checked, [CASES, CASES], "every case with a base that can be configured");
}

const CASES: usize = 53;

#[test]
fn item_59_all_timer_vectors_agree_in_both_flavours() {
    let mut checked = 0;
    for case in vectors("timer_vectors").iter().filter(|case| byte(case, "advbase") != 0) {
        let micros = |value: &Value| value.as_u64().unwrap();
        let freebsd = &case["freebsd"];
        let mut election = backup(own(case), false, Flavour::Freebsd);
        assert_eq!(election.dead().as_micros(), micros(&freebsd["master_down_us"]), "{case}");
        election.handle(Input::Demotion(demotion(case)), START);
        let wire = election.effective();
        assert_eq!(u64::from(wire.skew), micros(&freebsd["wire_advskew"]), "{case}");
        assert_eq!(wire.interval().as_micros(), micros(&freebsd["steady_interval_us"]), "{case}");
        election.handle(Input::Force { master: true }, START);
        let first = election.deadline().unwrap().since(START).as_micros();
        assert_eq!(first, micros(&freebsd["first_interval_after_promotion_us"]), "{case}");
        let openbsd = &case["openbsd_1_370"];
        let election = backup(own(case), false, Flavour::Openbsd);
        assert_eq!(election.dead().as_micros(), micros(&openbsd["master_down_us"]), "{case}");
        assert_eq!(election.effective().interval().as_micros(), micros(&openbsd["interval_us"]), "{case}");
        checked += 1;
    }
    assert_eq!(checked, TIMERS, "every case with a base that can be configured");
}

const TIMERS: usize = 11;

const BETTER: Pace = Pace { base: 1, skew: 0 };
const WORSE: Pace = Pace { base: 1, skew: 200 };

fn own_pace() -> Pace {
    Pace { base: 1, skew: 100 }
}

#[test]
fn item_77_openbsd_a_lower_demotion_of_the_peer_is_yielded_to_and_a_higher_one_preempted() {
    let mut election = master(own_pace(), Flavour::Openbsd);
    election.handle(Input::Demotion(2), START);
    hear(&mut election, WORSE, 1);
    assert_eq!(election.role(), Role::Backup, "whatever its skew");
    let mut election = backup(own_pace(), false, Flavour::Openbsd);
    election.handle(Input::Demotion(1), START);
    hear(&mut election, BETTER, 2);
    assert_eq!(election.role(), Role::Master, "without preempt, too");
    let mut election = master(own_pace(), Flavour::Openbsd);
    hear(&mut election, BETTER, 1);
    assert_eq!(election.role(), Role::Master, "a better skew does not make up for a demotion");
}

#[test]
fn item_78_openbsd_a_better_tuple_does_not_preempt_a_less_demoted_peer() {
    let mut election = backup(own_pace(), true, Flavour::Openbsd);
    election.handle(Input::Demotion(2), START);
    hear(&mut election, WORSE, 1);
    assert_eq!(election.role(), Role::Backup);
    hear(&mut election, WORSE, 2);
    assert_eq!(election.role(), Role::Master, "with equal demotions the tuple decides");
}

#[test]
fn freebsd_does_not_look_at_byte_4_and_openbsd_does_not_fold_demotion_into_the_skew() {
    let mut election = master(own_pace(), Flavour::Freebsd);
    hear(&mut election, WORSE, 0);
    election.handle(Input::Demotion(50), START);
    assert_eq!(election.effective(), Pace { base: 1, skew: 150 });
    hear(&mut election, WORSE, 0);
    assert_eq!(election.role(), Role::Master);
    let mut election = master(own_pace(), Flavour::Openbsd);
    assert!(election.handle(Input::Demotion(50), START).advertise, "at once, too");
    assert_eq!(election.effective(), own_pace());
}
