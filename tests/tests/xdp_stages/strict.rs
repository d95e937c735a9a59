//! Strict authentication: what is authentic, new, and from a sender that has proved that it lives counts;
//! nothing else moves an armed window.

use crate::adverts::{OWN4, OWN6, PATIENCE, PEER4, PEER6, auth, good, judging};
use crate::arming::arm;
use crate::frames::*;
use crate::harness::{DROP, Kernel, LINK, PASS};
use carp_common::admission::{Auth, Mode};
use carp_common::auth::{Key, StrictKey};
use carp_common::id::{Mac, Vhid};
use carp_common::map::{Counter, HostKey, SenderKey};
use carp_common::pace::Pace;
use carp_common::sender::{Challenge, Sender, WINDOW};
use carp_common::time::{Instant, Span};
use carp_common::wire::carp::{Carp, STRICT_AUTH_LEN, VERSION_TYPE};
use carp_common::wire::ip::mapped;
use carp_common::wire::{Envelope, Refusal, Said, sum};
use carp_user::io::clock;
use std::net::IpAddr;
use zerocopy::IntoBytes;

const MASTER: Pace = Pace { base: 1, skew: 100 };
const CARP: usize = 34;
/// A counter of the fifth start of a sender.
const FIRST: u64 = 5 << 32;

fn key(password: &[u8]) -> StrictKey {
    StrictKey::new(&Key::from_password(password).unwrap(), &VIPS)
}

fn sealed(password: &[u8], envelope: &Envelope, pace: Pace, counter: u64, echo: u64) -> Vec<u8> {
    let mut header = Carp {
        version_type: VERSION_TYPE,
        vhid: VHID,
        skew: pace.skew,
        auth_len: STRICT_AUTH_LEN,
        demote: 0,
        base: pace.base,
        checksum: 0.into(),
        counter: counter.into(),
        digest: [0; 20],
    };
    let [source, destination] = envelope.ends();
    let (counter, echo_bytes) = (counter.to_be_bytes(), echo.to_be_bytes());
    header.digest =
        key(password).mac(&Said { head: header.head(), counter, source, destination, echo: echo_bytes });
    header.sum_up();
    let behind: &[u8] = if echo == 0 { &[] } else { &echo_bytes };
    envelope.wrap(&[header.as_bytes(), behind], Mac([2, 0, 0, 0, 0, 3])).bytes().to_vec()
}

/// A master's, to the group.
pub fn advert(source: IpAddr, counter: u64) -> Vec<u8> {
    sealed(b"secret", &Envelope::to_group(source, 0xe0), MASTER, counter, 0)
}

/// To this node.
pub fn word(source: IpAddr, pace: Pace, counter: u64, echo: u64) -> Vec<u8> {
    let own = if source.is_ipv4() { OWN4.into() } else { OWN6.into() };
    sealed(b"secret", &Envelope::to_node(source, own, 0xe0).unwrap(), pace, counter, echo)
}

/// By our password or the next one.
pub fn strict_auth() -> Auth {
    auth().with_mode(Mode::Strict, [key(b"secret"), key(b"next")])
}

fn strict() -> Kernel {
    let mut kernel = judging();
    kernel.set_auth(0, &strict_auth());
    kernel
}

/// It has proved a moment ago that it lives, by this counter.
fn acquainted(kernel: &mut Kernel, source: IpAddr, counter: u64, ago: Span) {
    let key = SenderKey { host: HostKey::new(LINK, Vhid::new(VHID).unwrap()), source: mapped(source) };
    let fresh_at = (clock::now() - ago).nanos();
    kernel.set_sender(key, Sender { counter, window: 1, fresh_at });
}

fn refused(kernel: &mut Kernel, frame: &[u8], refusal: Refusal) {
    let before = kernel.senders();
    let outcome = kernel.run(frame);
    assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::Refused(refusal)]), "{frame:02x?}");
    assert_eq!(kernel.senders(), before, "it teaches nothing");
    assert!(kernel.adverts().is_empty());
}

#[test]
fn a_known_senders_next_advert_moves_the_window_and_no_advert_does_it_twice() {
    for peer in [PEER4, PEER6] {
        let mut kernel = strict();
        acquainted(&mut kernel, peer, FIRST, Span::secs(1));
        let before = arm(&mut kernel, peer);
        let frame = advert(peer, FIRST + 1);
        assert_eq!(kernel.run(&frame).counted, [Counter::Advert]);
        let moved = kernel.heard(0);
        assert!(before < moved);
        kernel.adverts();
        for old in [FIRST + 1, FIRST, FIRST - 1, 1, 0] {
            refused(&mut kernel, &advert(peer, old), Refusal::Replay);
        }
        assert_eq!(kernel.heard(0), moved);
    }
}

#[test]
fn any_bit_of_what_is_signed_that_is_flipped_is_refused() {
    let mut kernel = strict();
    acquainted(&mut kernel, PEER4, FIRST, Span::secs(1));
    let before = arm(&mut kernel, PEER4);
    let whole = word(PEER4, MASTER, FIRST + 1, 77);
    // Header but for its checksum, echo; source and destination.
    let places = (CARP..CARP + 6).chain(CARP + 8..CARP + 44).chain(26..34);
    for (at, bit) in places.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut frame = whole.clone();
        frame[at] ^= 1 << bit;
        for (part, checksum) in [(14..CARP, 10), (CARP..CARP + 36, 6)] {
            let part = &mut frame[part];
            part[checksum..checksum + 2].fill(0);
            let right = sum::checksum(part).to_be_bytes();
            part[checksum..checksum + 2].copy_from_slice(&right);
        }
        kernel.run(&frame);
        assert_eq!(kernel.heard(0), before, "byte {at} bit {bit}");
        assert!(kernel.senders().values().all(|sender| sender.counter == FIRST), "byte {at} bit {bit}");
        let told = kernel.adverts();
        // VRRP's version, or another's vhid: nobody's matter, and passed on.
        assert!(told.is_empty(), "byte {at} bit {bit}");
    }
    assert_eq!(kernel.run(&whole).counted, [Counter::Advert], "the whole one is good");
}

#[test]
fn what_is_signed_as_carp_does_it_is_in_the_wrong_mode_and_another_password_is_wrong() {
    let mut kernel = strict();
    acquainted(&mut kernel, PEER4, FIRST, Span::secs(1));
    refused(&mut kernel, &good(PEER4), Refusal::BadMode);
    let wrong = sealed(b"wrong", &Envelope::to_group(PEER4, 0), MASTER, FIRST + 1, 0);
    refused(&mut kernel, &wrong, Refusal::BadAuth);
    let next = sealed(b"next", &Envelope::to_group(PEER4, 0), MASTER, FIRST + 1, 0);
    assert_eq!(kernel.run(&next).counted, [Counter::Advert], "the other password is good too");
    let mut carp = judging();
    refused(&mut carp, &advert(PEER4, FIRST), Refusal::BadMode);
}

#[test]
fn forged_adverts_of_a_thousand_senders_make_no_entry() {
    let mut kernel = strict();
    for last in 0..1000_u16 {
        let [high, low] = last.to_be_bytes();
        let source = IpAddr::from([10, 9, 100 + high, low]);
        kernel.act(&sealed(b"wrong", &Envelope::to_group(source, 0), MASTER, FIRST, 0));
    }
    assert!(kernel.senders().is_empty());
}

#[test]
fn item_116_who_was_never_heard_or_is_back_from_silence_counts_only_after_an_answer() {
    for silence in [None, Some(PATIENCE)] {
        let mut kernel = strict();
        if let Some(silence) = silence {
            acquainted(&mut kernel, PEER4, FIRST, silence);
        }
        kernel.set_challenge(0, Challenge(900));
        arm(&mut kernel, PEER4);
        let outcome = kernel.run(&advert(PEER4, FIRST + 1));
        assert_eq!((outcome.action, outcome.counted), (PASS, vec![Counter::Refused(Refusal::Unproven)]));
        assert_eq!(kernel.adverts().len(), 1, "the daemon asks");
        assert_eq!(kernel.heard(0), Instant::ZERO, "what was armed is over");
        // Answers to older greetings, and to none.
        for (counter, echo) in [(2, 899), (3, 0)] {
            let outcome = kernel.run(&word(PEER4, Pace::ANSWER, FIRST + counter, echo));
            assert_eq!(outcome.counted, [Counter::Refused(Refusal::Unproven)], "{echo}");
        }
        assert_eq!(kernel.run(&word(PEER4, Pace::ANSWER, FIRST + 4, 900)).counted, [Counter::Advert]);
        let before = arm(&mut kernel, PEER4);
        assert_eq!(kernel.run(&advert(PEER4, FIRST + 5)).counted, [Counter::Advert]);
        assert!(before < kernel.heard(0));
    }
}

#[test]
fn a_word_may_come_late_once_and_within_the_window_and_an_advert_may_not() {
    let mut kernel = strict();
    acquainted(&mut kernel, PEER4, FIRST + 100, Span::secs(1));
    let before = arm(&mut kernel, PEER4);
    let late = word(PEER4, Pace::ANSWER, FIRST + 101 - WINDOW, 0);
    assert_eq!(kernel.run(&late).counted, [Counter::Advert]);
    kernel.adverts();
    refused(&mut kernel, &late, Refusal::Replay);
    refused(&mut kernel, &word(PEER4, Pace::ANSWER, FIRST + 100 - WINDOW, 0), Refusal::Replay);
    refused(&mut kernel, &word(PEER4, MASTER, FIRST + 99, 0), Refusal::Replay);
    refused(&mut kernel, &advert(PEER4, FIRST + 99), Refusal::Replay);
    assert_eq!(kernel.heard(0), before);
}
