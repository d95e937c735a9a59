//! The strict MAC: frames that `tests/data/strict-vectors.py` made from `docs/authentication.md`, and the
//! `hmac` and `sha2` crates over any others.

use crate::corpus::bytes;
use crate::oracle;
use carp_common::admission::{Auth, Mode};
use carp_common::auth::{Key, Midstate, StrictKey, Variant};
use carp_common::id::Vhid;
use carp_common::time::Span;
use carp_common::wire::{Heard, Refusal, Said, sum};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use serde_json::Value;
use std::net::IpAddr;
use zerocopy::IntoBytes;

const IP: usize = 14;

struct Vector(Value);

impl Vector {
    fn all() -> Vec<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/strict-vectors.json");
        let text = std::fs::read_to_string(path).expect("the vectors are there");
        let list: Vec<Value> = serde_json::from_str(&text).expect("they are a list in JSON");
        assert_eq!(list.len(), 6);
        list.into_iter().map(Self).collect()
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a string")
    }

    fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().expect("a number")
    }

    fn key(&self) -> Key {
        Key::from_password(self.text("password").as_bytes()).expect("short")
    }

    fn vips(&self) -> Vec<IpAddr> {
        let list = self.0["vips"].as_array().expect("a list");
        list.iter().map(|vip| vip.as_str().and_then(|vip| vip.parse().ok()).expect("an address")).collect()
    }

    fn frame(&self) -> Vec<u8> {
        bytes(self.text("frame_hex"))
    }

    fn is_strict(&self) -> bool {
        self.text("mode") == Mode::Strict.name()
    }

    /// What a node in strict mode judges it by.
    fn auth(&self) -> Auth {
        let (key, vips) = (self.key(), self.vips());
        let vhid = u8::try_from(self.number("vhid")).ok().and_then(Vhid::new).expect("1 to 255");
        let digest = Midstate::new(&key, Variant::Freebsd, None, vhid, &vips);
        Auth::new(&vips, Span::secs(3), [digest]).with_mode(Mode::Strict, [StrictKey::new(&key, &vips)])
    }
}

#[test]
fn every_strict_vector_is_read_as_what_it_says_and_verifies() {
    for vector in Vector::all() {
        let heard = Heard::parse(&vector.frame()).expect("protocol 112").expect("well-formed");
        let (seen, id) = (heard.seen(), vector.text("id"));
        let numbers = ["base", "skew", "demote", "counter", "echo"].map(|key| vector.number(key));
        let said = &seen.said;
        let pace = said.pace();
        assert_eq!(
            numbers,
            [pace.base.into(), pace.skew.into(), said.demote().into(), said.counter(), said.echo()],
            "{id}"
        );
        let ends = [heard.source, heard.destination].map(|end| end.to_string());
        assert_eq!(ends, ["source", "destination"].map(|key| vector.text(key)), "{id}");
        assert_eq!((seen.has_mac(), seen.is_strict()), (true, vector.is_strict()), "{id}");
        assert_eq!(seen.mac.to_vec(), bytes(vector.text("mac_hex")), "{id}");
        assert_eq!(StrictKey::new(&vector.key(), &vector.vips()).mac(said), seen.mac, "{id}");
        assert_eq!(oracle::strict_message(&vector.vips(), said), bytes(vector.text("message_hex")), "{id}");
        assert_eq!(vector.auth().admit(seen).map(drop), Ok(()), "{id}");
    }
}

/// All that is not looked at by anybody: Ethernet addresses, type of service, identification, flags.
fn is_outside(frame: &[u8], at: usize) -> bool {
    let v6 = frame[IP] >> 4 == 6;
    let (ends, protocol) = if v6 { (IP + 8..IP + 40, IP + 6) } else { (IP + 12..IP + 20, IP + 9) };
    !(ends.contains(&at) || at == protocol || (IP + if v6 { 40 } else { 20 }..).contains(&at))
}

/// With its checksums as they belong there, so that it is the MAC that tells.
fn mend(frame: &mut [u8]) {
    let carp = if frame[IP] >> 4 == 6 { IP + 40 } else { IP + 20 };
    let v4 = (carp == IP + 20).then_some((IP..carp, 10));
    for (part, at) in v4.into_iter().chain([(carp..carp + 36, 6)]) {
        let part = &mut frame[part];
        part[at..at + 2].fill(0);
        let checksum = sum::checksum(part).to_be_bytes();
        part[at..at + 2].copy_from_slice(&checksum);
    }
}

#[test]
fn any_bit_that_is_flipped_in_any_strict_vector_has_it_refused() {
    for vector in Vector::all().into_iter().filter(Vector::is_strict) {
        let (frame, auth) = (vector.frame(), vector.auth());
        let parts = (0..frame.len()).filter(|at| !is_outside(&frame, *at));
        for (at, bit) in parts.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = frame.clone();
            flipped[at] ^= 1 << bit;
            let judge = |frame: &[u8]| match Heard::parse(frame)? {
                Ok(heard) => Some(auth.admit(heard.seen()).map(drop)),
                Err(refusal) => Some(Err(refusal)),
            };
            assert_ne!(judge(&flipped), Some(Ok(())), "{}: bit {bit} of byte {at}", vector.text("id"));
            let sum = flipped.clone();
            mend(&mut flipped);
            // A flipped checksum is mended to what it was.
            if flipped != frame {
                assert_ne!(judge(&flipped), Some(Ok(())), "{}: {at}.{bit}, mended", vector.text("id"));
            } else {
                assert!(matches!(judge(&sum), Some(Err(Refusal::BadSum | Refusal::BadIpSum))), "{at}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_strict_mac_is_that_of_an_independent_implementation(
        key: [u8; 20],
        vips in crate::properties::lists(),
        (head, counter, echo) in any::<([u8; 6], [u8; 8], [u8; 8])>(),
        (source, destination) in any::<([u8; 16], [u8; 16])>(),
        bit in 0..(54 + 20) * 8_usize,
    ) {
        let key = Key(key);
        let said = Said { head, counter, source, destination, echo };
        let strict = StrictKey::new(&key, &vips);
        let mac = strict.mac(&said);
        prop_assert_eq!(mac, oracle::hmac_sha256(&key, &oracle::strict_message(&vips, &said)), "{:?}", vips);
        let mut signed = [said.as_bytes(), &mac].concat();
        signed[bit / 8] ^= 1 << (bit % 8);
        let (said, mac) = signed.split_at(54);
        let other: Said = zerocopy::FromBytes::read_from_bytes(said).expect("its size");
        prop_assert!(strict.mac(&other) != *mac, "bit {} does not matter", bit);
    }
}
