//! CARP's own digest from a midstate: what XDP works out for each advert.

use super::scratch::{BLOCK, Hasher};
use super::{DIGEST_LEN, Scratch, sha1};
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A keyed digest with everything but the counter already absorbed. 192 bytes; fits a BPF map.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Midstate {
    inner: [u32; 5],
    outer: [u32; 5],
    /// The rest of the inner message with its padding: one block, or two.
    tail: [u8; 2 * BLOCK],
    /// Where in `tail` the counter goes, 0..64.
    counter_at: u32,
    /// Blocks of `tail` in use, 1 or 2; 0 in an absent map entry.
    blocks: u32,
    /// Makes the size a multiple of eight.
    reserved: [u32; 4],
}

impl Midstate {
    /// No digest at all.
    pub const NONE: Self = Self {
        inner: [0; 5],
        outer: [0; 5],
        tail: [0; 2 * BLOCK],
        counter_at: 0,
        blocks: 0,
        reserved: [0; 4],
    };

    /// The digest to send with, or to expect for, this counter.
    pub fn digest(&self, counter: [u8; 8]) -> [u8; DIGEST_LEN] {
        let mut scratch = Scratch::new();
        self.digest_in(&mut scratch, counter);
        scratch.digest()
    }

    /// Whether `digest` is right for this counter, in constant time.
    pub fn verify(&self, counter: [u8; 8], digest: &[u8; DIGEST_LEN]) -> bool {
        self.verify_in(&mut Scratch::new(), counter, digest)
    }

    /// As [`Midstate::verify`].
    #[inline(always)]
    pub fn verify_in(&self, scratch: &mut Scratch, counter: [u8; 8], digest: &[u8; DIGEST_LEN]) -> bool {
        self.digest_in(scratch, counter);
        scratch.is_digest(digest)
    }

    /// Of everything but the counter: leaves room for that and pads as if it had been absorbed.
    pub(super) fn of(inner: &Hasher, outer: &Hasher) -> Self {
        let mut tail = [0; 2 * BLOCK];
        let end = inner.fill + 8;
        for (to, from) in tail.iter_mut().zip(inner.block).take(inner.fill) {
            *to = from;
        }
        tail[end] = 0x80;
        let blocks = if end + 1 + 8 <= BLOCK { 1 } else { 2 };
        let bits = ((inner.bytes + 8) * 8).to_be_bytes();
        for (to, from) in tail.iter_mut().skip(blocks * BLOCK - 8).zip(bits) {
            *to = from;
        }
        let number = |value: usize| u32::try_from(value).unwrap_or(0);
        let (counter_at, blocks) = (number(inner.fill), number(blocks));
        let [five @ .., _, _, _] = inner.scratch.state;
        let [key @ .., _, _, _] = outer.scratch.state;
        Self { inner: five, outer: key, tail, counter_at, blocks, reserved: [0; 4] }
    }

    /// Leaves the digest in the scratch's state.
    #[inline(always)]
    fn digest_in(&self, scratch: &mut Scratch, counter: [u8; 8]) {
        scratch.tail = self.tail;
        // Masked so that the verifier sees the bound; 64 + 8 is inside the tail.
        let at = (self.counter_at & 63) as usize;
        let mut i = 0;
        while i < 8 {
            scratch.tail[at + i] = counter[i];
            i += 1;
        }
        begin(scratch, &self.inner);
        let mut block = 0;
        while block < 2 && block < self.blocks as usize {
            scratch.load(block);
            sha1::compress(scratch);
            block += 1;
        }
        scratch.wrap(5);
        begin(scratch, &self.outer);
        sha1::compress(scratch);
    }
}

#[inline(always)]
fn begin(scratch: &mut Scratch, state: &[u32; 5]) {
    let mut i = 0;
    while i < 5 {
        scratch.state[i] = state[i];
        i += 1;
    }
}

impl fmt::Debug for Midstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Midstate(…)")
    }
}
