//! Probes: answered while this node has a lease and a pulse, and by its keys alone; answers are written down once, and
//! move what is armed.

use crate::adverts::{OWN4, OWN6, PEER4, PEER6, judging};
use crate::arming::arm;
use crate::frames::{CLIENT4, VHID, ethernet, fragment, ipv4, ipv6, with_byte};
use crate::harness::{Action, DROP, Hook, Kernel, LINK_MAC, PASS};
use crate::windows::{always, open, set_up, windows};
use carp_common::auth::{Key, ProbeKey};
use carp_common::id::Vhid;
use carp_common::map::{Counter, GroupProbes, MAX_PATHS, ProbeKeys, Probed, Window};
use carp_common::time::{Instant, Span};
use carp_common::wire::ip::CARP;
use carp_common::wire::probe::{ANSWER, ANSWER_GROUP, AT_V4, AT_V6, Ends, Probe, Subject, ends_v4, ends_v6};
use carp_user::io::clock;
use std::net::IpAddr;
use zerocopy::{FromBytes, IntoBytes};

const EPOCH: u32 = 77;
const SESSION: u64 = 0x0123_4567_89ab_cdef;
const PATH: u16 = 3;
const HOST: Subject = Subject::Host(Vhid::new(VHID).expect("not zero"));
/// Over the sync link.
const GROUP: u8 = 7;
const FAMILIES: [(IpAddr, IpAddr); 2] = [(PEER4, IpAddr::V4(OWN4)), (PEER6, IpAddr::V6(OWN6))];

fn key(password: &[u8]) -> ProbeKey {
    ProbeKey::new(&Key::from_password(password).unwrap(), Vhid::new(VHID).unwrap())
}

fn ends(source: IpAddr, destination: IpAddr) -> Ends {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ends_v4(source.octets(), destination.octets()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ends_v6(source.octets(), destination.octets()),
        (_, _) => panic!("two families"),
    }
}

/// With hop limit 255, to this link.
fn framed(source: IpAddr, destination: IpAddr, probe: &Probe) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = ipv4(CARP, destination, probe.as_bytes());
            packet[8] = 255;
            packet[12..16].copy_from_slice(&source.octets());
            ethernet(LINK_MAC, 0x0800, &packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet(LINK_MAC, 0x86dd, &ipv6(CARP, 255, source, destination, probe.as_bytes()))
        }
        (_, _) => panic!("two families"),
    }
}

fn question(families: (IpAddr, IpAddr), key: ProbeKey) -> Vec<u8> {
    about(HOST, families, key)
}

fn about(subject: Subject, (peer, own): (IpAddr, IpAddr), key: ProbeKey) -> Vec<u8> {
    let probe = Probe::ask((subject, PATH), SESSION, clock::now(), ends(peer, own), key);
    framed(peer, own, &probe)
}

/// To the probe that this node sent then.
fn answer(families: (IpAddr, IpAddr), sent_at: Instant, session: u64, path: u16, key: ProbeKey) -> Vec<u8> {
    let (peer, own) = families;
    let asked = Probe::ask((HOST, path), session, sent_at, ends(own, peer), key);
    framed(peer, own, &asked.answer(Span::millis(80), EPOCH, ends(peer, own), key))
}

fn keys(count: u32) -> ProbeKeys {
    ProbeKeys { keys: [key(b"new"), key(b"old")], count, epoch: EPOCH }
}

/// One virtual host, which serves.
fn serving(hook: Hook) -> Kernel {
    let mut kernel = Kernel::at(hook);
    set_up(&mut kernel, 0);
    kernel.set_probe_keys(0, keys(2));
    kernel.set_window(0, open());
    kernel
}

#[test]
fn a_master_with_a_lease_answers_with_what_is_left_of_it_by_the_key_that_it_was_asked_with() {
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc] {
        let mut kernel = serving(hook);
        for (families, at) in FAMILIES.into_iter().zip([AT_V4, AT_V6]) {
            for password in [&b"new"[..], b"old"] {
                let asked = question(families, key(password));
                let outcome = kernel.run(&asked);
                assert_eq!((outcome.action, outcome.counted), (Action::Back, vec![Counter::ProbeAnswered]));
                let frame = outcome.frame;
                assert_eq!((&frame[..6], &frame[6..12]), (&asked[6..12], &LINK_MAC[..]));
                let (peer, own) = families;
                let [sent, got] =
                    [&asked, &frame].map(|frame| Probe::read_from_prefix(&frame[at..]).unwrap().0);
                let turned = framed(own, peer, &got);
                assert_eq!(frame[14..at], turned[14..at], "addresses, TTL and checksum");
                assert!(got.is_signed(ends(own, peer), key(password)));
                let expected = Probe {
                    kind: ANSWER,
                    remaining: got.remaining,
                    epoch: EPOCH.into(),
                    tag: got.tag,
                    ..sent
                };
                assert_eq!(got, expected);
                let hour = Span::secs(3600).as_nanos();
                assert!((hour - Span::secs(99).as_nanos()..=hour).contains(&got.remaining.get()));
            }
        }
    }
}

#[test]
fn a_node_without_a_lease_or_without_a_pulse_is_silent() {
    let mut kernel = serving(Hook::Xdp);
    let asked = question(FAMILIES[0], key(b"new"));
    let silent = |kernel: &mut Kernel| {
        let outcome = kernel.run(&asked);
        (outcome.action, outcome.counted) == (DROP, vec![Counter::ProbeSilent])
    };
    // An armed backup that has taken over has no lease either: it is about to get one.
    for (name, standing) in windows().closed.into_iter().chain([windows().taken_over]) {
        kernel.set_window(0, standing);
        assert!(silent(&mut kernel), "{name}");
    }
    kernel.set_window(0, always(open().window.pulsed()));
    for (pulse, is_silent) in
        [(Instant::ZERO, true), (clock::now() - Span::millis(1), true), (clock::now() + Span::secs(9), false)]
    {
        kernel.set_pulse(pulse);
        assert_eq!(silent(&mut kernel), is_silent, "{pulse:?}");
    }
    let frame = kernel.run(&asked).frame;
    let got = Probe::read_from_prefix(&frame[AT_V4..]).unwrap().0;
    assert!(got.remaining.get() <= Span::secs(9).as_nanos(), "what the pulse leaves");
}

#[test]
fn a_lease_ends_with_the_pulse_for_everything_that_is_asked() {
    let mut kernel = serving(Hook::Xdp);
    let frame = crate::frames::arp_request(crate::frames::VIP4);
    kernel.set_window(0, always(open().window.pulsed()));
    for (pulse, action) in [(Instant::ZERO, DROP), (clock::now() + Span::secs(9), Action::Back)] {
        kernel.set_pulse(pulse);
        assert_eq!(kernel.run(&frame).action, action);
    }
}

#[test]
fn what_is_not_signed_or_was_routed_ends_here_and_what_nobody_has_keys_for_does_not() {
    let mut kernel = serving(Hook::Xdp);
    let (peer, own) = FAMILIES[0];
    let good = question(FAMILIES[0], key(b"new"));
    let bent = |at: usize| with_byte(good.clone(), AT_V4 + at, good[AT_V4 + at] ^ 1);
    let probe = Probe::read_from_prefix(&good[AT_V4..]).unwrap().0;
    let refused = [
        question(FAMILIES[0], key(b"wrong")),
        bent(3),
        bent(9),
        bent(17),
        bent(39),
        with_byte(good.clone(), AT_V4, ANSWER),
        with_byte(good.clone(), 14 + 8, 64),
        framed(IpAddr::V4(CLIENT4), own, &probe),
    ];
    for frame in refused {
        let outcome = kernel.run(&frame);
        assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::ProbeRefused]), "{frame:02x?}");
    }
    kernel.set_probe_keys(0, keys(1));
    assert_eq!(kernel.run(&question(FAMILIES[0], key(b"old"))).counted, [Counter::ProbeRefused]);
    // To adverts' stage these are of a version that is not known, or fragments: somebody else's.
    kernel.set_probe_keys(0, ProbeKeys::NONE);
    assert_eq!(kernel.run(&good).action, PASS);
    kernel.set_probe_keys(0, keys(2));
    for frame in [ethernet(LINK_MAC, 0x0800, &fragment(good[14..].to_vec())), good[..AT_V4 + 39].to_vec()] {
        let outcome = kernel.run(&frame);
        assert_eq!(outcome.action, PASS, "{frame:02x?}");
        assert!(!outcome.counted.contains(&Counter::ProbeAnswered));
    }
    let foreign = with_byte(framed(peer, own, &probe), AT_V4 + 1, VHID + 1);
    let outcome = kernel.run(&foreign);
    assert_eq!((outcome.action, outcome.counted), (PASS, vec![]));
}

#[test]
fn an_answer_of_this_session_is_written_down_once_and_counts_like_an_advert_for_what_is_armed() {
    for families in FAMILIES {
        let mut kernel = judging();
        kernel.set_probe_keys(0, keys(2));
        let sent_at = clock::now();
        let fresh = Probed { session: SESSION, ..Probed::default() };
        kernel.set_probed(PATH.into(), fresh);
        let before = arm(&mut kernel, families.0);
        let good = answer(families, sent_at, SESSION, PATH, key(b"old"));
        let outcome = kernel.run(&good);
        assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::ProbeHeard]));
        let known = kernel.probed(PATH.into());
        let now = clock::now();
        assert_eq!((known.session, known.sent_at, known.epoch), (SESSION, sent_at.nanos(), EPOCH.into()));
        let until = Instant::from_nanos(known.until);
        assert!(sent_at + Span::millis(80) <= until && until <= now + Span::millis(80));
        assert!(before < kernel.heard(0));
        let past_paths = u16::try_from(MAX_PATHS).unwrap();
        let old = sent_at - Span::millis(1);
        for (what, frame) in [
            ("the same once more", good),
            ("an older one", answer(families, old, SESSION, PATH, key(b"old"))),
            ("another session's", answer(families, now, SESSION + 1, PATH, key(b"old"))),
            ("no session's", answer(families, now, 0, PATH + 1, key(b"old"))),
            ("no path's", answer(families, now, SESSION, past_paths, key(b"old"))),
            ("forged", answer(families, now, SESSION, PATH, key(b"wrong"))),
        ] {
            arm(&mut kernel, families.0);
            let heard = kernel.heard(0);
            let outcome = kernel.run(&frame);
            assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::ProbeRefused]), "{what}");
            assert_eq!((kernel.probed(PATH.into()), kernel.heard(0)), (known, heard), "{what}");
        }
        kernel.set_window(0, always(Window::CLOSED));
    }
}

#[test]
fn a_group_is_asked_for_by_its_number_on_any_link_and_served_as_long_as_any_of_it_is() {
    for hook in [Hook::Xdp, Hook::OneBuffer, Hook::Tc] {
        let mut kernel = Kernel::at(hook);
        kernel.set_group_probes(GROUP.into(), GroupProbes::new(keys(2), &[0, 4, 9]));
        for (families, at) in FAMILIES.into_iter().zip([AT_V4, AT_V6]) {
            let asked = about(Subject::Group(GROUP), families, key(b"old"));
            for (served, remaining) in
                [(vec![], 0), (vec![(9, 50)], 50), (vec![(9, 50), (0, 60), (4, 40)], 60)]
            {
                for slot in [0, 4, 9] {
                    kernel.set_window(slot, always(Window::CLOSED));
                }
                let now = clock::now();
                for (slot, seconds) in &served {
                    kernel.set_window(*slot, always(Window::new(now, now + Span::secs(*seconds))));
                }
                let outcome = kernel.run(&asked);
                if served.is_empty() {
                    assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::ProbeSilent]));
                    continue;
                }
                assert_eq!((outcome.action, outcome.counted), (Action::Back, vec![Counter::ProbeAnswered]));
                let got = Probe::read_from_prefix(&outcome.frame[at..]).unwrap().0;
                let (peer, own) = families;
                assert!(got.kind == ANSWER_GROUP && got.is_signed(ends(own, peer), key(b"old")));
                let left = Span::secs(remaining).as_nanos();
                assert!((left - Span::secs(9).as_nanos()..=left).contains(&got.remaining.get()));
            }
            for (what, frame, expected) in [
                (
                    "forged",
                    about(Subject::Group(GROUP), families, key(b"wrong")),
                    vec![Counter::ProbeRefused],
                ),
                ("of a virtual host", question(families, key(b"new")), vec![]),
                ("of another group", about(Subject::Group(GROUP + 1), families, key(b"new")), vec![]),
                ("of none", about(Subject::Group(0), families, key(b"new")), vec![]),
                ("of one too many", about(Subject::Group(255), families, key(b"new")), vec![]),
            ] {
                assert_eq!(kernel.run(&frame).counted, expected, "{what}");
            }
        }
    }
}

#[test]
fn an_answer_about_a_group_moves_what_is_armed_for_its_master_whoever_signs_it() {
    let (peer, own) = FAMILIES[0];
    let mut kernel = judging();
    kernel.set_group_probes(GROUP.into(), GroupProbes::new(keys(1), &[0]));
    kernel.set_probed(PATH.into(), Probed { session: SESSION, ..Probed::default() });
    let before = arm(&mut kernel, IpAddr::V4(CLIENT4));
    let asked =
        Probe::ask((Subject::Group(GROUP), PATH), SESSION, clock::now(), ends(own, peer), key(b"new"));
    let answer = framed(peer, own, &asked.answer(Span::millis(80), EPOCH, ends(peer, own), key(b"new")));
    assert_eq!(kernel.run(&answer).counted, [Counter::ProbeHeard]);
    let after = kernel.heard(0);
    assert!(before < after && kernel.probed(PATH.into()).until != 0);
    assert_eq!(kernel.run(&answer).counted, [Counter::ProbeRefused], "the same once more");
    assert_eq!(kernel.heard(0), after);
}
