//! SHA-1 (FIPS 180-4), as far as an HMAC from a midstate needs it: whole blocks.

use super::Scratch;

/// The hash of nothing (section 5.3.1); the last three words are not SHA-1's.
pub(super) const START: [u32; 8] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0];

/// One SHA-1 compression (FIPS 180-4 section 6.1.3, the 16-word schedule). Indices are masked so
/// that the BPF verifier sees their bounds.
#[inline(never)]
pub(super) fn compress(scratch: &mut Scratch) {
    let Scratch { words, state, .. } = scratch;
    let [mut a, mut b, mut c, mut d, mut e, ..] = *state;
    let mut round = 0;
    while round < 80 {
        let word = if round < 16 {
            words[round & 15]
        } else {
            let mixed = words[(round + 13) & 15]
                ^ words[(round + 8) & 15]
                ^ words[(round + 2) & 15]
                ^ words[round & 15];
            let word = mixed.rotate_left(1);
            words[round & 15] = word;
            word
        };
        let (mix, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next =
            a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        round += 1;
    }
    for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(word);
    }
}
