//! Any bytes as an Ethernet frame. What is heard, sealed again, is heard as the same; and the same
//! bytes with their checksums mended get past the checksums.
#![no_main]

use carp_common::wire::{Envelope, Heard, sum};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    again(frame);
    let mut frame = frame.to_vec();
    mend(&mut frame);
    again(&frame);
});

fn again(frame: &[u8]) {
    let Some(Ok(heard)) = Heard::parse(frame) else { return };
    let envelope = Envelope::to_node(heard.source, heard.destination, 0).expect("both of one family");
    let sealed = envelope.seal(&heard.advert);
    assert_eq!(Heard::parse(sealed.bytes()), Some(Ok(heard)));
}

/// Writes the checksums that belong there, so that the fuzzer need not guess them.
fn mend(frame: &mut [u8]) {
    let carp = match frame.get(14).map(|byte| (byte >> 4, usize::from(byte & 15) * 4)) {
        Some((4, length)) => {
            if let Some(header) = frame.get_mut(14..14 + length) {
                write(header, 10);
            }
            14 + length
        }
        _ => 54,
    };
    if let Some(header) = frame.get_mut(carp..carp + 36) {
        write(header, 6);
    }
}

fn write(part: &mut [u8], at: usize) {
    if let Some(field) = part.get_mut(at..at + 2) {
        field.fill(0);
        let checksum = sum::checksum(part).to_be_bytes();
        part[at..at + 2].copy_from_slice(&checksum);
    }
}
