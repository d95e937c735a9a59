//! What a node sends in each mode, byte by byte: frames that `tests/data/strict-vectors.py` made from
//! `docs/authentication.md`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Vhid, virtual_mac};
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Envelope, Frame};
use carp_user::proto::event::{Flavour, Former, HostSetup};
use carp_user::proto::keyring::{Keyring, Word};
use serde_json::Value;
use std::net::IpAddr;

fn setup(vector: &Value) -> HostSetup {
    let text = |key: &str| vector[key].as_str().unwrap();
    let vips = vector["vips"].as_array().unwrap().iter();
    HostSetup {
        interface: "lan0".to_owned(),
        link: IfIndex(3),
        group: None,
        vhid: Vhid::new(byte(vector, "vhid")).unwrap(),
        vips: vips.map(|vip| vip.as_str().unwrap().parse().unwrap()).collect(),
        pace: Pace { base: 1, skew: 0 },
        preempt: true,
        gate: None,
        preempt_delay: Span::ZERO,
        flavour: Flavour::Freebsd,
        mode: Mode::from_name(text("mode")).unwrap(),
        key: Key::from_password(text("password").as_bytes()).unwrap(),
        next_key: None,
        digest: Variant::Freebsd,
        accept: vec![Variant::Freebsd],
        tos: 0xe0,
        answer_ping: false,
        former: Former::default(),
        resume_until: None,
    }
}

fn byte(vector: &Value, key: &str) -> u8 {
    u8::try_from(vector[key].as_u64().unwrap()).unwrap()
}

/// What is sealed as its epoch's frame of the vector's number.
fn sealed(vector: &Value) -> Frame {
    let setup = setup(vector);
    let address = |key: &str| vector[key].as_str().unwrap().parse::<IpAddr>().unwrap();
    let envelope = Envelope::to_node(address("source"), address("destination"), setup.tos).unwrap();
    let (counter, echo) = (vector["counter"].as_u64().unwrap(), vector["echo"].as_u64().unwrap());
    let pace = Pace { base: byte(vector, "base"), skew: byte(vector, "skew") };
    let word = Word { pace, demote: byte(vector, "demote"), echo };
    let mut keys = Keyring::new(&setup, 7, u32::try_from(counter >> 32).unwrap());
    let mut seal = || keys.seal(&envelope, word, virtual_mac(setup.vhid));
    for _ in 1..counter & 0xffff_ffff {
        seal();
    }
    seal()
}

#[test]
fn every_strict_vector_comes_out_byte_for_byte() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/strict-vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 6);
    for vector in vectors {
        assert_eq!(
            format!("{:?}", sealed(vector)),
            vector["frame_hex"].as_str().unwrap(),
            "{}",
            vector["id"]
        );
    }
}
