//! The datapath's log of decisions, from its pinned maps: so it works without a daemon too.

use std::fmt;
use std::fs::{File, TryLockError};

use aya::maps::{Array, MapData, RingBuf};
use carp_common::map::{DECISIONS, Decision, TRACE, TRACE_LOST, TRACE_UNTIL};
use carp_common::time::Instant;
use zerocopy::FromBytes;

use super::Error;
use super::load::Maps;
use super::pins::Pins;

/// The log of one instance, and its switch. Off when dropped; off by itself when its holder is killed.
pub struct Trace {
    switch: Array<MapData, u64>,
    ring: RingBuf<MapData>,
    /// The ring has one reader.
    _lock: File,
}

impl Trace {
    /// Of this instance, switched off and empty.
    ///
    /// # Errors
    /// Nothing pinned under that name, or by another version; another reader; whoever is not root.
    pub fn open(instance: &str) -> Result<Self, Error> {
        let pins = Pins::of(instance)?;
        pins.require(instance)?;
        let lock = pins.folder()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Traced { instance: instance.to_owned() }),
            Err(TryLockError::Error(source)) => {
                return Err(Error::Pin { doing: "locking", path: pins.map(""), source });
            }
        }
        let mut maps = Maps::Pinned(&pins);
        let (switch, ring) = (maps.take(TRACE, Array::try_from)?, maps.take(DECISIONS, RingBuf::try_from)?);
        let mut trace = Self { switch, ring, _lock: lock };
        trace.until(Instant::ZERO)?;
        while trace.next().is_some() {}
        trace.set(TRACE_LOST, 0)?;
        Ok(trace)
    }

    /// Has decisions logged until this moment.
    ///
    /// # Errors
    /// The kernel's.
    pub fn until(&mut self, moment: Instant) -> Result<(), Error> {
        self.set(TRACE_UNTIL, moment.nanos())
    }

    /// The next decision, oldest first.
    #[expect(clippy::should_implement_trait, reason = "more may follow after a `None`")]
    pub fn next(&mut self) -> Option<Decision> {
        // A record of another length cannot be: the version of the maps would be another.
        Decision::read_from_bytes(&self.ring.next()?).ok()
    }

    /// About how many there was no room for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lost(&self) -> Result<u64, Error> {
        self.switch.get(&TRACE_LOST, 0).map_err(|error| Error::map(TRACE, &error))
    }

    fn set(&mut self, entry: u32, value: u64) -> Result<(), Error> {
        self.switch.set(entry, value, 0).map_err(|error| Error::map(TRACE, &error))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It goes off by itself should this fail.
        let _on = self.until(Instant::ZERO);
    }
}
