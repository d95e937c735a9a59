//! Conformance 9.3: the counter.

use crate::corpus;
use carp_common::auth::{Midstate, Variant};
use carp_common::wire::Advert;

#[test]
fn item_33_the_eight_counter_bytes_are_hashed_as_sent_high_word_first() {
    for id in ["cap-c1_solo-10_99_2_1-0", "fb-v6-only", "pf-static-counter-a"] {
        let vector = corpus::get(id);
        let frame = vector.frame();
        let sent = &frame[frame.len() - 28..frame.len() - 20];
        assert_eq!(vector.advert().counter.to_be_bytes(), sent, "{id}");
        assert!(vector.message().ends_with(sent), "{id}");
    }
}

#[test]
fn item_34_the_digest_does_not_mind_a_repeated_or_lower_counter() {
    let (a, b) = (corpus::get("pf-static-counter-a"), corpus::get("pf-static-counter-b"));
    assert_eq!(a.advert(), b.advert());
    assert!(a.verifies(Variant::Freebsd) && b.verifies(Variant::Freebsd));
}

#[test]
fn item_37_the_counter_wraps_without_panic() {
    let vector = corpus::get("cap-c1_solo-10_99_2_1-0");
    let state = Midstate::new(&vector.key(), Variant::Freebsd, None, corpus::vhid(1), &vector.vips());
    for counter in [u64::MAX, u64::MAX.wrapping_add(1)] {
        let bytes = counter.to_be_bytes();
        let advert = Advert { counter, digest: state.digest(bytes), ..vector.advert() };
        let again = Advert::parse(zerocopy::IntoBytes::as_bytes(&advert.emit())).expect("well-formed");
        assert_eq!(again, advert);
        assert!(state.verify(again.counter.to_be_bytes(), &again.digest));
    }
}
