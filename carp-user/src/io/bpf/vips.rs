//! The datapath's table of VIPs (see `carp_common::map::VipKey`), as the daemon writes it.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData, MapError};
use carp_common::map::{
    FORMER_VIP, MAX_VIPS, NO_VIP, VIP_BLOCKS, VIP_INDEX, VIPS, Vip, VipBlock, VipEntry, VipKey, VipPlace,
};

use super::Error;
use super::read::values;

/// The maps `VIP_INDEX` and `VIPS`, and what is in them.
pub(super) struct Vips {
    index: Array<MapData, VipBlock>,
    entries: Array<MapData, VipEntry>,
    table: VipTable,
}

/// What is in the maps.
#[derive(Debug)]
pub struct VipTable {
    index: Vec<VipBlock>,
    entries: Vec<VipEntry>,
    /// Numbers of entries that are nobody's, the next one last.
    free: Vec<u16>,
}

/// What a change of a [`VipTable`] changed, for the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Number of an entry.
    pub number: u16,
    /// Number of the block in which that number stands, or stood.
    pub block: u32,
}

impl Vips {
    /// What these maps hold.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(
        index: Array<MapData, VipBlock>,
        entries: Array<MapData, VipEntry>,
    ) -> Result<Self, Error> {
        let table = VipTable::new(values(&index, VIP_INDEX)?, values(&entries, VIPS)?);
        Ok(Self { index, entries, table })
    }

    /// All that there are, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = VipEntry> {
        self.table.all()
    }

    /// Adds or changes one.
    ///
    /// # Errors
    /// The kernel's; no place for it.
    pub(super) fn set(&mut self, key: VipKey, vip: Vip) -> Result<(), Error> {
        let no_place = || Error::NoPlace { address: key.address() };
        let changed = self.table.set(key, vip).ok_or_else(no_place)?;
        // Nobody is led to an entry that is not written yet.
        self.write_entry(changed)?;
        self.write_block(changed)
    }

    /// Removes all others.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn retain(&mut self, kept: &[VipKey]) -> Result<(), Error> {
        for key in self.table.others(kept) {
            if let Some(changed) = self.table.remove(&key) {
                self.write_block(changed)?;
                self.write_entry(changed)?;
            }
        }
        Ok(())
    }

    fn write_entry(&mut self, Changed { number, .. }: Changed) -> Result<(), Error> {
        let entry = self.table.entry(number);
        self.entries.set(u32::from(number), entry, 0).map_err(|error| failed(VIPS, &error))
    }

    fn write_block(&mut self, Changed { block, .. }: Changed) -> Result<(), Error> {
        let numbers = self.table.block(block);
        self.index.set(block, numbers, 0).map_err(|error| failed(VIP_INDEX, &error))
    }
}

impl VipTable {
    /// An empty one.
    pub fn empty() -> Self {
        let entries = vec![VipEntry::NONE; MAX_VIPS as usize + 1];
        Self::new(vec![[NO_VIP; _]; VIP_BLOCKS as usize], entries)
    }

    /// What two maps hold. A number of nobody, of one whose place it is not, or that stands there a second time was left
    /// behind by a daemon that was killed, or by one map without the other.
    fn new(mut index: Vec<VipBlock>, entries: Vec<VipEntry>) -> Self {
        let mut free: BTreeSet<u16> =
            (NO_VIP + 1..FORMER_VIP).take(entries.len().saturating_sub(1)).collect();
        for (block, numbers) in (0..).zip(&mut index) {
            for (at, number) in numbers.iter_mut().enumerate().filter(|(_, number)| **number != NO_VIP) {
                let entry = entries.get(usize::from(*number)).filter(|entry| entry.vip.exists());
                let place = VipPlace { block, at };
                let is_its = entry.is_some_and(|entry| entry.key.places().any(|its| its == place));
                if !(is_its && free.remove(number)) {
                    *number = FORMER_VIP;
                }
            }
        }
        Self { index, entries, free: free.into_iter().rev().collect() }
    }

    /// The numbers of a block; of one that cannot be, none.
    pub fn block(&self, block: u32) -> VipBlock {
        self.index.get(block as usize).copied().unwrap_or([NO_VIP; _])
    }

    /// The entry with a number.
    pub fn entry(&self, number: u16) -> VipEntry {
        self.entries.get(usize::from(number)).copied().unwrap_or(VipEntry::NONE)
    }

    /// All VIPs, in no order.
    pub fn all(&self) -> impl Iterator<Item = VipEntry> {
        self.numbers().map(|number| self.entry(number))
    }

    /// Adds or changes one; `None` when there is no place for it.
    pub fn set(&mut self, key: VipKey, vip: Vip) -> Option<Changed> {
        let (place, number) = match self.find(&key) {
            Some(found) => found,
            None => (self.free_place(&key)?, self.free.pop()?),
        };
        *self.entries.get_mut(usize::from(number))? = VipEntry { key, vip };
        *self.number_mut(place)? = number;
        Some(Changed { number, block: place.block })
    }

    /// Removes one; `None` when it is not there.
    pub fn remove(&mut self, key: &VipKey) -> Option<Changed> {
        let (place, number) = self.find(key)?;
        let behind = VipPlace { block: (place.block + 1) % VIP_BLOCKS, ..place };
        let is_last = self.number(behind) == NO_VIP;
        *self.number_mut(place)? = if is_last { NO_VIP } else { FORMER_VIP };
        *self.entries.get_mut(usize::from(number))? = VipEntry::NONE;
        self.free.push(number);
        Some(Changed { number, block: place.block })
    }

    /// All but these.
    fn others(&self, kept: &[VipKey]) -> Vec<VipKey> {
        let kept: BTreeSet<_> = kept.iter().map(VipKey::words).collect();
        self.all().map(|entry| entry.key).filter(|key| !kept.contains(&key.words())).collect()
    }

    fn numbers(&self) -> impl Iterator<Item = u16> {
        self.index.iter().flatten().copied().filter(|number| !matches!(*number, NO_VIP | FORMER_VIP))
    }

    fn find(&self, key: &VipKey) -> Option<(VipPlace, u16)> {
        let places = key.places().map(|place| (place, self.number(place)));
        places.take_while(|(_, number)| *number != NO_VIP).find(|(_, number)| self.entry(*number).key == *key)
    }

    fn free_place(&self, key: &VipKey) -> Option<VipPlace> {
        key.places().find(|place| matches!(self.number(*place), NO_VIP | FORMER_VIP))
    }

    fn number(&self, VipPlace { block, at }: VipPlace) -> u16 {
        self.index.get(block as usize).and_then(|numbers| numbers.get(at)).copied().unwrap_or(FORMER_VIP)
    }

    fn number_mut(&mut self, VipPlace { block, at }: VipPlace) -> Option<&mut u16> {
        self.index.get_mut(block as usize)?.get_mut(at)
    }
}

fn failed(name: &'static str, error: &MapError) -> Error {
    Error::map(name, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::id::IfIndex;
    use carp_common::map::{MAX_HOSTS, VIP_STEPS};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// As the datapath does it.
    fn found(table: &VipTable, key: &VipKey) -> Option<Vip> {
        let number = |place| Some(table.number(place));
        key.find(0, number, |number| table.entries.get(usize::from(number)))
    }

    fn vip(number: usize) -> Vip {
        Vip { slot: u32::try_from(number).unwrap() % MAX_HOSTS, vhid: 1, flags: 0 }
    }

    /// As networks have them: one after the other, also in the prefix, on links one after the other.
    fn keys() -> Vec<VipKey> {
        let numbers = (1..=16).map(IfIndex).flat_map(|link| (1..=170_u16).map(move |number| (link, number)));
        let keys = numbers.flat_map(|(link, number)| {
            let [high, low] = number.to_be_bytes();
            let vips: [IpAddr; 6] = [
                Ipv4Addr::new(10, 77, high, low).into(),
                Ipv4Addr::new(172, low, 0, 1).into(),
                Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 2).into(),
                Ipv6Addr::new(0xfd00, 0, 0, number, 0, 0, 0, number).into(),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number).into(),
            ];
            vips.map(|vip| VipKey::new(link, vip))
        });
        keys.collect()
    }

    #[test]
    fn as_many_vips_as_there_can_be_are_all_found_and_nearly_all_at_once() {
        let (keys, mut table) = (keys(), VipTable::empty());
        assert!(keys.len() <= MAX_VIPS as usize && keys.len() > MAX_VIPS as usize - 100, "{}", keys.len());
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(found(&table, key), None);
            table.set(*key, vip(number)).expect("there is room");
        }
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(found(&table, key), Some(vip(number)));
        }
        let steps = |key: &VipKey| {
            let (place, _) = table.find(key).unwrap();
            (place.block + VIP_BLOCKS - key.place(0).block) % VIP_BLOCKS
        };
        let first = keys.iter().filter(|key| steps(key) == 0).count();
        let farthest = keys.iter().map(steps).max().unwrap();
        assert!(first > keys.len() * 19 / 20 && farthest < VIP_STEPS / 2, "{first}, {farthest}");
    }

    #[test]
    fn of_whatever_changes_the_others_are_found_and_places_and_numbers_are_used_again() {
        let (keys, mut table) = (keys(), VipTable::empty());
        let free = table.free.len();
        for round in 0..20 {
            let (some, others): (Vec<_>, Vec<_>) =
                keys.iter().enumerate().partition(|(number, _)| number % 7 == round % 7);
            assert!(some.iter().all(|(_, key)| table.set(**key, vip(round)).is_some()));
            let kept: Vec<VipKey> = some.iter().map(|(_, key)| **key).collect();
            assert!(table.others(&kept).iter().all(|key| table.remove(key).is_some()));
            assert!(kept.iter().all(|key| found(&table, key) == Some(vip(round))));
            assert!(others.iter().all(|(_, key)| found(&table, key).is_none()));
            assert_eq!((table.all().count(), table.free.len()), (kept.len(), free - kept.len()));
        }
    }

    #[test]
    fn one_behind_another_that_goes_is_found_and_takes_its_place_when_it_comes_anew() {
        let first = VipKey::new(IfIndex(2), Ipv4Addr::new(10, 0, 0, 1).into());
        let second =
            (0..).map(|number: u32| VipKey::new(IfIndex(2), Ipv4Addr::from_bits(number << 6).into()));
        let second = second.into_iter().find(|key| key.place(0) == first.place(0)).expect("there is one");
        let mut table = VipTable::empty();
        table.set(first, vip(1)).unwrap();
        table.set(second, vip(2)).unwrap();
        table.remove(&first).unwrap();
        assert_eq!((found(&table, &first), found(&table, &second)), (None, Some(vip(2))));
        assert_eq!(table.set(second, vip(3)).unwrap().block, second.place(1).block, "it stays where it is");
        table.remove(&second).unwrap();
        assert_eq!(table.set(second, vip(4)).unwrap().block, second.place(0).block);
        assert_eq!((found(&table, &first), found(&table, &second)), (None, Some(vip(4))));
    }

    #[test]
    fn one_map_without_the_other_is_as_good_as_none() {
        let mut table = VipTable::empty();
        let keys = keys();
        assert!(keys.iter().all(|key| table.set(*key, vip(1)).is_some()));
        let without_entries = VipTable::new(table.index.clone(), VipTable::empty().entries);
        let without_index = VipTable::new(VipTable::empty().index, table.entries.clone());
        for mut half in [without_entries, without_index] {
            assert_eq!(half.all().count(), 0);
            assert!(keys.iter().all(|key| half.set(*key, vip(2)).is_some()));
            assert!(keys.iter().all(|key| found(&half, key) == Some(vip(2))));
        }
        // Left behind at a place where it is looked for in vain, it is not gone on with.
        let mut index = table.index.clone();
        let stray = index.iter_mut().flatten().find(|number| **number == NO_VIP).unwrap();
        *stray = 1;
        let again = VipTable::new(index, table.entries.clone());
        assert_eq!(again.all().count(), keys.len());
        assert!(keys.iter().all(|key| found(&again, key) == Some(vip(1))));
        assert_eq!(again.free, table.free);
    }

    #[test]
    fn without_room_one_is_refused() {
        let mut table = VipTable::empty();
        let key = |number: u32| VipKey::new(IfIndex(3), Ipv4Addr::from_bits(number).into());
        let room = (1..=MAX_VIPS).filter(|number| table.set(key(*number), vip(1)).is_some()).count();
        assert_eq!(room, MAX_VIPS as usize);
        assert_eq!(table.set(key(MAX_VIPS + 1), vip(1)), None);
        assert!(table.set(key(1), vip(2)).is_some(), "one that is there may change");
    }
}
