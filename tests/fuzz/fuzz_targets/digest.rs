//! Any key, list of addresses and counter: a digest verifies, and with one bit changed it does not. So does a
//! strict MAC, and with one bit changed of all that it covers it is another one.
#![no_main]

use arbitrary::Arbitrary;
use carp_common::auth::{Key, Midstate, StrictKey, Variant};
use carp_common::id::{Mac, Vhid};
use carp_common::wire::Said;
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;
use zerocopy::{FromBytes, IntoBytes};

#[derive(Debug, Arbitrary)]
struct Input {
    key: [u8; 20],
    variant: u8,
    lladdr: Option<[u8; 6]>,
    vhid: u8,
    vips: Vec<IpAddr>,
    counter: [u8; 8],
    said: [u8; size_of::<Said>()],
    bit: u8,
}

fuzz_target!(|input: Input| {
    let Some(vhid) = Vhid::new(input.vhid) else { return };
    let variant = Variant::ALL[usize::from(input.variant) % Variant::ALL.len()];
    // The sort is a selection: long lists only cost time.
    let vips = &input.vips[..input.vips.len().min(64)];
    let state = Midstate::new(&Key(input.key), variant, input.lladdr.map(Mac), vhid, vips);
    let mut digest = state.digest(input.counter);
    assert!(state.verify(input.counter, &digest));
    digest[usize::from(input.bit) / 8 % 20] ^= 1 << (input.bit % 8);
    assert!(!state.verify(input.counter, &digest));
    let strict = StrictKey::new(&Key(input.key), vips);
    let mut said = Said::read_from_bytes(&input.said).expect("its size");
    let mac = strict.mac(&said);
    said.as_mut_bytes()[usize::from(input.bit) / 8] ^= 1 << (input.bit % 8);
    assert_ne!(strict.mac(&said), mac);
});
