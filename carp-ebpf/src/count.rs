//! Counting what was done.

use carp_common::map::Counter;

use crate::maps;

/// Counts one frame.
#[inline(always)]
pub fn add(counter: Counter) {
    maps::increment(counter);
}
