//! The one source of chance: `SplitMix64` (Steele, Lea, Flood 2014), small and the same everywhere.

use carp_common::time::Span;

/// A stream of numbers that follows from its seed alone.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0. The slight bias of the remainder does not matter.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let drawn = self.draw();
        match drawn.checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// True in this many of a thousand cases.
    pub const fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A span between two, the first included.
    pub const fn span(&mut self, from: Span, to: Span) -> Span {
        Span::nanos(from.as_nanos() + self.below(to.as_nanos().saturating_sub(from.as_nanos())))
    }

    /// One of several, which are not none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
