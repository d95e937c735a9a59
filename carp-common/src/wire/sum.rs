//! The Internet checksum (RFC 1071).

/// One's-complement sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero,
/// added to `start`. Not complemented. Holds for up to 128 KiB of input.
#[inline(always)]
pub fn add(start: u32, bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let mut sum = start;
    for word in words {
        sum += u32::from(u16::from_be_bytes(*word));
    }
    if let [byte] = last {
        sum += u32::from(*byte) << 8;
    }
    sum
}

/// Folds a sum into 16 bits. A range that contains its right checksum folds to 0xffff.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    u16::try_from(twice).unwrap_or(u16::MAX)
}

/// The checksum to write into a field that was zero while summing.
#[inline(always)]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

/// Whether a range that contains its checksum is intact.
#[inline(always)]
pub fn intact(bytes: &[u8]) -> bool {
    fold(add(0, bytes)) == 0xffff
}

/// Checksum of an ICMPv6 message with its pseudo-header (RFC 8200 section 8.1, next header 58).
#[inline(always)]
pub fn icmpv6(source: [u8; 16], destination: [u8; 16], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let pseudo = add(add(0, &source), &destination) + (length >> 16) + (length & 0xffff) + 58;
    !fold(add(pseudo, message))
}

/// The checksum of a range in which some bytes at an even place changed (RFC 1624, equation 4: right
/// for a range that becomes all zero too).
#[inline(always)]
pub fn update<const N: usize>(checksum: u16, old: [u8; N], new: [u8; N]) -> u16 {
    let mut complement = new;
    for byte in &mut complement {
        *byte = !*byte;
    }
    fold(add(add(u32::from(checksum), &old), &complement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_updated_checksum_is_intact_whatever_changed() {
        let macs =
            [[0; 6], [0xff; 6], [0, 0, 0x5e, 0, 1, 7], [2, 0, 0, 0, 0, 0x11], [0xff, 0xfe, 0, 1, 0x80, 0]];
        for start in 0..=u16::MAX {
            let [a, b] = start.to_be_bytes();
            for (old, new) in macs.iter().zip(macs.iter().cycle().skip(1)) {
                let before = [&[a, b], &old[..]].concat();
                let after = [&[a, b], &new[..]].concat();
                let updated = update(checksum(&before), *old, *new);
                assert!(intact(&[&after[..], &updated.to_be_bytes()].concat()), "{before:x?} {after:x?}");
            }
        }
    }
}
