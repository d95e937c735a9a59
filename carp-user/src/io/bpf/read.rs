//! Reading the maps, also without a daemon: what `carpctl` shows then.

use std::collections::BTreeMap;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use carp_common::map::{COUNTERS, Counter, HOSTS, Host, HostKey, VIPS, Vip, VipKey, WINDOWS, Window};

use super::Error;
use super::pins::{BPFFS, Found, Pins};

const COUNT: usize = Counter::COUNT as usize;

/// What the datapath did, by counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; COUNT]);

/// The state of a datapath that no daemon looks after.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The virtual hosts.
    pub hosts: Vec<(HostKey, Host)>,
    /// Their addresses.
    pub vips: Vec<(VipKey, Vip)>,
    /// Their windows, by slot.
    pub windows: BTreeMap<u32, Window>,
    /// What was done since the maps were made.
    pub counters: Counters,
    /// Names of the interfaces that the program is attached to, by index.
    pub interfaces: BTreeMap<u32, String>,
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
}

/// Reads the pinned maps of an instance, changing nothing.
///
/// # Errors
/// When nothing is pinned under that name, or by another version; the kernel's.
pub fn read_pinned(instance: &str) -> Result<Pinned, Error> {
    let pins = Pins::of(instance)?;
    match pins.look() {
        Found::Ours => {}
        Found::Nothing => return Err(Error::NotPinned { instance: instance.to_owned() }),
        Found::Stale => return Err(Error::OtherVersion { instance: instance.to_owned() }),
    }
    let open =
        |name: &'static str| MapData::from_pin(pins.map(name)).map_err(|error| Error::map(name, &error));
    let failed = |name: &'static str| move |error: MapError| Error::map(name, &error);
    let hosts = HashMap::try_from(Map::HashMap(open(HOSTS)?)).map_err(failed(HOSTS))?;
    let hosts = entries(&hosts).map_err(failed(HOSTS))?;
    let vips = HashMap::try_from(Map::HashMap(open(VIPS)?)).map_err(failed(VIPS))?;
    let slots = Array::try_from(Map::Array(open(WINDOWS)?)).map_err(failed(WINDOWS))?;
    let counts = PerCpuArray::try_from(Map::PerCpuArray(open(COUNTERS)?)).map_err(failed(COUNTERS))?;
    let attached = pins.links()?.into_iter().filter(|link| link.ifindex != 0);
    Ok(Pinned {
        windows: windows(&hosts, &slots)?,
        vips: entries(&vips).map_err(failed(VIPS))?,
        hosts,
        counters: counters(&counts)?,
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

/// The windows of these hosts, by slot.
pub(super) fn windows(
    hosts: &[(HostKey, Host)],
    windows: &Array<MapData, Window>,
) -> Result<BTreeMap<u32, Window>, Error> {
    let read = |slot| Ok((slot, windows.get(&slot, 0).map_err(|error| Error::map(WINDOWS, &error))?));
    hosts.iter().map(|(_, host)| read(host.slot)).collect()
}

/// Summed over the CPUs.
pub(super) fn counters(map: &PerCpuArray<MapData, u64>) -> Result<Counters, Error> {
    let mut counters = Counters::default();
    for (counter, sum) in Counter::ALL.iter().zip(&mut counters.0) {
        let values = map.get(&(*counter as u32), 0).map_err(|error| Error::map(COUNTERS, &error))?;
        *sum = values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
    }
    Ok(counters)
}
