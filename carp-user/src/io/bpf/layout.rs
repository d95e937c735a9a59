//! The maps: what each must look like in the kernel, and which pinned by another version of carp are
//! gone on with. The one list of them that the loader has.

use std::path::Path;

use aya::maps::{MapData, MapInfo, MapType};
use carp_common::admission::Auth;
use carp_common::map::{
    self, Captured, Counts, Decision, GroupProbes, Host, Link, ProbeKeys, Probed, Sample, SenderKey,
    VipBlock, VipEntry, Window,
};
use carp_common::sender::Sender;

use super::Error;
use super::sys::{self, Access};

/// A map.
#[derive(Debug)]
pub(super) struct Layout {
    /// Its name, in the object and as a pin.
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
    /// The version of [`map::ABI`] since which it is what it is, in shape and in meaning.
    since: u32,
    /// Members of group `carp` may read it; else root alone may.
    pub(super) shared: bool,
}

/// Every map of the object.
pub(super) const MAPS: [Layout; 18] = [
    layout::<u32, Link>(map::LINKS, MapType::Array, map::LINK_PLACES, 8).shared(),
    layout::<u32, Host>(map::HOSTS, MapType::Array, map::MAX_HOSTS, 8).shared(),
    layout::<u32, VipBlock>(map::VIP_INDEX, MapType::Array, map::VIP_BLOCKS, 7).shared(),
    layout::<u32, VipEntry>(map::VIPS, MapType::Array, map::MAX_VIPS + 1, 7).shared(),
    layout::<u32, Window>(map::WINDOWS, MapType::Array, map::MAX_HOSTS, 10).shared(),
    layout::<u32, u64>(map::HEARD, MapType::Array, map::MAX_HOSTS, 3).shared(),
    layout::<(), ()>(map::ADVERTS, MapType::RingBuf, map::RING_BYTES, 1),
    layout::<(), ()>(map::REFUSED, MapType::RingBuf, map::RING_BYTES, 5),
    layout::<u32, Counts>(map::COUNTERS, MapType::PerCpuArray, map::MAX_HOSTS, 10).shared(),
    layout::<u32, Auth>(map::AUTH, MapType::Array, map::MAX_HOSTS, 6),
    layout::<SenderKey, Sender>(map::SENDERS, MapType::Hash, map::MAX_SENDERS, 6),
    layout::<u32, u64>(map::CHALLENGES, MapType::Array, map::MAX_HOSTS, 6),
    layout::<u32, u64>(map::PULSE, MapType::Array, 1, 10).shared(),
    layout::<u32, ProbeKeys>(map::PROBE_KEYS, MapType::Array, map::MAX_HOSTS, 10),
    layout::<u32, GroupProbes>(map::GROUP_PROBES, MapType::Array, map::MAX_GROUPS, 11),
    layout::<u32, Probed>(map::PROBED, MapType::Array, map::MAX_PATHS, 10),
    layout::<u32, u64>(map::TRACE, MapType::Array, 2, 5),
    layout::<(), ()>(map::DECISIONS, MapType::RingBuf, map::DECISIONS_BYTES, 5),
];

// What a record of a ring buffer looks like is in no map's shape: it is in the version alone.
const _: () =
    assert!(size_of::<Captured>() == 144 && size_of::<Sample>() == 152 && size_of::<Decision>() == 88);

const fn layout<K, V>(name: &'static str, kind: MapType, entries: u32, since: u32) -> Layout {
    assert!(since <= map::ABI);
    let (key, value) = (size_of::<K>(), size_of::<V>());
    Layout { name, kind, key, value, entries, since, shared: false }
}

impl Layout {
    const fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Whether the map that is pinned here by this version of carp is gone on with. Of a newer
    /// version nothing is: what its maps mean is not known here.
    pub(super) fn is_kept(&self, version: Option<u32>, pin: &Path) -> bool {
        self.is_of(version)
            && read(self.name, pin).is_ok_and(|map| map.info().is_ok_and(|info| self.fits(&info)))
    }

    fn is_of(&self, version: Option<u32>) -> bool {
        version.is_some_and(|version| (self.since..=map::ABI).contains(&version))
    }

    fn fits(&self, info: &MapInfo) -> bool {
        let is_size = |given: u32, wanted: usize| usize::try_from(given) == Ok(wanted);
        info.map_type().is_ok_and(|kind| kind == self.kind)
            && is_size(info.key_size(), self.key)
            && is_size(info.value_size(), self.value)
            && info.max_entries() == self.entries
    }
}

/// Opens a pinned map to read it, which its group may.
///
/// # Errors
/// The kernel's.
pub(super) fn read(name: &'static str, pin: &Path) -> Result<MapData, Error> {
    let map = sys::open_pin(pin, Access::Read).map_err(|error| Error::pinned_map(name, &error))?;
    MapData::from_fd(map).map_err(|error| Error::map(name, &error))
}
