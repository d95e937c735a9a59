//! The windows of all virtual hosts, and how many of them change at once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use aya::Pod;
use aya::maps::{Array, IterableMap, MapData};
use carp_common::map::{HEARD, Host, HostKey, WINDOWS, Window};

use super::read::{self, Standing};
use super::{Error, shift, sys};
use crate::io::clock;

/// The maps `WINDOWS` and `HEARD`, and `PULSE` to read it.
pub(super) struct Windows {
    windows: Array<MapData, Window>,
    heard: Array<MapData, u64>,
    pulse: Array<MapData, u64>,
    /// What was last written to a slot, or read from it first.
    shadow: BTreeMap<u32, Window>,
}

impl Windows {
    pub(super) fn new(
        windows: Array<MapData, Window>,
        heard: Array<MapData, u64>,
        pulse: Array<MapData, u64>,
    ) -> Self {
        Self { windows, heard, pulse, shadow: BTreeMap::new() }
    }

    /// Says from when until when these slots may serve, thousands of them in a millisecond: a call of the kernel
    /// for the last step of all of them, and one for each step before (see `shift`). One that is armed
    /// anew counts its master's silence from now on.
    ///
    /// # Errors
    /// A slot of `MAX_HOSTS` or more; the kernel's. Those after it are as they were.
    pub(super) fn set(&mut self, changes: &[(u32, Window)]) -> Result<(), Error> {
        let slots: BTreeSet<u32> = changes.iter().map(|(slot, _)| *slot).collect();
        if slots.len() < changes.len() {
            // In turn: one slot changes more than once.
            return changes.iter().try_for_each(|change| self.set(std::slice::from_ref(change)));
        }
        let (mut heard, mut rounds) = (Vec::new(), Vec::<Vec<(u32, Window)>>::new());
        for (slot, window) in changes {
            let current = self.current(*slot)?;
            if window.is_armed_anew(&current) {
                heard.push((window.clock(*slot), clock::now().nanos()));
            }
            let steps: Vec<Window> = shift::steps(current, *window).collect();
            // The last steps in one call, so that all of them change together.
            rounds.resize_with(rounds.len().max(steps.len()), Vec::new);
            for (step, round) in steps.iter().rev().zip(&mut rounds) {
                round.push((*slot, *step));
            }
        }
        write(self.heard.map(), HEARD, &heard)?;
        for round in rounds.iter().rev() {
            write(self.windows.map(), WINDOWS, round)?;
            self.shadow.extend(round.iter().copied());
        }
        Ok(())
    }

    /// No master of this slot was heard.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn forget(&mut self, slot: u32) -> Result<(), Error> {
        self.heard.set(slot, 0, 0).map_err(|error| Error::map(HEARD, &error))
    }

    /// As they are in the kernel, of these virtual hosts.
    pub(super) fn read(&self, hosts: &[(HostKey, Host)]) -> Result<BTreeMap<u32, Standing>, Error> {
        read::windows(hosts, &self.windows, (&self.heard, &self.pulse))
    }

    /// The map `PULSE`.
    pub(super) fn pulse(&self) -> &MapData {
        self.pulse.map()
    }

    fn current(&self, slot: u32) -> Result<Window, Error> {
        match self.shadow.get(&slot) {
            Some(current) => Ok(*current),
            None => self.windows.get(&slot, 0).map_err(|error| Error::map(WINDOWS, &error)),
        }
    }
}

fn write<V: Pod>(map: &MapData, name: &'static str, entries: &[(u32, V)]) -> Result<(), Error> {
    let (slots, values): (Vec<u32>, Vec<V>) = entries.iter().copied().unzip();
    let file: BorrowedFd<'_> = map.fd().as_fd();
    sys::update(file, &slots, &values).map_err(|error| Error::pinned_map(name, &error))
}
