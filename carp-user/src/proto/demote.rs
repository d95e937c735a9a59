//! Demotions: named reasons for which a node ranks itself lower. Never an anonymous number, so that
//! each can be shown, and lifted exactly once (`carp-protocol` sections 3.6, 7.6).

use super::status::DemotionStatus;
use carp_common::time::Instant;
use std::collections::BTreeMap;

/// FreeBSD's default factor for a lost interface and for send errors.
pub const FACTOR: u8 = 240;

/// Most demotions at a time. Policy when full: a new name is refused, as none of ours needs more
/// than one per virtual host.
const MOST: usize = 2 * carp_common::map::MAX_HOSTS as usize;

/// The demotions in force, by name.
#[derive(Clone, Debug, Default)]
pub struct Demotions {
    named: BTreeMap<String, Demotion>,
}

#[derive(Clone, Debug)]
struct Demotion {
    amount: u8,
    reason: String,
    since: Instant,
}

impl Demotions {
    /// Puts a demotion in place, or changes one of that name; it keeps its `since`. Whether the sum
    /// may have changed.
    pub fn set(&mut self, name: &str, amount: u8, reason: &str, now: Instant) -> bool {
        let full = self.named.len() >= MOST;
        match self.named.get_mut(name) {
            Some(known) => {
                let changed = known.amount != amount;
                known.amount = amount;
                reason.clone_into(&mut known.reason);
                changed
            }
            None if full => false,
            None => {
                let demotion = Demotion { amount, reason: reason.to_owned(), since: now };
                self.named.insert(name.to_owned(), demotion);
                true
            }
        }
    }

    /// Lifts one. Whether there was one of that name.
    pub fn lift(&mut self, name: &str) -> bool {
        self.named.remove(name).is_some()
    }

    /// What every virtual host adds to its skew.
    pub fn sum(&self) -> i32 {
        self.named.values().map(|demotion| i32::from(demotion.amount)).sum()
    }

    /// For people, by name.
    pub fn status(&self) -> Vec<DemotionStatus> {
        let named = self.named.iter();
        named
            .map(|(name, demotion)| DemotionStatus {
                name: name.clone(),
                amount: demotion.amount,
                reason: demotion.reason.clone(),
                since: demotion.since,
            })
            .collect()
    }
}
