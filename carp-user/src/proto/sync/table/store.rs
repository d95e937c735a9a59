//! What is remembered of each flow: 32 bytes, in the order of their numbers.

use crate::proto::sync::message::BUCKETS;
use crate::proto::sync::record::Version;

/// A flow that this node knows.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    pub version: Version,
    /// Number of its reply.
    pub reply: u32,
    /// When the peer was last told of it, or told this node, in seconds of the clock.
    pub renewed: u32,
    /// Where its record waits, or [`NOWHERE`].
    pub pending: u32,
    /// Number of what it contains.
    pub content: u16,
    /// State of TCP in the low half, incarnation in the high one.
    pub tcp: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// No record waits.
pub const NOWHERE: u32 = u32::MAX;

/// This node wrote its version.
pub const MINE: u8 = 1;
/// It has ended, and the peer has not confirmed that it knows.
pub const GONE: u8 = 2;
/// It is an expectation.
pub const EXPECTED: u8 = 4;
/// The peer has it as well, or will once what was sent has arrived: the digest of its bucket takes it in.
pub const SHARED: u8 = 8;
/// Bit that tells whether the running dump has shown it.
pub const SEEN: u8 = 16;
/// The last dump did not show it.
pub const MISSED: u8 = 32;
/// The peer says that it has ended; it goes as soon as a dump shows its addresses.
pub const DOOMED: u8 = 64;
/// The peer may know of it, so it has to be told when it ends.
pub const KNOWN: u8 = 128;

impl Entry {
    /// A new one, without a record that waits.
    pub const fn new(id: u64) -> Self {
        Self { id, version: Version(0), reply: 0, renewed: 0, pending: NOWHERE, content: 0, tcp: 0, flags: 0 }
    }

    /// Whether one of these flags is set.
    pub const fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it is a flow that has not ended.
    const fn lives(&self) -> bool {
        !self.is(GONE | EXPECTED | DOOMED)
    }

    pub const fn set_seen(&mut self, seen: bool) {
        self.set(SEEN, seen);
    }

    pub const fn set(&mut self, flag: u8, to: bool) {
        if to {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    pub fn waits(&self) -> Option<u32> {
        Some(self.pending).filter(|slot| *slot != NOWHERE)
    }

    pub const fn incarnation(&self) -> u8 {
        self.tcp >> 4
    }

    pub const fn tcp_state(&self) -> u8 {
        self.tcp & 15
    }

    pub const fn set_tcp(&mut self, state: u8, incarnation: u8) {
        self.tcp = (state & 15) | (incarnation << 4);
    }
}

/// All entries. A bucket is a sorted list: with 10^6 flows it has 244 entries.
#[derive(Clone, Debug)]
pub struct Store {
    buckets: Vec<Vec<Entry>>,
    count: usize,
    /// Of these, flows that have not ended ...
    living: usize,
    /// ... and those of them that this node changed last.
    own: usize,
}

impl Store {
    pub fn new() -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS], count: 0, living: 0, own: 0 }
    }

    pub const fn len(&self) -> usize {
        self.count
    }

    /// How many flows have not ended, and how many of them this node changed last.
    pub const fn living(&self) -> (usize, usize) {
        (self.living, self.own)
    }

    pub fn get(&self, id: u64) -> Option<&Entry> {
        let bucket = &self.buckets[bucket(id)];
        place(bucket, id).ok().map(|at| &bucket[at])
    }

    /// What makes it a living flow, or this node's, is only changed by [`Store::put`], which counts.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        let bucket = &mut self.buckets[bucket(id)];
        place(bucket, id).ok().map(|at| &mut bucket[at])
    }

    /// Puts it in place of one with its number, if there is one.
    pub fn put(&mut self, entry: Entry) {
        self.living += usize::from(entry.lives());
        self.own += usize::from(entry.lives() && entry.is(MINE));
        let bucket = &mut self.buckets[bucket(entry.id)];
        match place(bucket, entry.id) {
            Ok(at) => {
                let before = std::mem::replace(&mut bucket[at], entry);
                self.forget(&before);
            }
            Err(at) => {
                if bucket.len() == bucket.capacity() {
                    // Doubling would leave a third of the memory unused.
                    bucket.reserve_exact(8 + bucket.len() / 8);
                }
                bucket.insert(at, entry);
                self.count += 1;
            }
        }
    }

    pub fn remove(&mut self, id: u64) -> Option<Entry> {
        let bucket = &mut self.buckets[bucket(id)];
        let at = place(bucket, id).ok()?;
        self.count -= 1;
        let entry = bucket.remove(at);
        if bucket.capacity() > 16 + 2 * bucket.len() {
            bucket.shrink_to(8 + bucket.len());
        }
        self.forget(&entry);
        Some(entry)
    }

    fn forget(&mut self, before: &Entry) {
        self.living -= usize::from(before.lives());
        self.own -= usize::from(before.lives() && before.is(MINE));
    }

    /// As [`Store::get_mut`], of all.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.buckets.iter_mut().flatten()
    }
}

/// Where in its bucket an entry is, or else would be. Numbers are a keyed hash, so it is near the place that its number alone
/// tells, and what is looked at lies side by side: of a search by halves each step waits for memory.
fn place(bucket: &[Entry], id: u64) -> Result<usize, usize> {
    /// How far from there an entry is looked for: twice as far as one in a thousand strays with 10^6 flows.
    const NEAR: usize = 48;
    let within = id << BUCKETS.ilog2() >> 32;
    let guess = (within * u64::try_from(bucket.len()).unwrap_or(0)) >> 32;
    let (before, after) = bucket.split_at_checked(usize::try_from(guess).unwrap_or(0)).unwrap_or_default();
    let at = if after.first().is_some_and(|entry| entry.id < id) {
        let further = after.iter().take(NEAR).position(|entry| entry.id >= id);
        further.map(|further| before.len() + further)
    } else {
        let back = before.iter().rev().take(NEAR).position(|entry| entry.id < id);
        back.map(|back| before.len() - back)
    };
    match at {
        Some(at) if bucket.get(at).is_some_and(|entry| entry.id == id) => Ok(at),
        Some(at) => Err(at),
        None => bucket.binary_search_by_key(&id, |entry| entry.id),
    }
}

/// The bucket of a flow: the first twelve bits of its number.
pub fn bucket_number(id: u64) -> u16 {
    // There are 4096.
    u16::try_from(bucket(id)).unwrap_or(u16::MAX)
}

/// The same, as a place in a list.
pub fn bucket(id: u64) -> usize {
    usize::try_from(id >> (64 - BUCKETS.ilog2())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a bucket: spread evenly, or all at one end of it.
    fn buckets() -> Vec<Vec<Entry>> {
        let spread = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
        let numbers: [fn(u64) -> u64; 3] =
            [spread, |index| index * 2 + 1, |index| (u64::MAX >> 12) - index * 2];
        let bucket = |number: fn(u64) -> u64, count| {
            let mut entries: Vec<_> = (0..count).map(|index| Entry::new((7 << 52) | number(index))).collect();
            entries.sort_by_key(|entry| entry.id);
            entries
        };
        let counts = [0, 1, 2, 3, 100, 244, 1000];
        numbers.iter().flat_map(|number| counts.map(|count| bucket(*number, count))).collect()
    }

    #[test]
    fn an_entry_is_found_where_it_is_and_what_is_not_there_where_it_would_be() {
        let by_halves = |entries: &[Entry], id: u64| entries.binary_search_by_key(&id, |entry| entry.id);
        for entries in buckets() {
            let around = entries.iter().flat_map(|entry| [entry.id - 1, entry.id, entry.id + 1]);
            for id in around.chain([7 << 52, (8 << 52) - 1, 0, u64::MAX]) {
                assert_eq!(place(&entries, id), by_halves(&entries, id), "{id:x} of {}", entries.len());
            }
        }
    }

    #[test]
    fn what_is_put_is_there_until_it_is_removed() {
        let mut store = Store::new();
        let ids: Vec<u64> = (0..20_000_u64).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        ids.iter().for_each(|id| store.put(Entry::new(*id)));
        assert_eq!(store.len(), ids.len());
        assert!(ids.iter().all(|id| store.get(*id).is_some_and(|entry| entry.id == *id)));
        assert!(store.buckets.iter().all(|bucket| bucket.is_sorted_by_key(|entry| entry.id)));
        assert!(ids.iter().all(|id| store.remove(*id).is_some()) && store.len() == 0);
    }
}
