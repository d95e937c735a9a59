//! Every vector: digests, bytes, refusals, timers.

use crate::corpus::{self, bytes};
use crate::oracle;
use carp_common::auth::{Midstate, Variant};
use carp_common::pace::Pace;
use carp_common::wire::{Heard, Refusal};

#[test]
fn item_16_every_advertisement_verifies_with_the_variants_listed_and_only_those() {
    let vectors = corpus::all("advertisement");
    for vector in &vectors {
        let holding: Vec<Variant> =
            Variant::ALL.into_iter().filter(|variant| vector.verifies(*variant)).collect();
        match vector.variant() {
            Some(variant) => assert!(holding.contains(&variant), "{}: {holding:?}", vector.id()),
            None => {
                // With one IPv4 VIP the order does not matter, so the 2005 variant, which the
                // captures were not compared with, must hold too.
                let mut listed = [vector.matching(), vec![Variant::Fb05]].concat();
                listed.sort();
                let mut holding = holding;
                holding.sort();
                assert_eq!(holding, listed, "{}", vector.id());
            }
        }
    }
    assert_eq!(vectors.iter().filter(|vector| vector.is_captured()).count(), 20);
    assert_eq!(vectors.len(), 42);
}

#[test]
fn a_digest_holds_by_a_variant_exactly_when_the_two_hash_the_same_message() {
    for vector in corpus::all("advertisement") {
        let advert = vector.advert();
        let vips = vector.vips();
        for variant in Variant::ALL.into_iter().filter(|variant| variant.can_hold(&vips)) {
            let message = oracle::message(variant, vector.lladdr(), advert.vhid.get(), &vips, advert.counter);
            assert_eq!(vector.verifies(variant), message == vector.message(), "{} {variant:?}", vector.id());
        }
        assert_eq!(oracle::hmac_sha1(&vector.key(), &vector.message()), advert.digest, "{}", vector.id());
    }
}

/// Frames that we could have sent ourselves: virtual MAC, IPv4 identification 0.
const BYTE_EQUAL: [&str; 19] = [
    "fb-v4-multi-sortbyte",
    "fb-v4-dup",
    "fb-mixed-v4pkt",
    "fb-ll-vip",
    "fb-demoted",
    "fb-rawkey20",
    "fb-pw-25chars",
    "fb-nokey",
    "ob-demoted",
    "ob-bowout",
    "ob-v6-nov6ll",
    "ob-v6-orig",
    "ob-carpnode-nonleader",
    "df-v6-unsorted",
    "fb-v4-multi",
    "fb-v6-only",
    "fb-mixed-v6pkt",
    "fb-ll-embedded",
    "ob-v4-multi",
];

#[test]
fn frames_that_we_could_send_come_out_byte_for_byte() {
    let equal: Vec<String> = corpus::all("advertisement")
        .iter()
        .filter(|vector| vector.resealed() == vector.frame())
        .map(|vector| vector.id().to_owned())
        .collect();
    assert_eq!(equal, BYTE_EQUAL);
}

#[test]
fn the_other_frames_differ_only_in_mac_addresses_and_ip_identification() {
    for vector in corpus::all("advertisement") {
        let (theirs, ours) = (vector.frame(), vector.resealed());
        assert_eq!(theirs.len(), ours.len(), "{}", vector.id());
        // ucarp's MACs; pfSense's identification; the checksum that follows from it.
        let identification = 18..20;
        let checksum = 24..26;
        for (at, (theirs, ours)) in theirs.iter().zip(&ours).enumerate().skip(12) {
            let is_v4 = vector.heard().source.is_ipv4();
            let free = is_v4 && (identification.contains(&at) || checksum.contains(&at));
            assert!(free || theirs == ours, "{} byte {at}", vector.id());
        }
    }
}

#[test]
fn a_digest_that_we_compute_is_the_one_that_was_sent() {
    for vector in corpus::all("advertisement") {
        let Some(variant) = vector.variant() else { continue };
        let advert = vector.advert();
        let state = Midstate::new(&vector.key(), variant, vector.lladdr(), advert.vhid, &vector.vips());
        assert_eq!(state.digest(advert.counter.to_be_bytes()), advert.digest, "{}", vector.id());
    }
}

#[test]
fn every_injected_frame_meets_its_fate() {
    // What a live ucarp did differs where its checks are weaker (11), and where the node decides
    // (12: addressed to another node, 23: bow-out).
    let fates = [
        ("inj-01", Ok(())),
        ("inj-04", Err(Refusal::BadTtl)),
        ("inj-05", Err(Refusal::BadVersion)),
        ("inj-07", Ok(())),
        ("inj-08", Ok(())),
        ("inj-09", Ok(())),
        ("inj-10", Err(Refusal::BadSum)),
        ("inj-12", Ok(())),
        ("inj-13", Ok(())),
        ("inj-14", Ok(())),
        ("inj-16", Err(Refusal::BadVhid)),
        ("inj-17", Err(Refusal::BadAuth)),
        ("inj-18", Ok(())),
        ("inj-19", Ok(())),
        ("inj-21", Ok(())),
        ("inj-22", Ok(())),
        ("inj-26", Ok(())),
        ("inj-06", Ok(())),
        ("inj-11", Err(Refusal::BadSum)),
        ("inj-23", Ok(())),
        ("inj-24", Err(Refusal::BadLen)),
    ];
    for (id, fate) in fates {
        let met = corpus::receive(&corpus::get(id).frame()).expect("protocol 112");
        assert_eq!(met.map(|_| ()), fate, "{id}");
    }
    assert!(corpus::receive(&corpus::get("inj-20").frame()).is_none(), "a tagged frame is none of this link");
    assert_eq!(corpus::all("injected").len(), fates.len() + 1);
}

#[test]
fn timers_agree_with_every_freebsd_vector_and_with_openbsd_at_base_zero() {
    let mut freebsd = 0;
    for case in corpus::timers() {
        let number =
            |name: &str| case[name].as_u64().and_then(|value| u8::try_from(value).ok()).expect("a byte");
        let micros = |flavour: &str, name: &str| case[flavour][name].as_u64().expect("microseconds");
        let pace = Pace { base: number("advbase"), skew: number("advskew") };
        let demoted = pace.demoted(number("demotion").into());
        let (interval, dead) = (pace.interval().as_micros(), pace.dead().as_micros());
        if case["freebsd"].is_null() {
            assert_eq!(pace.base, 0);
            assert_eq!(interval, micros("openbsd_1_370", "interval_us"), "{case}");
            assert_eq!(dead, micros("openbsd_1_370", "master_down_us"), "{case}");
            continue;
        }
        freebsd += 1;
        assert_eq!(interval, micros("freebsd", "first_interval_after_promotion_us"), "{case}");
        assert_eq!(demoted.interval().as_micros(), micros("freebsd", "steady_interval_us"), "{case}");
        assert_eq!(u64::from(demoted.skew), micros("freebsd", "wire_advskew"), "{case}");
        assert_eq!(dead, micros("freebsd", "master_down_us"), "{case}");
    }
    assert_eq!(freebsd, 11);
}

#[test]
fn the_quick_check_value_of_the_protocol_document_comes_out() {
    let key = carp_common::auth::Key::from_password(b"secret").expect("short");
    let vips = ["10.99.0.254".parse().expect("an address")];
    let state = Midstate::new(&key, Variant::Freebsd, None, corpus::vhid(1), &vips);
    let digest = state.digest(0x0102_0304_0506_0708_u64.to_be_bytes());
    assert_eq!(digest.to_vec(), bytes("78331a60dc8f8d048b76d520f247ce191b04cb88"));
}

#[test]
fn parsing_says_what_the_vector_says() {
    for vector in corpus::all("advertisement") {
        let Heard { advert, .. } = vector.heard();
        let header = advert.emit();
        let carp = vector.frame().split_off(vector.frame().len() - 36);
        assert_eq!(zerocopy::IntoBytes::as_bytes(&header), carp, "{}", vector.id());
    }
}
