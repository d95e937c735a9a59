//! Demotions: named reasons for which a node ranks itself lower. Never an anonymous number, so that
//! each can be shown, and lifted exactly once (`carp-protocol` sections 3.6, 7.6).

use super::status::DemotionStatus;
use carp_common::time::Instant;
use std::collections::BTreeMap;

/// FreeBSD's default factor for a lost interface and for send errors.
pub const FACTOR: u8 = 240;

/// Name of the demotion of a node that somebody works on, see `carpctl maintenance`.
pub const MAINTENANCE: &str = "maintenance";

/// Most demotions at a time. Policy when full: a new name is refused, as none of ours needs more
/// than one per virtual host.
const MOST: usize = 2 * carp_common::map::MAX_HOSTS as usize;

/// The demotions in force, by name.
#[derive(Clone, Debug, Default)]
pub struct Demotions {
    named: BTreeMap<String, Demotion>,
}

/// A demotion came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demoted {
    /// Its name.
    pub name: String,
    /// Added to every skew; 0 once it is lifted.
    pub amount: u8,
    /// Why it is, or was, in force.
    pub reason: String,
    /// The sum of all demotions from now on.
    pub sum: i32,
}

#[derive(Clone, Debug)]
struct Demotion {
    amount: u8,
    reason: String,
    since: Instant,
    until: Option<Instant>,
}

impl Demotions {
    /// Puts a demotion in place, until this moment if there is one, or changes one of that name; it keeps its `since`. What that
    /// changes of the sum, if anything.
    pub fn set(
        &mut self,
        name: &str,
        (amount, reason): (u8, &str),
        until: Option<Instant>,
        now: Instant,
    ) -> Option<Demoted> {
        let full = self.named.len() >= MOST;
        let changed = match self.named.get_mut(name) {
            Some(known) => {
                let changed = known.amount != amount;
                (known.amount, known.until) = (amount, until);
                reason.clone_into(&mut known.reason);
                changed
            }
            None if full => false,
            None => {
                let demotion = Demotion { amount, reason: reason.to_owned(), since: now, until };
                self.named.insert(name.to_owned(), demotion);
                true
            }
        };
        let (name, reason) = (name.to_owned(), reason.to_owned());
        changed.then(|| Demoted { name, amount, reason, sum: self.sum() })
    }

    /// Lifts one, if there is one of that name.
    pub fn lift(&mut self, name: &str) -> Option<Demoted> {
        let Demotion { reason, .. } = self.named.remove(name)?;
        Some(Demoted { name: name.to_owned(), amount: 0, reason, sum: self.sum() })
    }

    /// Lifts those whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<Option<Demoted>> {
        let over = |demotion: &Demotion| demotion.until.is_some_and(|until| until <= now);
        let names = self.named.iter().filter(|(_, demotion)| over(demotion)).map(|(name, _)| name.clone());
        let names: Vec<String> = names.collect();
        names.iter().map(|name| self.lift(name)).collect()
    }

    /// When the next one is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.named.values().filter_map(|demotion| demotion.until).min()
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
                until: demotion.until,
            })
            .collect()
    }
}
