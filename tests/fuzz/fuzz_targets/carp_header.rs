//! Any bytes after an IP header, with and without a right checksum: a parsed header, emitted, says
//! the same.
#![no_main]

use carp_common::wire::{Advert, sum};
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes;

fuzz_target!(|payload: &[u8]| {
    again(payload);
    let mut payload = payload.to_vec();
    if let Some(header) = payload.get_mut(..36) {
        header[6..8].fill(0);
        let checksum = sum::checksum(header).to_be_bytes();
        header[6..8].copy_from_slice(&checksum);
        again(&payload);
    }
});

fn again(payload: &[u8]) {
    if let Ok(advert) = Advert::parse(payload) {
        let header = advert.emit();
        assert_eq!(Advert::parse(header.as_bytes()), Ok(advert));
        // Type and authentication length are ours; the rest is theirs.
        assert_eq!(header.as_bytes()[8..], payload[8..36]);
    }
}
