//! The datapath's table of virtual hosts (see `carp_common::map::Link`), as the daemon writes it.

use aya::maps::{Array, MapData};
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{HOSTS, Host, HostKey, LINK_PLACES, LINK_STEPS, LINKS, Link, MAX_HOSTS};

use super::Error;
use super::read::values;

/// The maps `LINKS` and `HOSTS`, and what is in them.
pub(super) struct Hosts {
    links: Array<MapData, Link>,
    entries: Array<MapData, Host>,
    table: HostTable,
}

/// What is in the maps. The number of a virtual host in `HOSTS` is its slot.
#[derive(Debug)]
pub struct HostTable {
    links: Vec<Link>,
    entries: Vec<Host>,
}

impl Hosts {
    /// What these maps hold.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(links: Array<MapData, Link>, entries: Array<MapData, Host>) -> Result<Self, Error> {
        let table = HostTable { links: values(&links, LINKS)?, entries: values(&entries, HOSTS)? };
        Ok(Self { links, entries, table })
    }

    /// All that there are.
    pub(super) fn all(&self) -> Vec<(HostKey, Host)> {
        self.table.all()
    }

    /// One of them.
    pub(super) fn get(&self, key: &HostKey) -> Option<Host> {
        self.table.get(key)
    }

    /// Adds or changes one.
    ///
    /// # Errors
    /// The kernel's; no place for it.
    pub(super) fn set(&mut self, key: &HostKey, host: Host) -> Result<(), Error> {
        let place = self.table.set(key, host).ok_or(Error::TooManyLinks { ifindex: key.ifindex })?;
        // Nobody is led to an entry that is not written yet.
        self.write_entry(host.slot)?;
        self.write_link(place)
    }

    /// Removes one.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove(&mut self, key: &HostKey) -> Result<(), Error> {
        match self.table.remove(key) {
            Some(place) => self.write_link(place),
            None => Ok(()),
        }
    }

    fn write_entry(&mut self, slot: u32) -> Result<(), Error> {
        let entry = self.table.entry(slot);
        self.entries.set(slot, entry, 0).map_err(|error| Error::map(HOSTS, &error))
    }

    fn write_link(&mut self, place: u32) -> Result<(), Error> {
        let link = self.table.link(place);
        self.links.set(place, link, 0).map_err(|error| Error::map(LINKS, &error))
    }
}

impl HostTable {
    /// An empty one.
    pub fn empty() -> Self {
        let entries = vec![Host::NONE; MAX_HOSTS as usize];
        Self { links: vec![Link::NONE; LINK_PLACES as usize], entries }
    }

    /// What stands at a place of `LINKS`.
    pub fn link(&self, place: u32) -> Link {
        self.links.get(place as usize).copied().unwrap_or(Link::NONE)
    }

    /// What stands in `HOSTS` at this slot.
    pub fn entry(&self, slot: u32) -> Host {
        self.entries.get(slot as usize).copied().unwrap_or(Host::NONE)
    }

    /// All virtual hosts.
    pub fn all(&self) -> Vec<(HostKey, Host)> {
        let links = self.links.iter().filter_map(|link| Some((link.link()?, link)));
        let hosts = links.flat_map(|(index, link)| {
            link.hosts().map(move |(vhid, slot)| (HostKey::new(index, vhid), self.entry(slot)))
        });
        hosts.filter(|(_, host)| host.exists()).collect()
    }

    /// One of them.
    pub fn get(&self, key: &HostKey) -> Option<Host> {
        let (link, vhid) = parts(key)?;
        let slot = Link::find(link, vhid, 0, |place| self.links.get(place as usize))?;
        Some(self.entry(slot)).filter(Host::exists)
    }

    /// Adds or changes one. The place of its link; `None` when there is none, or the slot is none.
    pub fn set(&mut self, key: &HostKey, host: Host) -> Option<u32> {
        let (link, vhid) = parts(key)?;
        let place = self.place_of(link).or_else(|| self.place_for(link))?;
        *self.entries.get_mut(host.slot as usize)? = host;
        let here = self.links.get_mut(place as usize)?;
        if !here.is(link) {
            *here = Link::new(link);
        }
        here.set(vhid, Some(host.slot));
        Some(place)
    }

    /// Removes one. The place of its link; `None` when it is not there.
    pub fn remove(&mut self, key: &HostKey) -> Option<u32> {
        let (link, vhid) = parts(key)?;
        let place = self.place_of(link)?;
        let here = self.links.get_mut(place as usize)?;
        here.set(vhid, None);
        if here.hosts().next().is_none() {
            *here = Link::FORMER;
        }
        Some(place)
    }

    fn place_of(&self, link: IfIndex) -> Option<u32> {
        let places = places(link).take_while(|place| !self.link(*place).is_free());
        places.into_iter().find(|place| self.link(*place).is(link))
    }

    fn place_for(&self, link: IfIndex) -> Option<u32> {
        places(link).find(|place| self.link(*place).link().is_none())
    }
}

fn places(link: IfIndex) -> impl Iterator<Item = u32> {
    (0..LINK_STEPS).map(move |step| Link::place(link, step))
}

fn parts(key: &HostKey) -> Option<(IfIndex, Vhid)> {
    Some((IfIndex(key.ifindex), Vhid::new(u8::try_from(key.vhid).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(link: u32, vhid: u8) -> HostKey {
        HostKey::new(IfIndex(link), Vhid::new(vhid).unwrap())
    }

    fn host(slot: u32) -> Host {
        Host { slot, link_mac: [2, 0, 0, 0, 0, 1], flags: 0 }
    }

    /// As the datapath does it: which of the steps finds the link, and what is there.
    fn steps(table: &HostTable, link: u32) -> Option<usize> {
        places(IfIndex(link)).position(|place| table.link(place).is(IfIndex(link)))
    }

    #[test]
    fn as_many_virtual_hosts_as_there_can_be_are_all_found_and_on_links_in_a_row_at_once() {
        let mut table = HostTable::empty();
        let keys: Vec<HostKey> =
            (2..=17).flat_map(|link| (1..=255).map(move |vhid| key(link, vhid))).collect();
        for (slot, key) in (0..).zip(&keys) {
            assert_eq!(table.get(key), None);
            table.set(key, host(slot)).expect("there is room");
        }
        assert!((0..).zip(&keys).all(|(slot, key)| table.get(key) == Some(host(slot))));
        assert!((2..=17).all(|link| steps(&table, link) == Some(0)));
        assert_eq!(table.all().len(), keys.len());
    }

    #[test]
    fn nearly_a_thousand_links_have_room_and_one_too_many_is_refused() {
        let mut table = HostTable::empty();
        let room = (2..=5000).take_while(|link| table.set(&key(*link, 1), host(0)).is_some()).count();
        assert!(room > 950, "{room}");
        assert!((2..).take(room).all(|link| table.get(&key(link, 1)).is_some()));
    }

    #[test]
    fn behind_a_link_that_goes_others_are_found_and_its_place_is_used_again() {
        let mut table = HostTable::empty();
        let first = 2;
        let second =
            (3..).find(|link| Link::place(IfIndex(*link), 0) == Link::place(IfIndex(first), 0)).unwrap();
        table.set(&key(first, 7), host(1)).unwrap();
        table.set(&key(second, 7), host(2)).unwrap();
        assert_eq!((steps(&table, first), steps(&table, second)), (Some(0), Some(1)));
        table.remove(&key(first, 7)).unwrap();
        assert_eq!((table.get(&key(first, 7)), table.get(&key(second, 7))), (None, Some(host(2))));
        table.set(&key(second, 8), host(3)).unwrap();
        assert_eq!(steps(&table, second), Some(1), "it stays where it is");
        table.set(&key(first, 9), host(4)).unwrap();
        assert_eq!((steps(&table, first), table.get(&key(first, 9))), (Some(0), Some(host(4))));
        assert_eq!(table.get(&key(first, 7)), None);
    }
}
