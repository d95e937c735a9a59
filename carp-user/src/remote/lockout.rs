//! Who gave wrong passwords, and has to wait. Does no IO, and reads no clock.

use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Records that are kept. Policy when full: the one that has been quiet for longest goes.
const MOST: usize = 512;
/// Wrong passwords for one account from one address that cost nothing.
const FREE: u32 = 5;
/// The same for all accounts together.
const FREE_OF_SOURCE: u32 = 10;
/// The first wait; each further one is twice as long.
const FIRST: Span = Span::secs(1);
/// The longest.
const LONGEST: Span = Span::secs(300);
/// After so long without a wrong one everything is forgotten.
const FORGIVEN: Span = Span::secs(900);

/// Who tries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// From this address.
    pub from: IpAddr,
    /// With the pinned certificate: nobody else can make the peer wait.
    pub is_peer: bool,
    /// By this name.
    pub user: String,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Lockout {
    /// Of a source as a whole the name is empty.
    records: BTreeMap<Who, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    last: Instant,
    until: Instant,
}

impl Lockout {
    /// How long this one has to wait yet, if at all.
    pub fn wait(&self, who: &Who, now: Instant) -> Option<Span> {
        let left = |who: &Who| self.records.get(who).map(|record| record.until.since(now));
        let longest = left(who).max(left(&who.source()))?;
        (longest > Span::ZERO).then_some(longest)
    }

    /// A wrong password.
    pub fn failed(&mut self, who: &Who, now: Instant) {
        self.records.retain(|_, record| now.since(record.last) < FORGIVEN);
        for (who, free) in [(who.clone(), FREE), (who.source(), FREE_OF_SOURCE)] {
            if self.records.len() >= MOST && !self.records.contains_key(&who) {
                let quiet =
                    self.records.iter().min_by_key(|(_, record)| record.last).map(|(who, _)| who.clone());
                quiet.map(|who| self.records.remove(&who));
            }
            let record = self.records.entry(who).or_insert(Record { failures: 0, last: now, until: now });
            record.failures = record.failures.saturating_add(1);
            record.last = now;
            if let Some(beyond) = record.failures.checked_sub(free) {
                record.until = now + LONGEST.min(FIRST.times(1 << beyond.min(10)));
            }
        }
    }

    /// The right password: what this one did is forgotten; what its address did with other names is not.
    pub fn passed(&mut self, who: &Who) {
        self.records.remove(who);
    }
}

impl Who {
    fn source(&self) -> Self {
        Self { user: String::new(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(last: u8, user: &str) -> Who {
        Who { from: [10, 0, 0, last].into(), is_peer: false, user: user.to_owned() }
    }

    #[test]
    fn five_wrong_passwords_are_free_and_each_further_one_doubles_the_wait_up_to_five_minutes() {
        let mut lockout = Lockout::default();
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut waits = Vec::new();
        for _ in 0..16 {
            lockout.failed(&who(1, "a"), now);
            let wait = lockout.wait(&who(1, "a"), now);
            waits.push(wait.map_or(0, |wait| wait.as_millis() / 1000));
            now = now + wait.unwrap_or(Span::ZERO);
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        lockout.failed(&who(1, "a"), now);
        assert!(lockout.wait(&who(2, "a"), now).is_none(), "another address");
        let peer = Who { is_peer: true, ..who(1, "a") };
        assert!(lockout.wait(&peer, now).is_none(), "the peer does not wait for what others did");
        assert!(lockout.wait(&who(1, "b"), now).is_some(), "the address is known for guessing");
    }

    #[test]
    fn the_right_password_in_time_is_forgiven_and_so_is_everybody_after_a_while() {
        let mut lockout = Lockout::default();
        let now = Instant::from_nanos(0);
        (0..4).for_each(|_| lockout.failed(&who(1, "a"), now));
        lockout.passed(&who(1, "a"));
        (0..4).for_each(|_| lockout.failed(&who(1, "a"), now));
        assert!(lockout.wait(&who(1, "a"), now).is_none());
        (0..30).for_each(|_| lockout.failed(&who(1, "a"), now));
        let later = now + FORGIVEN + Span::secs(1);
        lockout.failed(&who(1, "a"), later);
        assert!(lockout.wait(&who(1, "a"), later).is_none());
    }

    #[test]
    fn a_flood_of_names_fills_no_memory_and_its_address_waits() {
        let mut lockout = Lockout::default();
        for number in 0..10_000_u64 {
            lockout.failed(&who(1, &format!("user {number}")), Instant::from_nanos(number));
        }
        assert!(lockout.records.len() <= MOST);
        assert!(lockout.wait(&who(1, "new"), Instant::from_nanos(10_000)).is_some());
    }
}
