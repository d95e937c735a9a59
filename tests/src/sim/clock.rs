//! A machine's own clock: it started at another time than the others' and runs at another pace.

use carp_common::time::Instant;
use core::num::NonZeroU64;

/// Parts in a million: the pace of an exact clock.
pub const EXACT: NonZeroU64 = NonZeroU64::new(1_000_000).expect("a million is not zero");

/// Translates between the world's time and one machine's `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it reads when the world begins, nanoseconds.
    pub offset: u64,
    /// How far it moves in a million; [`EXACT`] keeps the world's pace.
    pub pace: NonZeroU64,
}

impl Clock {
    /// What the machine reads at this moment of the world.
    pub fn read(&self, now: Instant) -> Instant {
        let moved = u128::from(now.nanos()) * u128::from(self.pace.get()) / u128::from(EXACT.get());
        Instant::from_nanos(u64::try_from(moved).unwrap_or(u64::MAX).saturating_add(self.offset))
    }

    /// The first moment of the world at which the machine reads `local` or later.
    pub fn when(&self, local: Instant) -> Instant {
        let moved = u128::from(local.nanos().saturating_sub(self.offset));
        let world = (moved * u128::from(EXACT.get())).div_ceil(u128::from(self.pace.get()));
        Instant::from_nanos(u64::try_from(world).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_found_again_on_any_clock() {
        for pace in [999_800, 1_000_000, 1_000_200, 2_000_000] {
            let clock = Clock { offset: 77_000_000_123, pace: NonZeroU64::new(pace).unwrap() };
            for now in [0, 1, 999, 1_000_000_007, 123_456_789_012] {
                let local = clock.read(Instant::from_nanos(now));
                let found = clock.when(local);
                assert_eq!(clock.read(found), local);
                assert!(found <= Instant::from_nanos(now));
            }
        }
    }
}
