//! Reading the maps, also without a daemon: what `carpctl` shows then.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, IterableMap, Map, MapData, MapError, PerCpuArray};
use carp_common::map::{
    COUNTERS, Counter, Counts, HEARD, HOSTS, Host, HostKey, LINKS, NO_COUNTS, PULSE, VIP_INDEX, VIPS,
    VipEntry, WINDOWS, Window,
};
use carp_common::time::Instant;
use zerocopy::FromZeros;

use super::Error;
use super::hosts::Hosts;
use super::layout;
use super::pins::{BPFFS, Pins};
use super::sys;
use super::tc::Way;
use super::vips::Vips;

/// What the datapath did for a virtual host, or for several, by counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters(Counts);

/// The window of a virtual host, and what else decides whether it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The window.
    pub window: Window,
    /// When its master was heard last; zero is never.
    pub heard: Instant,
}

/// The state of a datapath that no daemon looks after.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The virtual hosts.
    pub hosts: Vec<(HostKey, Host)>,
    /// Their addresses.
    pub vips: Vec<VipEntry>,
    /// Their windows, by slot.
    pub windows: BTreeMap<u32, Standing>,
    /// What was done for each since the maps were made, by slot.
    pub counters: BTreeMap<u32, Counters>,
    /// Names of the interfaces that the program is attached to, by index.
    pub interfaces: BTreeMap<u32, String>,
    /// Build of the programs, as [`BUILD`](super::BUILD) is of this one's.
    pub build: String,
}

impl Default for Counters {
    fn default() -> Self {
        Self(NO_COUNTS)
    }
}

impl Counters {
    /// The value of one.
    pub fn get(&self, counter: Counter) -> u64 {
        Counter::ALL.iter().zip(self.0).find(|(name, _)| **name == counter).map_or(0, |(_, value)| value)
    }

    /// All of them, in the order of the map.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.into_iter().zip(self.0)
    }

    /// All of them, by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        self.iter().map(|(counter, count)| (counter.name().to_owned(), count)).collect()
    }

    /// Of several virtual hosts together.
    pub fn sum<'a>(of: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for counters in of {
            sum.0.iter_mut().zip(counters.0).for_each(|(sum, value)| *sum = sum.wrapping_add(value));
        }
        sum
    }
}

impl Standing {
    /// Whether the datapath serves at `now`.
    pub const fn is_open(&self, now: Instant) -> bool {
        self.window.is_open(self.heard, now)
    }
}

/// Reads the pinned maps of an instance, changing nothing.
///
/// # Errors
/// When nothing is pinned under that name, or by another version; the kernel's.
pub fn read_pinned(instance: &str) -> Result<Pinned, Error> {
    let pins = Pins::of(instance)?;
    pins.require(instance)?;
    let open = |name: &'static str| layout::read(name, &pins.map(name));
    let failed = |name: &'static str| move |error: MapError| Error::map(name, &error);
    let links = Array::try_from(Map::Array(open(LINKS)?)).map_err(failed(LINKS))?;
    let hosts = Array::try_from(Map::Array(open(HOSTS)?)).map_err(failed(HOSTS))?;
    let hosts = Hosts::new(links, hosts)?.all();
    let index = Array::try_from(Map::Array(open(VIP_INDEX)?)).map_err(failed(VIP_INDEX))?;
    let vips = Array::try_from(Map::Array(open(VIPS)?)).map_err(failed(VIPS))?;
    let slots = Array::try_from(Map::Array(open(WINDOWS)?)).map_err(failed(WINDOWS))?;
    let heard = Array::try_from(Map::Array(open(HEARD)?)).map_err(failed(HEARD))?;
    let pulse = Array::try_from(Map::Array(open(PULSE)?)).map_err(failed(PULSE))?;
    let counts = PerCpuArray::try_from(Map::PerCpuArray(open(COUNTERS)?)).map_err(failed(COUNTERS))?;
    // Whatever is at the front of a link, the fence for what leaves is behind it.
    let attached = pins.tc(Way::Out)?.into_iter().filter(|link| link.ifindex != 0);
    Ok(Pinned {
        windows: windows(&hosts, &slots, (&heard, &pulse))?,
        counters: counters(&hosts, &counts)?,
        vips: Vips::new(index, vips)?.all().collect(),
        hosts,
        build: pins.build().unwrap_or_default(),
        interfaces: attached.map(|link| (link.ifindex, link.name)).collect(),
    })
}

impl Pinned {
    /// The name of a link, or its number where no program of ours is attached any more.
    pub fn link_name(&self, ifindex: u32) -> String {
        self.interfaces.get(&ifindex).cloned().unwrap_or_else(|| format!("#{ifindex}"))
    }
}

/// Names of the instances that have pins which this user may list.
pub fn pinned_instances() -> Vec<String> {
    let folders = std::fs::read_dir(Path::new(BPFFS).join("carp")).into_iter().flatten();
    folders.flatten().filter_map(|folder| folder.file_name().into_string().ok()).collect()
}

/// The instance that pinned a program with this id to an interface, if any did.
pub fn instance_of(program: u32) -> Option<String> {
    let holds = |name: &String| {
        let links = Pins::of(name).and_then(|pins| pins.links()).unwrap_or_default();
        links.iter().any(|link| link.program == program)
    };
    pinned_instances().into_iter().find(holds)
}

/// All entries, in no order.
pub(super) fn entries<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> Result<Vec<(K, V)>, MapError> {
    map.iter().collect()
}

/// All values of an array, by number.
pub(super) fn values<V: Pod + FromZeros>(
    map: &Array<MapData, V>,
    name: &'static str,
) -> Result<Vec<V>, Error> {
    sys::read(map.map().fd().as_fd(), map.len()).map_err(|error| Error::pinned_map(name, &error))
}

/// The windows of these hosts, by slot, as far as the daemon's pulse lets them last.
pub(super) fn windows(
    hosts: &[(HostKey, Host)],
    windows: &Array<MapData, Window>,
    (heard, pulse): (&Array<MapData, u64>, &Array<MapData, u64>),
) -> Result<BTreeMap<u32, Standing>, Error> {
    let pulse = Instant::from_nanos(pulse.get(&0, 0).map_err(|error| Error::map(PULSE, &error))?);
    let read = |slot| {
        let window = windows.get(&slot, 0).map_err(|error| Error::map(WINDOWS, &error))?;
        let heard = heard.get(&window.clock(slot), 0).map_err(|error| Error::map(HEARD, &error))?;
        Ok((slot, Standing { window: window.under(pulse), heard: Instant::from_nanos(heard) }))
    };
    hosts.iter().map(|(_, host)| read(host.slot)).collect()
}

/// Of these hosts, by slot, each summed over the CPUs.
pub(super) fn counters(
    hosts: &[(HostKey, Host)],
    map: &PerCpuArray<MapData, Counts>,
) -> Result<BTreeMap<u32, Counters>, Error> {
    let read = |slot| {
        let values = map.get(&slot, 0).map_err(|error| Error::map(COUNTERS, &error))?;
        let per_cpu: Vec<Counters> = values.iter().map(|counts| Counters(*counts)).collect();
        Ok((slot, Counters::sum(&per_cpu)))
    };
    hosts.iter().map(|(_, host)| read(host.slot)).collect()
}
