//! Conformance 9.4 (and 7, 8 of 9.1): what is turned away, and what is not.

use crate::corpus::{self, get, receive, vhid};
use carp_common::auth::{Key, Midstate, Variant};
use carp_common::pace::Pace;
use carp_common::wire::{Advert, Envelope, Heard, Refusal, sum};
use proptest::prelude::{ProptestConfig, any, proptest};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const IP: usize = 14;
const CARP: usize = 34;

/// `inj-01`, an advert in order, changed, with both checksums right again.
fn changed(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut frame = get("inj-01").frame();
    change(&mut frame);
    mend(&mut frame, IP..CARP, 10);
    mend(&mut frame, CARP..CARP + 36, 6);
    frame
}

fn mend(frame: &mut [u8], range: std::ops::Range<usize>, at: usize) {
    let part = &mut frame[range];
    part[at..at + 2].copy_from_slice(&[0, 0]);
    let checksum = sum::checksum(part).to_be_bytes();
    part[at..at + 2].copy_from_slice(&checksum);
}

fn refusal(frame: &[u8]) -> Option<Refusal> {
    receive(frame).and_then(Result::err)
}

fn is_accepted(frame: &[u8]) -> bool {
    matches!(receive(frame), Some(Ok(_)))
}

#[test]
fn item_07_a_checksum_error_is_refused_as_badsum() {
    assert_eq!(refusal(&get("inj-10").frame()), Some(Refusal::BadSum));
    for at in CARP..CARP + 36 {
        let mut frame = get("inj-01").frame();
        frame[at] ^= 0x04;
        assert_eq!(refusal(&frame), Some(Refusal::BadSum), "byte {at}");
    }
}

#[test]
fn item_08_errors_that_cancel_between_ip_and_carp_checksum_do_not_pass() {
    assert_eq!(refusal(&get("inj-11").frame()), Some(Refusal::BadSum));
    let mut frame = get("inj-01").frame();
    frame[IP + 10] ^= 1;
    assert_eq!(refusal(&frame), Some(Refusal::BadIpSum));
}

#[test]
fn item_40_another_ttl_or_hop_limit_than_255_is_refused() {
    assert_eq!(refusal(&get("inj-04").frame()), Some(Refusal::BadTtl));
    for ttl in [0, 1, 64, 254] {
        assert_eq!(refusal(&changed(|frame| frame[IP + 8] = ttl)), Some(Refusal::BadTtl));
    }
    let mut v6 = get("fb-v6-only").frame();
    v6[IP + 7] = 254;
    assert_eq!(Heard::parse(&v6), Some(Err(Refusal::BadTtl)));
}

#[test]
fn item_41_another_version_than_2_is_refused_and_vrrp_version_3_is_known_by_its_sum() {
    for version in (0..16_u8).filter(|version| *version != 2) {
        let frame = changed(|frame| frame[CARP] = version << 4 | 1);
        assert_eq!(refusal(&frame), Some(Refusal::BadVersion), "version {version}");
    }
    assert_eq!(refusal(&get("inj-05").frame()), Some(Refusal::BadVersion));
    // A real VRRPv3 advertisement: one address, checksum with pseudo-header, shorter than CARP.
    let vrrp3 = corpus::bytes("3101640100640000c0a80001");
    assert_eq!(Advert::parse(&vrrp3), Err(Refusal::Vrrp));
}

#[test]
fn item_42_vrrpv2_of_every_length_is_refused_short_ones_by_name_and_long_ones_by_sum_or_digest() {
    for addresses in 0..=9_u8 {
        let mut packet = vec![0x21, 33, 100, addresses, 0, 1, 0, 0];
        for address in 0..addresses {
            packet.extend([10, 0, 0, address]);
        }
        packet.extend([0; 8]);
        let checksum = sum::checksum(&packet).to_be_bytes();
        packet[6..8].copy_from_slice(&checksum);
        let parsed = Advert::parse(&packet);
        match addresses {
            0..5 => assert_eq!(parsed, Err(Refusal::Vrrp), "{addresses} addresses"),
            5.. => {
                // 36 bytes cannot be told from CARP, longer ones only if the part after them sums up.
                assert!(packet.len() >= 36);
                let Ok(advert) = parsed else {
                    assert_eq!((parsed, addresses > 5), (Err(Refusal::BadSum), true));
                    continue;
                };
                let vips = ["10.0.0.1".parse().expect("an address")];
                let state = Midstate::new(&Key([0; 20]), Variant::Freebsd, None, advert.vhid, &vips);
                assert!(!state.verify(advert.counter.to_be_bytes(), &advert.digest));
            }
        }
    }
}

#[test]
fn item_43_less_than_36_bytes_are_refused() {
    assert_eq!(refusal(&get("inj-24").frame()), Some(Refusal::BadLen));
    let frame = get("inj-01").frame();
    for len in CARP..CARP + 36 {
        assert_eq!(refusal(&frame[..len]), Some(Refusal::BadLen), "{len} bytes captured");
    }
    // Total length says less than there is: the rest is Ethernet padding.
    assert_eq!(refusal(&changed(|frame| frame[IP + 3] = 55)), Some(Refusal::BadLen));
    assert_eq!(refusal(&changed(|frame| frame[IP] = 0x44)), Some(Refusal::BadLen), "header of 16 bytes");
}

#[test]
fn item_44_trailing_bytes_are_tolerated_and_not_summed() {
    assert!(is_accepted(&get("inj-09").frame()) && is_accepted(&get("inj-26").frame()));
    let mut v6 = get("fb-v6-only").frame();
    v6.extend([0x41; 7]);
    v6[IP + 5] += 7;
    assert!(matches!(Heard::parse(&v6), Some(Ok(_))));
}

#[test]
fn item_45_ipv4_options_are_skipped_by_the_header_length() {
    assert!(is_accepted(&get("inj-14").frame()));
}

#[test]
fn item_46_another_type_than_1_is_accepted_like_everywhere() {
    assert!(is_accepted(&get("inj-06").frame()));
    for kind in 0..16 {
        assert!(is_accepted(&changed(|frame| frame[CARP] = 0x20 | kind)), "type {kind}");
    }
}

#[test]
fn item_47_authlen_and_byte_4_are_not_judged() {
    assert!(is_accepted(&get("inj-07").frame()) && is_accepted(&get("inj-08").frame()));
    for value in [0, 1, 6, 8, 255] {
        assert!(is_accepted(&changed(|frame| frame[CARP + 3] = value)), "authlen {value}");
        assert!(is_accepted(&changed(|frame| frame[CARP + 4] = value)), "byte 4 is {value}");
    }
}

#[test]
fn item_48_another_vhid_is_parsed_as_such_for_the_node_to_refuse() {
    let heard = Heard::parse(&get("inj-16").frame()).expect("protocol 112").expect("well-formed");
    assert_eq!(heard.advert.vhid, vhid(34));
}

#[test]
fn item_49_ethernet_addresses_tos_id_and_df_are_not_validated() {
    for id in ["inj-13", "inj-18", "inj-19"] {
        assert!(is_accepted(&get(id).frame()), "{id}");
    }
    for byte in (0..12).chain([IP + 1, IP + 4, IP + 5]) {
        assert!(is_accepted(&changed(|frame| frame[byte] ^= 0xff)), "byte {byte}");
    }
    assert!(is_accepted(&changed(|frame| frame[IP + 6] = 0)), "DF clear");
}

#[test]
fn item_50_a_fragment_is_refused_whichever_part_it_is() {
    for (high, low) in [(0x20, 0), (0, 1), (0x60, 0), (0x1f, 0xff)] {
        let frame = changed(|frame| (frame[IP + 6], frame[IP + 7]) = (high, low));
        assert_eq!(refusal(&frame), Some(Refusal::Fragment), "{high:#x} {low:#x}");
    }
}

#[test]
fn item_51_a_tagged_advert_does_not_belong_to_the_parent_link() {
    assert_eq!(Heard::parse(&get("inj-20").frame()), None);
}

#[test]
fn item_52_each_refusal_has_its_own_counter_name_and_meaning() {
    let names: BTreeSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
    let meanings: BTreeSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.meaning()).collect();
    assert_eq!((names.len(), meanings.len()), (Refusal::ALL.len(), Refusal::ALL.len()));
    for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal.index(), index);
    }
}

#[test]
fn item_53_a_hundred_thousand_mangled_frames_neither_panic_nor_pass() {
    let good = ["inj-01", "inj-14", "inj-09"].map(|id| get(id).frame());
    let v6 = get("fb-v6-only").frame();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut parsed = 0;
    for round in 0..100_000_usize {
        let mut frame = if round % 4 == 3 { v6.clone() } else { good[round % 4].clone() };
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len());
            frame[at] = u8::try_from(random.below(256)).expect("a byte");
        }
        frame.truncate(frame.len() - random.below(3) * random.below(frame.len()) / 2);
        let Some(Ok(advert)) = receive(&frame) else { continue };
        parsed += 1;
        // Authentication does not cover everything, but what it covers is untouched.
        assert_eq!(advert.vhid, vhid(33), "round {round}");
        assert!(good.iter().any(|good| good[CARP..].windows(8).any(|c| c == advert.counter.to_be_bytes())));
    }
    assert!(parsed > 100, "some changes are harmless: {parsed}");
}

#[test]
fn item_56_a_node_address_that_ends_like_a_multicast_one_is_still_one_node() {
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    let advert = get("inj-01").advert();
    for last in 224..=239 {
        let peer = Ipv4Addr::new(192, 0, 2, last);
        let envelope = Envelope::to_node(source, peer.into(), 0).expect("one family");
        let heard = Heard::parse(envelope.seal(&advert).bytes()).expect("protocol 112").expect("well-formed");
        assert_eq!(heard.destination, IpAddr::V4(peer));
    }
    assert_eq!(Envelope::to_node(source, "fe80::1".parse().expect("an address"), 0), None);
}

#[test]
fn ipv6_extension_headers_are_none_of_ours() {
    let mut frame = get("fb-v6-only").frame();
    frame[IP + 6] = 0;
    assert_eq!(Heard::parse(&frame), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn item_53_any_bytes_give_an_answer(frame in proptest::collection::vec(any::<u8>(), 0..140)) {
        let _ = Heard::parse(&frame);
        let _ = Advert::parse(&frame);
    }

    #[test]
    fn item_53_any_bytes_behind_a_fitting_start_give_an_answer(
        v6: bool,
        rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let start = if v6 { V6_START } else { &[8, 0, 0x45][..] };
        let frame = [&[0; 12][..], start, &rest].concat();
        if let Some(Ok(heard)) = Heard::parse(&frame) {
            assert!(heard.advert.pace <= Pace::BOW_OUT);
        }
    }
}

const V6_START: &[u8] = &[0x86, 0xdd, 0x60];

/// Sebastiano Vigna's splitmix64: the sequence is the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let c = usize::try_from((b ^ b >> 31) & 0xffff_ffff).expect("32 bits");
        c % bound
    }
}
