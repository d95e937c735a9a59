//! Adverts with something to judge them by: what is handed over, what is dropped and for what reason,
//! and what the daemon gets to see.

use crate::arming::arm;
use crate::frames::*;
use crate::harness::{DROP, Kernel, Outcome, PASS};
use crate::windows::set_up;
use carp_common::admission::Auth;
use carp_common::auth::{Key, Midstate, Variant};
use carp_common::id::Vhid;
use carp_common::map::{CAPTURE_LEN, Counter, SAMPLE_EVERY};
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Advert, Envelope, Refusal, sum};
use carp_user::io::clock;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// This node's own addresses.
pub const OWN4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const OWN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
pub const PEER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
pub const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3));
const MASTER: Pace = Pace { base: 1, skew: 100 };
/// As long as a lease of base 1 can last.
pub const PATIENCE: Span = Span::secs(3);
const IP: usize = 14;
const CARP: usize = 34;

pub fn midstate(password: &[u8], variant: Variant) -> Midstate {
    let key = Key::from_password(password).unwrap();
    Midstate::new(&key, variant, None, Vhid::new(VHID).unwrap(), &VIPS)
}

/// By our password, in the variants in use.
pub fn auth() -> Auth {
    let accept = [Variant::Freebsd, Variant::OpenbsdNov6ll].map(|variant| midstate(b"secret", variant));
    Auth::new(&VIPS, PATIENCE, accept).at(Some(OWN4), Some(OWN6))
}

pub fn signed(password: &[u8], pace: Pace, counter: u64) -> Advert {
    let digest = midstate(password, Variant::Freebsd).digest(counter.to_be_bytes());
    Advert { vhid: Vhid::new(VHID).unwrap(), pace, demote: 0, counter, digest }
}

/// A master's, to the group.
pub fn good(source: IpAddr) -> Vec<u8> {
    Envelope::to_group(source, 0xe0).seal(&signed(b"secret", MASTER, 1)).bytes().to_vec()
}

/// A claim that will be made, to nodes of ours.
pub fn announced(source: IpAddr) -> Vec<u8> {
    Envelope::to_ours(source, 0xe0).seal(&signed(b"secret", MASTER, 4)).bytes().to_vec()
}

pub fn to_node(source: IpAddr, destination: IpAddr, pace: Pace) -> Vec<u8> {
    Envelope::to_node(source, destination, 0xe0).unwrap().seal(&signed(b"secret", pace, 2)).bytes().to_vec()
}

/// Another's, by another password.
pub fn forged(source: IpAddr) -> Vec<u8> {
    Envelope::to_group(source, 0).seal(&signed(b"wrong", MASTER, 1)).bytes().to_vec()
}

/// Changed, with both checksums right again.
pub fn changed(frame: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = frame.to_vec();
    change(&mut frame);
    mend(&mut frame[IP..CARP], 10);
    mend(&mut frame[CARP..CARP + 36], 6);
    frame
}

fn mend(part: &mut [u8], at: usize) {
    part[at..at + 2].fill(0);
    let checksum = sum::checksum(part).to_be_bytes();
    part[at..at + 2].copy_from_slice(&checksum);
}

fn spoilt(at: usize, value: u8) -> Vec<u8> {
    let mut frame = good(PEER4);
    frame[at] = value;
    frame
}

/// Frame, refusal, and whether it passes nevertheless.
fn refused() -> Vec<(&'static str, Vec<u8>, Refusal, bool)> {
    let whole = good(PEER4);
    let vrrp2 = |addresses: u8| {
        let mut packet = vec![0x21, VHID, 100, addresses, 0, 1, 0, 0];
        packet.resize(16 + 4 * usize::from(addresses), 10);
        mend(&mut packet, 6);
        let mut frame =
            ethernet([1, 0, 0x5e, 0, 0, 0x12], IPV4, &ipv4(112, Ipv4Addr::new(224, 0, 0, 18), &packet));
        mend(&mut frame[IP..CARP], 10);
        frame
    };
    let cut = |len: usize| changed(&whole, |frame| frame[IP + 3] = u8::try_from(len - IP).unwrap());
    vec![
        ("another password", forged(PEER4), Refusal::BadAuth, false),
        ("another skew and no new checksum", spoilt(CARP + 2, 0), Refusal::BadSum, false),
        ("a flipped digest bit", changed(&whole, |frame| frame[CARP + 35] ^= 1), Refusal::BadAuth, false),
        ("another counter", changed(&whole, |frame| frame[CARP + 15] ^= 1), Refusal::BadAuth, false),
        ("a routed one", changed(&whole, |frame| frame[IP + 8] = 254), Refusal::BadTtl, false),
        ("a wrong IP checksum", spoilt(IP + 1, 0), Refusal::BadIpSum, false),
        ("one that says it is short", cut(69), Refusal::BadLen, false),
        ("one that is cut", whole[..69].to_vec(), Refusal::BadLen, false),
        ("version 4", changed(&whole, |frame| frame[CARP] = 0x41), Refusal::BadVersion, true),
        ("a first fragment", changed(&whole, |frame| frame[IP + 6] = 0x20), Refusal::Fragment, true),
        ("a later fragment", changed(&whole, |frame| frame[IP + 7] = 3), Refusal::Fragment, true),
        ("our own", good(OWN4.into()), Refusal::Loop, false),
        ("our own over IPv6", good(OWN6.into()), Refusal::Loop, false),
        ("a word to another node", to_node(PEER4, OTHER4.into(), Pace::BOW_OUT), Refusal::NotForUs, false),
        ("VRRPv2 with two addresses", vrrp2(2), Refusal::Vrrp, true),
        ("VRRPv2 as long as CARP", vrrp2(5), Refusal::BadAuth, true),
        ("VRRPv2 that is longer", vrrp2(9), Refusal::BadSum, true),
        ("VRRPv3", spoilt(CARP, 0x31), Refusal::Vrrp, true),
    ]
}

/// One virtual host, and what its adverts are judged by.
pub fn judging() -> Kernel {
    let mut kernel = Kernel::new();
    set_up(&mut kernel, 0);
    kernel.set_auth(0, &auth());
    kernel
}

#[test]
fn what_is_authentic_passes_and_is_handed_over() {
    let mut kernel = judging();
    let own: [IpAddr; 2] = [OWN4.into(), OWN6.into()];
    let farewell = Envelope::to_group(PEER4, 0).seal(&signed(b"secret", Pace::BOW_OUT, 3));
    let mut frames = vec![good(PEER4), good(PEER6), announced(PEER4), announced(PEER6)];
    frames.push(farewell.bytes().to_vec());
    for pace in [Pace::BOW_OUT, Pace::GREETING, Pace::CONFIRMATION, Pace::ANSWER, Pace::PROMISE] {
        frames.extend([to_node(PEER4, own[0], pace), to_node(PEER6, own[1], pace)]);
    }
    for frame in frames {
        let from = clock::now();
        let outcome = kernel.run(&frame);
        let to = clock::now();
        assert_eq!(outcome, Outcome { action: PASS, frame: frame.clone(), counted: vec![Counter::Advert] });
        let heard = kernel.adverts();
        assert_eq!((heard.len(), kernel.samples().len()), (1, 0));
        assert_eq!(heard[0].frame[..frame.len()], frame);
        assert!((from.nanos()..=to.nanos()).contains(&heard[0].at));
    }
}

#[test]
fn what_is_refused_is_counted_by_reason_shown_once_and_moves_nothing() {
    for (name, frame, refusal, passes) in refused() {
        let mut kernel = judging();
        let before = arm(&mut kernel, PEER4);
        let outcome = kernel.run(&frame);
        let action = if passes { PASS } else { DROP };
        let counted = vec![Counter::Refused(refusal)];
        assert_eq!(outcome, Outcome { action, frame: frame.clone(), counted }, "{name}");
        assert_eq!((kernel.adverts().len(), kernel.heard(0)), (0, before), "{name}");
        let samples = kernel.samples();
        assert_eq!(samples.len(), 1, "{name}");
        assert_eq!(samples[0].refusal, u32::try_from(refusal.index()).unwrap(), "{name}");
        let copied = frame.len().min(CAPTURE_LEN);
        assert_eq!(samples[0].captured.frame[..copied], frame[..copied], "{name}");
    }
}

#[test]
fn item_30_and_54_of_a_flood_one_forged_advert_a_second_is_shown_and_none_takes_the_place_of_a_good_one() {
    let mut kernel = judging();
    let (forged, looped) = (forged(PEER4), good(OWN4.into()));
    let begun = clock::now();
    for _ in 0..10_000 {
        kernel.act(&forged);
    }
    kernel.act(&looped);
    let seconds = usize::try_from(clock::now().since(begun).as_nanos() / SAMPLE_EVERY.as_nanos()).unwrap();
    let samples = kernel.samples();
    // One more for each second that this took, one for the other reason.
    assert!((2..=2 + seconds).contains(&samples.len()), "{} in {seconds} s", samples.len());
    let counted = Counter::ALL
        .iter()
        .zip(kernel.counters())
        .find(|(counter, _)| **counter == Counter::Refused(Refusal::BadAuth));
    assert_eq!(counted.map(|(_, count)| count), Some(10_000));
    assert_eq!(kernel.run(&good(PEER4)).counted, [Counter::Advert]);
    assert_eq!(kernel.adverts().len(), 1);
}

#[test]
fn an_ipv6_advert_for_a_host_without_ipv6_is_badvhid() {
    let mut kernel = judging();
    let v4 = [VIPS[0]];
    let key = Key::from_password(b"secret").unwrap();
    let only = Midstate::new(&key, Variant::Freebsd, None, Vhid::new(VHID).unwrap(), &v4);
    kernel.set_auth(0, &Auth::new(&v4, PATIENCE, [only]).at(Some(OWN4), Some(OWN6)));
    let outcome = kernel.run(&good(PEER6));
    assert_eq!((outcome.action, outcome.counted), (DROP, vec![Counter::Refused(Refusal::BadVhid)]));
}

#[test]
fn without_an_address_of_its_own_a_node_takes_nobody_for_itself() {
    let mut kernel = judging();
    kernel.set_auth(0, &auth().at(None, None));
    for source in [Ipv4Addr::UNSPECIFIED.into(), PEER4, OWN4.into(), Ipv6Addr::UNSPECIFIED.into()] {
        assert_eq!(kernel.run(&good(source)).counted, [Counter::Advert], "{source}");
    }
}

#[test]
fn each_of_four_digests_is_accepted_and_no_fifth() {
    let mut kernel = judging();
    let passwords: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];
    let all = passwords.map(|password| midstate(password, Variant::Freebsd));
    // Each twice: only distinct ones count.
    let twice = all.iter().flat_map(|one| [*one, *one]);
    kernel.set_auth(0, &Auth::new(&VIPS, PATIENCE, twice).at(Some(OWN4), Some(OWN6)));
    for (number, password) in (1..).zip(passwords) {
        let frame = Envelope::to_group(PEER4, 0).seal(&signed(password, MASTER, 9));
        let expected = if number <= 4 { Counter::Advert } else { Counter::Refused(Refusal::BadAuth) };
        assert_eq!(kernel.run(frame.bytes()).counted, [expected], "{number}");
    }
}

#[test]
fn items_44_45_options_and_trailing_bytes_are_no_obstacle() {
    let mut kernel = judging();
    let body = good(PEER4)[CARP..].to_vec();
    for (words, trailing) in [(6, 0), (15, 0), (5, 1), (5, 9), (15, 1000)] {
        let payload = [&body[..], &vec![0x41; trailing]].concat();
        let mut frame = ethernet(
            [1, 0, 0x5e, 0, 0, 0x12],
            IPV4,
            &ipv4_with(words, 112, Ipv4Addr::new(224, 0, 0, 18), &payload),
        );
        let end = IP + 4 * usize::from(words);
        mend(&mut frame[IP..end], 10);
        assert_eq!(kernel.run(&frame).counted, [Counter::Advert], "{words} words, {trailing} bytes more");
        frame[end - 1] ^= 1;
        assert_eq!(kernel.run(&frame).counted, [Counter::Refused(Refusal::BadIpSum)]);
    }
}

#[test]
fn every_length_of_the_vip_list_is_hashed_alike_on_both_sides() {
    // 3 + 4 n bytes before the counter: the rest of the message fits one block, or takes two.
    let mut kernel = judging();
    for count in 1..40_u8 {
        let vips: Vec<IpAddr> = (1..=count).map(|last| Ipv4Addr::new(10, 9, 1, last).into()).collect();
        let key = Key::from_password(b"secret").unwrap();
        let midstate = Midstate::new(&key, Variant::Freebsd, None, Vhid::new(VHID).unwrap(), &vips);
        kernel.set_auth(0, &Auth::new(&vips, PATIENCE, [midstate]).at(Some(OWN4), None));
        let counter = u64::from(count) << 40 | 77;
        let digest = midstate.digest(counter.to_be_bytes());
        let advert = Advert { digest, ..signed(b"secret", MASTER, counter) };
        let frame = Envelope::to_group(PEER4, 0).seal(&advert);
        assert_eq!(kernel.run(frame.bytes()).counted, [Counter::Advert], "{count} VIPs");
    }
}

#[test]
fn a_host_of_which_nothing_is_known_yet_hands_everything_over() {
    let mut kernel = judging();
    kernel.set_auth(0, &Auth::NONE);
    let before = arm(&mut kernel, PEER4);
    for (name, frame, ..) in refused() {
        let outcome = kernel.run(&frame);
        assert_eq!((outcome.action, &outcome.counted[..]), (PASS, &[Counter::Advert][..]), "{name}");
        assert_eq!(kernel.heard(0), before, "{name}");
    }
}
