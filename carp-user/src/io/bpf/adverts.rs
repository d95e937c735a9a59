//! What the datapath tells of adverts: those that it accepted, and samples of those that it did not,
//! each through a ring of its own, so that the latter never keep out the former.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use carp_common::map::{Captured, Sample};
use zerocopy::FromBytes;

/// Both rings.
#[derive(Debug)]
pub struct Rings {
    /// What it accepted.
    pub adverts: Adverts,
    /// Some of what it did not.
    pub samples: Samples,
}

/// The adverts that the datapath has heard, oldest first.
pub struct Adverts {
    ring: RingBuf<MapData>,
}

/// Some of the adverts that it refused.
pub struct Samples {
    ring: RingBuf<MapData>,
}

impl Adverts {
    /// Without those that an earlier daemon left unread.
    pub(super) fn fresh(ring: RingBuf<MapData>) -> Self {
        Self { ring: emptied(ring) }
    }

    /// The next one, or `None` until the descriptor is readable again.
    #[expect(clippy::should_implement_trait, reason = "more may follow after a `None`")]
    pub fn next(&mut self) -> Option<Captured> {
        let record = self.ring.next()?;
        // A record of another length cannot be: the version of the maps would be another.
        Captured::read_from_bytes(&record).ok()
    }
}

impl Samples {
    /// Without those that an earlier daemon left unread.
    pub(super) fn fresh(ring: RingBuf<MapData>) -> Self {
        Self { ring: emptied(ring) }
    }

    /// The next one, or `None` until the descriptor is readable again.
    #[expect(clippy::should_implement_trait, reason = "more may follow after a `None`")]
    pub fn next(&mut self) -> Option<Sample> {
        Sample::read_from_bytes(&self.ring.next()?).ok()
    }
}

fn emptied(mut ring: RingBuf<MapData>) -> RingBuf<MapData> {
    /// More than a ring holds.
    const LEFT_UNREAD: u32 = 1024;
    (0..LEFT_UNREAD).find(|_| ring.next().is_none());
    ring
}

impl fmt::Debug for Adverts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adverts").finish_non_exhaustive()
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

impl AsFd for Adverts {
    /// Readable while there are adverts. It belongs to the ring: watch a duplicate.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsFd for Samples {
    /// Likewise.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
