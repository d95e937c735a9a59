//! What the program makes of an armed backup's window: it moves with the master that the slot is armed
//! for, and with nothing else; who else is heard ends it.

use crate::adverts::{OWN4, PATIENCE, PEER4, PEER6, announced, forged, good, judging, signed, to_node};
use crate::harness::Kernel;
use carp_common::map::{Counter, Window};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Envelope;
use carp_user::io::bpf::Standing;
use carp_user::io::clock;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const OTHER_PEER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 4));
const OTHER_PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 4));
const DEAD: Span = Span::secs(3);

/// For this master, which was heard a second ago: then.
pub fn arm(kernel: &mut Kernel, master: IpAddr) -> Instant {
    let now = clock::now();
    arm_at(kernel, master, now - Span::secs(1))
}

fn arm_at(kernel: &mut Kernel, master: IpAddr, heard: Instant) -> Instant {
    let window = Window::armed(DEAD, clock::now() + Span::secs(3600), master);
    kernel.set_window(0, Standing { window, heard });
    heard
}

#[test]
fn the_armed_masters_advert_moves_the_window_to_the_moment_that_the_daemon_is_told() {
    let mut kernel = judging();
    for master in [PEER4, PEER6] {
        let before = arm(&mut kernel, master);
        for _ in 0..2 {
            assert_eq!(kernel.run(&good(master)).counted, [Counter::Advert]);
            let told = kernel.adverts();
            assert_eq!((told.len(), kernel.heard(0).nanos()), (1, told[0].at));
            assert!(before < kernel.heard(0));
        }
    }
}

#[test]
fn with_a_full_ring_it_moves_all_the_same() {
    let mut kernel = judging();
    while kernel.run(&good(PEER4)).counted != [Counter::RingFull] {}
    let before = arm(&mut kernel, PEER4);
    assert_eq!(kernel.run(&good(PEER4)).counted, [Counter::RingFull]);
    assert!(before < kernel.heard(0));
}

#[test]
fn words_and_farewells_and_forgeries_of_the_master_or_another_move_and_end_nothing() {
    let mut kernel = judging();
    let before = arm(&mut kernel, PEER4);
    for source in [PEER4, OTHER_PEER4] {
        let farewell = Envelope::to_group(source, 0).seal(&signed(b"secret", Pace::BOW_OUT, 3));
        let mut frames = vec![farewell.bytes().to_vec(), forged(source)];
        for pace in [Pace::BOW_OUT, Pace::GREETING, Pace::CONFIRMATION, Pace::ANSWER, Pace::PROMISE] {
            frames.push(to_node(source, OWN4.into(), pace));
        }
        for frame in frames {
            kernel.run(&frame);
            assert_eq!(kernel.heard(0), before, "{frame:02x?}");
        }
    }
}

#[test]
fn another_masters_advert_or_an_announced_claim_ends_it_until_the_daemon_arms_anew() {
    let mut kernel = judging();
    for (master, other) in [(PEER4, OTHER_PEER4), (PEER6, OTHER_PEER6)] {
        for frame in [good(other), announced(other)] {
            arm(&mut kernel, master);
            kernel.run(&frame);
            assert_eq!(kernel.heard(0), Instant::ZERO);
            kernel.run(&good(master));
            assert_eq!(kernel.heard(0), Instant::ZERO, "it is over");
            let before = arm(&mut kernel, master);
            kernel.run(&good(master));
            assert!(before < kernel.heard(0), "armed anew");
        }
        kernel.adverts();
    }
}

#[test]
fn a_master_that_returns_after_the_longest_lease_ends_it_too() {
    let mut kernel = judging();
    let now = clock::now();
    arm_at(&mut kernel, PEER4, now - PATIENCE);
    kernel.run(&good(PEER4));
    assert_eq!(kernel.heard(0), Instant::ZERO);
}

#[test]
fn of_a_slot_that_is_not_armed_and_by_the_other_family_nothing_changes() {
    let mut kernel = judging();
    let now = clock::now();
    let heard = now - Span::secs(1);
    let lease = Window::new(Instant::ZERO, now + Span::secs(3600));
    for window in [Window::CLOSED, lease] {
        kernel.set_window(0, Standing { window, heard });
        for source in [PEER4, PEER6] {
            kernel.run(&good(source));
            assert_eq!(kernel.heard(0), heard, "{window:?}");
        }
    }
    for (master, other) in [(PEER4, [PEER6, OTHER_PEER6]), (PEER6, [PEER4, OTHER_PEER4])] {
        let before = arm(&mut kernel, master);
        for frame in other.into_iter().flat_map(|other| [good(other), announced(other)]) {
            kernel.run(&frame);
            assert_eq!(kernel.heard(0), before);
        }
    }
}

#[test]
fn a_group_counts_one_silence_which_its_master_breaks_in_any_family() {
    let mut kernel = judging();
    let second_ago = clock::now() - Span::secs(1);
    kernel.set_window(1, Standing { window: Window::CLOSED, heard: second_ago });
    let window = Window::armed(DEAD, clock::now() + Span::secs(3600), PEER4).of_group(1);
    let own = clock::now() - Span::secs(60);
    kernel.set_window(0, Standing { window, heard: own });
    let mut last = second_ago;
    for source in [PEER4, PEER6, OTHER_PEER6] {
        assert_eq!(kernel.run(&good(source)).counted, [Counter::Advert]);
        assert!(last < kernel.heard(1), "{source}");
        last = kernel.heard(1);
    }
    kernel.run(&good(OTHER_PEER4));
    assert_eq!(
        (kernel.heard(1), kernel.heard(0)),
        (Instant::ZERO, own),
        "another master ends it for the group"
    );
}
