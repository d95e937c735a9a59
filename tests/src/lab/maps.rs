//! The pinned maps of a daemon, as a test reads them beside it, or spoils them.

use super::sys;
use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::MapData;
use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::path::Path;

/// Has the kernel refuse every change of this map from now on, by whomever but the programs.
///
/// # Errors
/// When there is no such map.
pub fn freeze(instance: &str, name: &str) -> Result<()> {
    let map = MapData::from_pin(Path::new("/sys/fs/bpf/carp").join(instance).join(name))?;
    let fd = u64::try_from(map.fd().as_fd().as_raw_fd())?;
    let mut attributes = [fd];
    sys::bpf(MAP_FREEZE, &mut attributes).context("freezing a map").map(drop)
}

/// The first so many entries of an array, in one look.
///
/// # Errors
/// What the kernel says, such as that there are fewer.
pub fn first<V: Pod>(map: &MapData, count: u32, empty: V) -> io::Result<Vec<V>> {
    let mut values = vec![empty; count as usize];
    let (mut keys, mut last) = (vec![0_u32; count as usize], 0_u32);
    let fd = u64::try_from(map.fd().as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let address = |address: usize| u64::try_from(address).map_err(io::Error::other);
    let mut attributes = [
        0,
        address((&raw mut last).expose_provenance())?,
        address(keys.as_mut_ptr().expose_provenance())?,
        address(values.as_mut_ptr().expose_provenance())?,
        fd << 32 | u64::from(count),
        0,
        0,
    ];
    sys::bpf(MAP_LOOKUP_BATCH, &mut attributes)?;
    Ok(values)
}

/// Linux 5.6.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
/// Linux 5.2.
const MAP_FREEZE: libc::c_long = 22;
