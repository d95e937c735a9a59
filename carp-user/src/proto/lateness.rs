//! How late wake-ups come: a histogram whose buckets are powers of two of a microsecond, so that one that is looked at rarely
//! shows the rare ones, too, and takes no memory for the others.

use carp_common::time::Span;

/// Buckets. The first is for less than a microsecond, each other one for less than twice as much as the one before it. Policy:
/// the last one takes whatever is later.
pub const BUCKETS: usize = 24;

/// Wake-ups that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    counts: [u64; BUCKETS],
    worst: Span,
}

impl Lateness {
    /// One came so late.
    pub fn note(&mut self, late: Span) {
        let bits = u64::BITS - late.as_micros().leading_zeros();
        let bucket = usize::try_from(bits).unwrap_or(BUCKETS).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.worst = self.worst.max(late);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// By bucket.
    pub const fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    /// The latest.
    pub const fn worst(&self) -> Span {
        self.worst
    }

    /// So many of a hundred were not later: the end of the bucket in which the last of these is. Nothing of none.
    pub fn percentile(&self, of_hundred: u64) -> Span {
        let wanted = (self.count() * of_hundred).div_ceil(100).max(1);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= wanted {
                return Span::micros(1 << bucket).min(self.worst);
            }
        }
        self.worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Lateness {
        let mut lateness = Lateness::default();
        micros.iter().for_each(|micros| lateness.note(Span::micros(*micros)));
        lateness
    }

    #[test]
    fn each_falls_into_the_bucket_that_ends_above_it() {
        let lateness = of(&[0, 1, 2, 3, 4, 1_000, u64::MAX / 1_000]);
        let counts = lateness.counts();
        assert_eq!((&counts[..5], counts[10], counts[BUCKETS - 1]), (&[1, 1, 2, 1, 0][..], 1, 1));
        assert_eq!((lateness.count(), lateness.worst()), (7, Span::micros(u64::MAX / 1_000)));
    }

    #[test]
    fn a_percentile_is_the_end_of_its_bucket_and_never_more_than_the_worst() {
        let lateness = of(&[&[50; 99][..], &[9_000]].concat());
        assert_eq!(lateness.percentile(50), Span::micros(64));
        assert_eq!(lateness.percentile(99), Span::micros(64));
        assert_eq!(lateness.percentile(100), Span::micros(9_000), "and not 16 ms");
        assert_eq!(Lateness::default().percentile(99), Span::ZERO);
    }
}
