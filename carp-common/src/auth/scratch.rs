//! Where digests are worked out, and the hashing of what comes in parts.

use super::Key;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes that both hashes take at a time.
pub(super) const BLOCK: usize = 64;

/// Where a digest is worked out. A value of its own because in BPF it has to lie in a map: a stack
/// is too small, and older kernels refuse a place in it that is known at run time only.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Scratch {
    /// The rest of the inner message.
    pub(super) tail: [u8; 2 * BLOCK],
    /// The block at work; SHA-1 puts the rest of its schedule behind it.
    pub(super) words: [u32; 80],
    /// The hash so far; SHA-1 has five words of it.
    pub(super) state: [u32; 8],
}

impl Scratch {
    /// Nothing in it yet.
    pub const fn new() -> Self {
        Self { tail: [0; 2 * BLOCK], words: [0; 80], state: [0; 8] }
    }

    /// Puts a block of the tail, the first or the second, to work.
    #[inline(always)]
    pub(super) fn load(&mut self, block: usize) {
        let mut i = 0;
        while i < 16 {
            let byte = |at: usize| self.tail[(block & 1) * BLOCK + 4 * i + at];
            self.words[i] = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
            i += 1;
        }
    }

    /// Puts the outer message of an HMAC to work: an inner digest of so many words.
    #[inline(always)]
    pub(super) fn wrap(&mut self, digest: usize) {
        const END: u32 = 0x8000_0000;
        // Word by word: of a loop the compiler makes a call that writes bytes. Last come the bits of the key
        // block and the inner digest.
        let [a, b, c, d, e, f, g, h] = self.state;
        let block: [u32; BLOCK / 4] = match digest {
            5 => [a, b, c, d, e, END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8 * (64 + 20)],
            _ => [a, b, c, d, e, f, g, h, END, 0, 0, 0, 0, 0, 0, 8 * (64 + 32)],
        };
        if let Some(words) = self.words.first_chunk_mut() {
            *words = block;
        }
    }

    /// Whether a digest is right, in constant time.
    #[inline(always)]
    pub(super) fn is_digest(&self, digest: &[u8; 20]) -> bool {
        let mut difference = 0;
        for (ours, theirs) in self.state.iter().zip(digest.as_chunks::<4>().0) {
            difference |= ours ^ u32::from_be_bytes(*theirs);
        }
        core::hint::black_box(difference) == 0
    }

    /// The first 20 bytes of the digest.
    pub(super) fn digest(&self) -> [u8; 20] {
        let mut digest = [0; 20];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// A hash over a message that comes in parts.
pub(super) struct Hasher {
    pub(super) scratch: Scratch,
    compress: fn(&mut Scratch),
    pub(super) block: [u8; BLOCK],
    pub(super) fill: usize,
    pub(super) bytes: u64,
}

impl Hasher {
    /// Started with the key block of HMAC (RFC 2104): the key, zero-padded, xor `pad`.
    pub(super) fn keyed((start, compress): ([u32; 8], fn(&mut Scratch)), key: &Key, pad: u8) -> Self {
        let scratch = Scratch { state: start, ..Scratch::new() };
        let mut hash = Self { scratch, compress, block: [0; BLOCK], fill: 0, bytes: 0 };
        let mut block = [pad; BLOCK];
        for (byte, key) in block.iter_mut().zip(key.0) {
            *byte ^= key;
        }
        hash.absorb(&block);
        hash
    }

    pub(super) fn absorb(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.block[self.fill] = *byte;
            self.fill += 1;
            self.bytes += 1;
            if self.fill == BLOCK {
                for (word, bytes) in self.scratch.words.iter_mut().zip(self.block.as_chunks::<4>().0) {
                    *word = u32::from_be_bytes(*bytes);
                }
                (self.compress)(&mut self.scratch);
                self.fill = 0;
            }
        }
    }

    /// Zeros up to the end of the block.
    pub(super) fn fill_block(&mut self) {
        while self.fill != 0 {
            self.absorb(&[0]);
        }
    }
}
