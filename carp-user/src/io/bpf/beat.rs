//! What the prober shares with the programs in the kernel, as memory: how long the daemon is taken to run, and what was
//! answered. No call for each of a thousand moments a second.
#![expect(unsafe_code, reason = "the memory of a map is written by the kernel's programs at any time")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{IterableMap, MapData};
use carp_common::map::{
    GROUP_PROBES, GroupProbes, MAX_GROUPS, MAX_PATHS, PROBE_KEYS, PROBED, PULSE, ProbeKeys, Probed,
};
use carp_common::time::Instant;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{Datapath, Error};

/// Words of an entry of [`PROBED`].
const ENTRY: usize = size_of::<Probed>() / 8;

impl Datapath {
    /// Says by which keys probes for a slot are signed.
    ///
    /// # Errors
    /// A slot of `MAX_HOSTS` or more; the kernel's.
    pub fn set_probe_keys(&mut self, slot: u32, keys: ProbeKeys) -> Result<(), Error> {
        let failed = |error| Error::map(PROBE_KEYS, &error);
        if self.probe_keys.get(&slot, 0).map_err(failed)? == keys {
            return Ok(());
        }
        self.probe_keys.set(slot, keys, 0).map_err(failed)
    }

    /// Says how groups are asked for over the sync link, by number; all others are not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_group_probes(&mut self, groups: &BTreeMap<u8, GroupProbes>) -> Result<(), Error> {
        let failed = |error| Error::map(GROUP_PROBES, &error);
        for (place, number) in (0..MAX_GROUPS).zip(1..) {
            let wanted = groups.get(&number).copied().unwrap_or_default();
            if self.group_probes.get(&place, 0).map_err(failed)? != wanted {
                self.group_probes.set(place, wanted, 0).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What the prober shares with the programs, as memory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn beat(&self) -> Result<Beat, Error> {
        Beat::of(self.windows.pulse(), self.probed.map())
    }
}

/// The maps [`PULSE`] and [`PROBED`].
#[derive(Debug)]
pub struct Beat {
    pulse: Words,
    probed: Words,
}

/// The memory of a map whose values are made of words.
#[derive(Debug)]
struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: nothing but words that are read and written in one piece.
unsafe impl Send for Words {}

impl Beat {
    pub(super) fn of(pulse: &MapData, probed: &MapData) -> Result<Self, Error> {
        let entries = usize::try_from(MAX_PATHS).unwrap_or(0);
        let failed = |name| move |error: io::Error| Error::pinned_map(name, &error);
        Ok(Self {
            pulse: Words::of(pulse, 1).map_err(failed(PULSE))?,
            probed: Words::of(probed, entries * ENTRY).map_err(failed(PROBED))?,
        })
    }

    /// The daemon is taken to run until then.
    pub fn pulse(&self, until: Instant) {
        self.pulse.set(0, until.nanos());
    }

    /// Until when it is.
    pub fn pulse_until(&self) -> Instant {
        Instant::from_nanos(self.pulse.get(0))
    }

    /// From now on answers over this path count that carry this session; nothing is known of it.
    pub fn begin(&self, path: u16, session: u64) {
        let at = usize::from(path) * ENTRY;
        // No session at first: an answer to the one before may come in at this moment.
        for (word, value) in [(0, 0), (1, 0), (2, 0), (3, 0), (0, session)] {
            self.probed.set(at + word, value);
        }
    }

    /// The newest answer over this path.
    pub fn answered(&self, path: u16) -> Probed {
        let at = usize::from(path) * ENTRY;
        loop {
            let [session, sent_at, until, epoch] = [0, 1, 2, 3].map(|word| self.probed.get(at + word));
            if self.probed.get(at + 1) == sent_at {
                return Probed { session, sent_at, until, epoch };
            }
        }
    }
}

impl Words {
    fn of(map: &MapData, len: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), len * 8, protection, flags, map.fd().as_fd(), 0) }?;
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, len }),
            None => Err(io::ErrorKind::Other.into()),
        }
    }

    /// Past the end there is nothing.
    fn get(&self, at: usize) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        // SAFETY: the mapping has `len` words, is aligned to a page, and lasts as long as `self`.
        (at < self.len).then(|| unsafe { self.start.add(at).as_ref() })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it is this mapping, and nobody has it any more.
        let _gone = unsafe { munmap(self.start.as_ptr().cast(), self.len * 8) };
    }
}
