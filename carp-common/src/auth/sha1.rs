//! SHA-1 (FIPS 180-4), as far as an HMAC from a midstate needs it: whole blocks.

use super::Scratch;

/// The hash of nothing (section 5.3.1); the last three words are not SHA-1's.
pub(super) const START: [u32; 8] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0];

/// One SHA-1 compression (FIPS 180-4 section 6.1.3, the 16-word schedule). Indices are masked so
/// that the BPF verifier sees their bounds; a loop for each kind of round, so that none asks which it is.
#[inline(never)]
pub(super) fn compress(scratch: &mut Scratch) {
    let Scratch { words, state, .. } = scratch;
    let [a, b, c, d, e, ..] = *state;
    let choose = |b: u32, c: u32, d: u32| d ^ (b & (c ^ d));
    let parity = |b: u32, c: u32, d: u32| b ^ c ^ d;
    let majority = |b: u32, c: u32, d: u32| (b & c) | (d & (b | c));
    let work = rounds((0, 16), words, [a, b, c, d, e], |words, round| words[round & 15], choose, 0x5a82_7999);
    let work = rounds((16, 20), words, work, schedule, choose, 0x5a82_7999);
    let work = rounds((20, 40), words, work, schedule, parity, 0x6ed9_eba1);
    let work = rounds((40, 60), words, work, schedule, majority, 0x8f1b_bcdc);
    let work = rounds((60, 80), words, work, schedule, parity, 0xca62_c1d6);
    for (sum, word) in state.iter_mut().zip(work) {
        *sum = sum.wrapping_add(word);
    }
}

/// These rounds of one kind.
#[inline(always)]
fn rounds(
    (mut round, end): (usize, usize),
    words: &mut [u32; 16],
    [mut a, mut b, mut c, mut d, mut e]: [u32; 5],
    word: impl Fn(&mut [u32; 16], usize) -> u32,
    mix: impl Fn(u32, u32, u32) -> u32,
    constant: u32,
) -> [u32; 5] {
    while round < end {
        let mixed = mix(b, c, d).wrapping_add(constant).wrapping_add(word(words, round));
        let next = a.rotate_left(5).wrapping_add(e).wrapping_add(mixed);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        round += 1;
    }
    [a, b, c, d, e]
}

/// The word of a round from the 16th on.
#[inline(always)]
fn schedule(words: &mut [u32; 16], round: usize) -> u32 {
    let mixed =
        words[(round + 13) & 15] ^ words[(round + 8) & 15] ^ words[(round + 2) & 15] ^ words[round & 15];
    let word = mixed.rotate_left(1);
    words[round & 15] = word;
    word
}
