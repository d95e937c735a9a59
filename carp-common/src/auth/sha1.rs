//! SHA-1 (FIPS 180-4), as far as an HMAC from a midstate needs it: whole blocks.

use super::Scratch;

/// The hash of nothing (section 5.3.1); the last three words are not SHA-1's.
pub(super) const START: [u32; 8] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0];

/// Rounds of one kind.
const KIND: usize = 20;

/// Five words, each in the lower half of its own; what the upper half holds means nothing. BPF's registers
/// have 64 bits, and as `u32` a word would be cut to 32 of them before each shift.
type Work = [u64; 5];

/// One SHA-1 compression (FIPS 180-4 section 6.1.2). A loop for each kind of round, so that none asks which it
/// is; all words of the schedule first, so that none asks where its own lies.
#[inline(never)]
pub(super) fn compress(scratch: &mut Scratch) {
    let Scratch { words, state, .. } = scratch;
    let mut at = 16;
    while at < words.len() {
        let word = |back: usize| u64::from(words[at - back]);
        let mixed = word(3) ^ word(8) ^ word(14) ^ word(16);
        words[at] = low(mixed << 1 | mixed >> 31);
        at += 1;
    }
    let choose = |b: u64, c: u64, d: u64| d ^ (b & (c ^ d));
    let parity = |b: u64, c: u64, d: u64| b ^ c ^ d;
    let majority = |b: u64, c: u64, d: u64| (b & c) | (d & (b | c));
    let [a, b, c, d, e, ..] = *state;
    // The constants are signed, as BPF adds 32 bits to 64: the last two are 0x8f1b_bcdc and 0xca62_c1d6.
    let work = [a.into(), b.into(), c.into(), d.into(), e.into()];
    let work = rounds(0, words, work, choose, 0x5a82_7999);
    let work = rounds(KIND, words, work, parity, 0x6ed9_eba1);
    let work = rounds(2 * KIND, words, work, majority, -0x70e4_4324);
    let work = rounds(3 * KIND, words, work, parity, -0x359d_3e2a);
    for (sum, word) in state.iter_mut().zip(work) {
        *sum = sum.wrapping_add(low(word));
    }
}

/// The rounds of one kind, from this one on: five at a time, after which each word is again where it was.
#[inline(always)]
fn rounds(
    first: usize,
    words: &[u32; 80],
    [mut a, mut b, mut c, mut d, mut e]: Work,
    mix: impl Fn(u64, u64, u64) -> u64,
    constant: i64,
) -> Work {
    let mut at = first;
    while at < first + KIND {
        let given = |more: usize| u64::from(words[at + more]).wrapping_add_signed(constant);
        (b, e) = round(a, b, e, mix(b, c, d).wrapping_add(given(0)));
        (a, d) = round(e, a, d, mix(a, b, c).wrapping_add(given(1)));
        (e, c) = round(d, e, c, mix(e, a, b).wrapping_add(given(2)));
        (d, b) = round(c, d, b, mix(d, e, a).wrapping_add(given(3)));
        (c, a) = round(b, c, a, mix(c, d, e).wrapping_add(given(4)));
        at += 5;
    }
    [a, b, c, d, e]
}

/// The two words that a round changes. `a` and `b` come clean, and `e` leaves so.
#[inline(always)]
fn round(a: u64, b: u64, e: u64, mixed: u64) -> (u64, u64) {
    let sum = e.wrapping_add(a << 5 | a >> 27).wrapping_add(mixed);
    (b << 30 | b >> 2, u64::from(low(sum)))
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
#[inline(always)]
const fn low(word: u64) -> u32 {
    word as u32
}
