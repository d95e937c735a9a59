//! The heir of a master: the one backup that may take over without settling first, and may be armed
//! (see `map::Window`), so that its kernel takes over without its daemon.
//!
//! A claim settles because another backup may claim, or be armed, at the same time. Of one master
//! only one backup at a time is the heir, so it need not settle; and every other waits until an
//! heir that sleeps has served for as long as its kernel lets it. A backup asks by its greetings, at
//! most once per lease, and the master promises by [`Pace::PROMISE`](carp_common::pace::Pace::PROMISE).
//! A promise ends by itself: for the backup earlier than for the master, so that no two hold one. It
//! is bound to that master, and void once another one is heard or it was silent for a whole lease: a
//! master that starts anew thus begins with nobody's heir, unless it resumes a lease.

use super::election::LATE;
use super::event::Family;
use super::tenure::LATENCY;
use carp_common::map::ARMED_FOR;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// Leases for which a backup counts on a promise since it asked for it.
const KEPT: u64 = 10;
/// Leases for which a master promises nothing to another node. More than [`KEPT`] by far more than
/// clocks drift.
const HELD: u64 = 12;

/// What this node has promised as a master. It outlasts the role.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    heir: Option<IpAddr>,
    /// Before this moment nobody else is promised anything.
    held_until: Instant,
}

/// What this node has been promised as a backup.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    master: Option<IpAddr>,
    heard_at: Instant,
    /// Who takes over later than this was asleep, and may have been passed over.
    fresh_until: Instant,
    /// When it asked, for the first time since it was answered.
    asked_at: Option<Instant>,
    /// When it asked last.
    last_asked_at: Option<Instant>,
    /// When it asked any master last: where two contend, a backup is not to ask each of them each time.
    last_asked_any_at: Instant,
    kept_until: Instant,
    contest: Option<Contest>,
}

/// Another backup has announced a claim: until it makes it, no promise counts.
#[derive(Clone, Copy, Debug)]
struct Contest {
    /// None when there are several.
    by: Option<IpAddr>,
    until: Instant,
}

impl Promise {
    /// Of a master that does not know what it has promised, before its daemon started.
    pub fn forgotten(pace: Pace, now: Instant) -> Self {
        Self { heir: None, held_until: now + held(pace) }
    }

    /// A backup asks; whether it is the heir from now on.
    pub fn ask(&mut self, backup: IpAddr, pace: Pace, now: Instant) -> bool {
        if self.heir != Some(backup) && now < self.held_until {
            return false;
        }
        *self = Self { heir: Some(backup), held_until: now + held(pace) };
        true
    }

    /// The heir, for as long as it may count on it.
    pub fn heir(&self, now: Instant) -> Option<IpAddr> {
        self.heir.filter(|_| now < self.held_until)
    }

    /// Whether nobody can count on a promise.
    pub fn is_free(&self, now: Instant) -> bool {
        self.held_until <= now
    }
}

impl Expectation {
    /// A master advertised, that will count as dead after this time of silence. Adverts of the other
    /// family say nothing about this one.
    pub fn heard(&mut self, master: IpAddr, pace: Pace, dead: Span, at: Instant) {
        if self.master.is_some_and(|known| Family::of(known) != Family::of(master)) {
            return;
        }
        if self.master != Some(master) || pace.longest_lease() <= at.since(self.heard_at) {
            let contest = self.contest.filter(|contest| contest.by != Some(master));
            let contest = self.heir_of_another(master, pace).or(contest);
            let last_asked_any_at = self.last_asked_any_at;
            *self = Self { master: Some(master), contest, last_asked_any_at, ..Self::default() };
        }
        self.heard_at = self.heard_at.max(at);
        self.fresh_until = self.heard_at + dead + LATE;
    }

    /// Another master than the one heard last may have an heir, too, armed until its longest dead time is
    /// over.
    fn heir_of_another(&self, master: IpAddr, pace: Pace) -> Option<Contest> {
        self.master.filter(|known| *known != master)?;
        let dead = Pace { skew: u8::MAX, ..pace }.dead();
        Some(Contest { by: None, until: self.heard_at + dead + ARMED_FOR })
    }

    /// Whether to ask this master now: once in a lease, and with each of its adverts while it has promised nothing. It may
    /// have been asked before it served.
    pub fn is_due(&self, master: IpAddr, pace: Pace, now: Instant) -> bool {
        let rest = if now < self.kept_until { pace.longest_lease() } else { LATENCY };
        let is_old = |at: Instant| rest <= now.since(at);
        let has_rested = now.since(self.last_asked_any_at) >= LATENCY;
        has_rested && self.master == Some(master) && self.last_asked_at.is_none_or(is_old)
    }

    /// This master is being asked.
    pub fn asked(&mut self, master: IpAddr, now: Instant) {
        if self.master == Some(master) {
            self.asked_at.get_or_insert(now);
            self.last_asked_at = Some(now);
            self.last_asked_any_at = now;
        }
    }

    /// This master answers, with a promise or without one. Without one an earlier promise holds.
    pub fn answered(&mut self, master: IpAddr, promises: bool, pace: Pace) {
        if self.master != Some(master) {
            return;
        }
        if let (Some(asked_at), true) = (self.asked_at.take(), promises) {
            self.kept_until = asked_at + pace.longest_lease().times(KEPT);
        }
    }

    /// Another backup announces a claim: this node is not the only one that may take over. `until` is
    /// the longest that the announcement stands.
    pub fn contest(&mut self, backup: IpAddr, until: Instant, now: Instant) {
        let earlier = self.contest.filter(|contest| now < contest.until);
        let by = match earlier.map(|contest| contest.by) {
            None => Some(backup),
            // Everybody announces in both families: another one would be heard in this one, too.
            Some(by) => by.filter(|by| *by == backup || Family::of(*by) != Family::of(backup)),
        };
        self.contest = Some(Contest { by, until });
        self.kept_until = Instant::ZERO;
    }

    /// A master of another make takes no part: then its only backup of ours need not be told.
    pub fn presume(&mut self, master: IpAddr, pace: Pace, now: Instant) {
        if self.master == Some(master) {
            self.kept_until = now + pace.longest_lease().times(KEPT);
        }
    }

    /// The master that this node is the heir of, and until when.
    pub fn promised(&self, now: Instant) -> Option<(IpAddr, Instant)> {
        let holds = !self.is_contested(now) && now <= self.fresh_until && now < self.kept_until;
        Some((self.master.filter(|_| holds)?, self.kept_until))
    }

    /// The master that is expected to be heard lives, heard or not.
    pub fn lives(&mut self, dead: Span, at: Instant) {
        self.fresh_until = self.fresh_until.max(at + dead + LATE);
    }

    /// Whether the master was heard just now, so that its silence may be counted from now on.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.since(self.heard_at) <= LATENCY
    }

    /// Whether another backup has announced a claim.
    pub fn is_contested(&self, now: Instant) -> bool {
        self.contest.is_some_and(|contest| now < contest.until)
    }

    /// This node serves itself.
    pub fn end(&mut self) {
        let Self { contest, last_asked_any_at, .. } = *self;
        *self = Self { contest, last_asked_any_at, ..Self::default() };
    }
}

fn held(pace: Pace) -> Span {
    pace.longest_lease().times(HELD)
}
