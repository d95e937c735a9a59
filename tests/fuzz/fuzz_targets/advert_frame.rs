//! Any bytes as an Ethernet frame. What is heard, signed in whichever mode, is heard as the same when it
//! is put together again; and the same bytes with their checksums mended get past the checksums.
#![no_main]

use carp_common::id::Mac;
use carp_common::wire::annex::Annex;
use carp_common::wire::carp::Carp;
use carp_common::wire::{Envelope, Heard, sum};
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes;

const ANNEX: usize = size_of::<Annex>();

fuzz_target!(|frame: &[u8]| {
    again(frame);
    let mut frame = frame.to_vec();
    mend(&mut frame);
    again(&frame);
});

fn again(frame: &[u8]) {
    let Some(Ok(heard)) = Heard::parse(frame) else { return };
    let envelope = Envelope::to_node(heard.source, heard.destination, 0).expect("both of one family");
    let seen = heard.seen();
    let [version_type, vhid, skew, auth_len, demote, base] = seen.said.head;
    let (checksum, counter, digest) = (0.into(), seen.said.counter().into(), seen.digest);
    let mut header = Carp { version_type, vhid, skew, auth_len, demote, base, checksum, counter, digest };
    header.sum_up();
    let annex = Annex::new(seen.said.echo(), seen.mac);
    let behind: &[u8] = match (seen.has_mac(), seen.is_strict()) {
        (false, _) => &[],
        (true, false) => annex.as_bytes(),
        (true, true) => &seen.said.echo,
    };
    let sealed = envelope.wrap(&[header.as_bytes(), behind], Mac([2, 0, 0, 0, 0, 1]));
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
    if let Some(annex) = frame.get_mut(carp + 36..carp + 36 + ANNEX).filter(|annex| annex.starts_with(b"cs"))
    {
        write(annex, 2);
    }
}

fn write(part: &mut [u8], at: usize) {
    if let Some(field) = part.get_mut(at..at + 2) {
        field.fill(0);
        let checksum = sum::checksum(part).to_be_bytes();
        part[at..at + 2].copy_from_slice(&checksum);
    }
}
