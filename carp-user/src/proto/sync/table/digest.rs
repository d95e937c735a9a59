//! Digests of the flows that both nodes should have: in 4096 buckets, kept up to date as records are sent and received, so that
//! they are those of one point in the stream of batches and not of a moment of the clock.

use super::store::bucket;
use crate::proto::sync::identity::contribution;
use crate::proto::sync::message::{BUCKETS, Root};

#[derive(Clone, Debug)]
pub struct Digests {
    sums: Vec<u64>,
    /// The last batch that changed each.
    touched: Vec<u64>,
    total: u64,
    count: u64,
}

impl Digests {
    pub fn new() -> Self {
        Self { sums: vec![0; BUCKETS], touched: vec![0; BUCKETS], total: 0, count: 0 }
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// How many flows they take in.
    pub const fn count(&self) -> u64 {
        self.count
    }

    pub fn add(&mut self, id: u64, reply: u32) {
        let amount = contribution(id, reply);
        let sum = &mut self.sums[bucket(id)];
        *sum = sum.wrapping_add(amount);
        self.total = self.total.wrapping_add(amount);
        self.count += 1;
    }

    pub fn take(&mut self, id: u64, reply: u32) {
        let amount = contribution(id, reply);
        let sum = &mut self.sums[bucket(id)];
        *sum = sum.wrapping_sub(amount);
        self.total = self.total.wrapping_sub(amount);
        self.count = self.count.saturating_sub(1);
    }

    /// A batch that is being sent changes the bucket of this flow.
    pub fn touch(&mut self, id: u64, batch: u64) {
        self.touched[bucket(id)] = batch;
    }

    /// Of the whole, with all batches of the peer up to `applied`.
    pub const fn root(&self, applied: u64) -> Root {
        Root { applied, sum: self.total, count: self.count }
    }

    /// Each bucket with its digest.
    pub fn sums(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.sums.iter().copied())
    }

    /// Whether the peer's digest of a bucket is another one, and that is not because it has not yet got what this node has
    /// sent: `applied` is the last batch that it takes in.
    pub fn differs(&self, number: u16, sum: u64, applied: u64) -> bool {
        let at = usize::from(number);
        let own = self.sums.get(at).zip(self.touched.get(at));
        own.is_some_and(|(own, touched)| *own != sum && *touched <= applied)
    }
}
