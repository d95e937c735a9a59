//! The election alone: FreeBSD's decisions and timers, case by case. Numbers are those of the
//! conformance list (`carp-protocol` section 9).

use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_user::proto::election::{Election, Families, Input, LATE, Output, Terms, Tie};
use carp_user::proto::event::{Family, Flavour, Reason, Role};

const V4: Families = Families { v4: true, v6: false };
const BOTH: Families = Families { v4: true, v6: true };
const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn pace(base: u8, skew: u8) -> Pace {
    Pace { base, skew }
}

fn election(configured: Pace, preempt: bool, families: Families) -> Election {
    Election::new(Terms { configured, preempt, grouped: false, flavour: Flavour::Freebsd, families })
}

fn backup(own: Pace, preempt: bool) -> Election {
    let mut election = election(own, preempt, V4);
    election.handle(Input::Up(Reason::Initialized), START);
    election
}

fn master(own: Pace) -> Election {
    let mut election = backup(own, false);
    let output = election.handle(Input::Tick, START + own.dead());
    assert_eq!(output.change, Some((Role::Master, Reason::MasterTimedOut)));
    election
}

fn advert(pace: Pace, at: Instant) -> Input {
    Input::Heard { family: Family::V4, at, pace, demote: 0, tie: Tie::Theirs, may_preempt: true }
}

fn role_after(mut election: Election, peer: Pace) -> Role {
    election.handle(advert(peer, START), START);
    election.role()
}

#[test]
fn item_57_advertisement_intervals() {
    let micros = |base, skew| pace(base, skew).interval().as_micros();
    assert_eq!(micros(1, 0), 1_000_000);
    assert_eq!(micros(1, 100), 1_390_625);
    assert_eq!(micros(1, 254), 1_992_187);
    assert_eq!(micros(20, 0), 20_000_000);
}

#[test]
fn item_60_a_lone_backup_advertises_after_three_seconds_and_not_before() {
    let mut election = backup(pace(1, 0), false);
    let heard = START + Span::millis(700);
    election.handle(advert(pace(1, 0), heard), heard);
    assert_eq!(election.deadline(), Some(heard + Span::secs(3)));
    let early = election.handle(Input::Tick, heard + Span::millis(2_999));
    assert_eq!(early, Output::default());
    let output = election.handle(Input::Tick, heard + Span::secs(3));
    assert!(output.advertise);
    assert_eq!(output.change, Some((Role::Master, Reason::MasterTimedOut)));
}

#[test]
fn item_61_a_worse_advert_also_rearms_the_master_down_timer() {
    let mut election = backup(pace(1, 0), false);
    let later = START + Span::secs(2);
    election.handle(advert(pace(1, 200), later), later);
    assert_eq!(election.role(), Role::Backup);
    assert_eq!(election.deadline(), Some(later + Span::secs(3)));
}

#[test]
fn item_62_the_families_have_timers_of_their_own_and_either_promotes() {
    let mut election = election(pace(1, 0), false, BOTH);
    election.handle(Input::Up(Reason::Initialized), START);
    for second in 1..3 {
        let at = START + Span::secs(second);
        let heard = Input::Heard {
            family: Family::V6,
            at,
            pace: pace(1, 0),
            demote: 0,
            tie: Tie::Ours,
            may_preempt: true,
        };
        election.handle(heard, at);
    }
    assert_eq!(election.deadline(), Some(START + Span::secs(3)), "IPv6 adverts do not re-arm IPv4");
    assert!(election.handle(Input::Tick, START + Span::secs(3)).advertise);
}

#[test]
fn item_63_a_stale_master_down_expiry_does_nothing_to_a_master() {
    let mut election = backup(pace(1, 0), true);
    let at = START + Span::secs(1);
    election.handle(advert(pace(1, 100), at), at);
    assert_eq!(election.role(), Role::Master);
    let output = election.handle(Input::Tick, at + Span::millis(500));
    assert_eq!(output, Output::default());
}

#[test]
fn item_64_demotion_does_not_slow_a_take_over() {
    let mut election = backup(pace(1, 100), false);
    election.handle(Input::Demotion(240), START);
    election.handle(advert(pace(1, 0), START), START);
    assert_eq!(election.deadline(), Some(START + pace(1, 100).dead()));
}

#[test]
fn item_65_only_the_monotonic_clock_exists_here() {
    // Time comes in as an argument and is CLOCK_MONOTONIC by type: `proto` has no other clock to
    // jump. `cargo xtask tidy` refuses one.
    let election = backup(pace(1, 0), false);
    assert_eq!(election.deadline(), Some(START + Span::secs(3)));
}

#[test]
fn item_67_it_starts_as_init_then_backup_and_is_master_after_the_dead_time_alone() {
    let mut election = election(pace(1, 0), true, V4);
    assert_eq!(election.role(), Role::Init);
    let output = election.handle(Input::Up(Reason::Initialized), START);
    assert_eq!(output.change, Some((Role::Backup, Reason::Initialized)));
    assert_eq!(election.deadline(), Some(START + Span::secs(3)));
    election.handle(Input::Tick, START + Span::secs(3));
    assert_eq!(election.role(), Role::Master);
}

#[test]
fn items_68_69_70_a_master_yields_to_a_better_or_equal_one_and_stays_before_a_worse() {
    assert_eq!(role_after(master(pace(1, 100)), pace(1, 99)), Role::Backup);
    assert_eq!(role_after(master(pace(1, 100)), pace(1, 100)), Role::Backup);
    assert_eq!(role_after(master(pace(1, 100)), pace(1, 101)), Role::Master);
}

#[test]
fn item_68_stepping_down_stops_the_advert_timer() {
    let mut election = master(pace(1, 100));
    election.handle(advert(pace(1, 0), START), START);
    assert_eq!(election.deadline(), Some(START + pace(1, 100).dead()));
}

#[test]
fn item_69_of_two_equal_masters_the_one_that_wins_the_tie_stays() {
    let mut election = master(pace(1, 100));
    let heard = Input::Heard {
        family: Family::V4,
        at: START,
        pace: pace(1, 100),
        demote: 0,
        tie: Tie::Ours,
        may_preempt: true,
    };
    assert!(election.handle(heard, START).contested);
    assert_eq!(election.role(), Role::Master);
}

#[test]
fn items_71_72_73_a_backup_preempts_a_worse_master_only_when_it_may() {
    assert_eq!(role_after(backup(pace(1, 0), false), pace(1, 100)), Role::Backup);
    assert_eq!(role_after(backup(pace(1, 0), true), pace(1, 100)), Role::Master);
    assert_eq!(role_after(backup(pace(1, 100), true), pace(1, 100)), Role::Backup);
    assert_eq!(role_after(backup(pace(1, 100), true), pace(1, 0)), Role::Backup);
}

#[test]
fn item_74_base_compares_before_skew() {
    assert_eq!(role_after(backup(pace(1, 254), true), pace(2, 0)), Role::Master);
    assert_eq!(role_after(master(pace(2, 0)), pace(1, 254)), Role::Backup);
}

#[test]
fn item_75_a_master_that_will_time_out_is_not_waited_for() {
    assert_eq!(role_after(backup(pace(1, 0), false), pace(3, 0)), Role::Backup);
    assert_eq!(role_after(backup(pace(1, 0), false), pace(3, 1)), Role::Master);
}

#[test]
fn item_76_a_bow_out_promotes_a_backup_at_once_and_leaves_a_master_alone() {
    assert_eq!(role_after(backup(pace(1, 100), false), Pace::BOW_OUT), Role::Master);
    assert_eq!(role_after(master(pace(1, 100)), Pace::BOW_OUT), Role::Master);
}

#[test]
fn item_80_adverts_in_init_cause_no_transition() {
    let mut election = election(pace(1, 0), true, V4);
    assert_eq!(election.handle(advert(pace(1, 100), START), START), Output::default());
    assert_eq!(election.role(), Role::Init);
}

#[test]
fn item_81_a_forced_role_is_not_for_init_and_is_undone_by_the_protocol() {
    let mut election = election(pace(1, 100), false, V4);
    election.handle(Input::Force { master: true }, START);
    assert_eq!(election.role(), Role::Init);
    election.handle(Input::Up(Reason::Initialized), START);
    election.handle(Input::Force { master: true }, START);
    assert_eq!(election.role(), Role::Master);
    election.handle(advert(pace(1, 0), START), START);
    assert_eq!(election.role(), Role::Backup);
    election.handle(Input::Force { master: true }, START);
    election.handle(Input::Force { master: false }, START);
    assert_eq!(election.role(), Role::Backup);
}

#[test]
fn the_first_interval_has_the_undemoted_skew_and_the_next_ones_the_demoted() {
    let mut election = backup(pace(1, 0), false);
    election.handle(Input::Demotion(240), START);
    let won = START + Span::secs(3);
    election.handle(Input::Tick, won);
    assert_eq!(election.deadline(), Some(won + Span::secs(1)));
    election.handle(Input::Tick, won + Span::secs(1));
    assert_eq!(election.deadline(), Some(won + Span::secs(1) + pace(1, 240).interval()));
}

#[test]
fn item_89_a_demoted_master_advertises_at_once_and_only_when_its_rank_changes() {
    let mut election = master(pace(1, 0));
    assert!(election.handle(Input::Demotion(240), START).advertise);
    assert!(!election.handle(Input::Demotion(480), START).advertise, "clamped to the same skew");
    assert!(election.handle(Input::Demotion(0), START).advertise);
}

#[test]
fn a_backup_that_wakes_up_long_after_its_deadline_listens_anew_before_it_claims() {
    let mut election = backup(pace(1, 0), true);
    let woke = START + Span::secs(3) + LATE + Span::millis(1);
    assert_eq!(election.handle(Input::Tick, woke), Output::default());
    assert_eq!(election.deadline(), Some(woke + Span::secs(3)));
}

#[test]
fn an_advert_that_waited_long_rearms_from_its_arrival_and_promotes_nobody() {
    let mut election = backup(pace(1, 0), true);
    let now = START + Span::secs(2);
    for old in [pace(1, 100), Pace::BOW_OUT] {
        election.handle(advert(old, START + Span::secs(1)), now);
        assert_eq!(election.role(), Role::Backup);
    }
    assert_eq!(election.deadline(), Some(START + Span::secs(4)));
}
