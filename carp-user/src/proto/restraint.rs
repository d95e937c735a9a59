//! Why a backup leaves a worse master alone although it is configured to preempt: somebody had it hand over, or it has
//! just come back and is to wait. Either ends when that master fails or falls silent, which makes this node the master;
//! and when that master is demoted, as two nodes that each serve a part of a gateway are worse than another move.

use carp_common::pace::{MAX_SKEW, Pace};
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// What holds a backup back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restraint {
    /// It handed over, as somebody asked, at this moment.
    ceded_at: Option<Instant>,
    /// It came back, and waits until then.
    wait_until: Option<Instant>,
    /// The master that it leaves alone, and what that one competed with when it was heard first.
    spared: Option<(IpAddr, Pace, u8)>,
}

/// The same, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// By `carpctl failover`, since this moment.
    Ceded(Instant),
    /// By `preempt_delay`, for so long from now on.
    Waits(Span),
}

impl Restraint {
    /// It hands over, and does not want the role back.
    pub fn cede(&mut self, now: Instant) {
        *self = Self { ceded_at: Some(now), ..Self::default() };
    }

    /// It comes back, and waits for so long before it preempts.
    pub fn wait(&mut self, delay: Span, now: Instant) {
        if delay > Span::ZERO {
            self.wait_until = Some(now + delay);
        }
    }

    /// Somebody wants it to have the role again.
    pub fn reclaim(&mut self) {
        *self = Self::default();
    }

    /// A master was heard. One that is demoted, now or as far as demotions go, is not spared.
    pub fn heard(&mut self, master: IpAddr, pace: Pace, demote: u8) {
        if !self.holds() {
            return;
        }
        let (known, first, least) = *self.spared.get_or_insert((master, pace, demote));
        if known != master {
            self.spared = Some((master, pace, demote));
        } else if first < pace || least < demote || MAX_SKEW <= pace.skew {
            *self = Self::default();
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.wait_until = self.wait_until.filter(|until| now < *until);
    }

    /// Whether it is held back.
    pub const fn holds(&self) -> bool {
        self.ceded_at.is_some() || self.wait_until.is_some()
    }

    /// When to come back with a tick.
    pub const fn deadline(&self) -> Option<Instant> {
        self.wait_until
    }

    /// For people.
    pub fn status(&self, now: Instant) -> Option<Held> {
        let waits = || self.wait_until.map(|until| Held::Waits(until.since(now)));
        self.ceded_at.map(Held::Ceded).or_else(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn hears(restraint: &mut Restraint, paces: &[(u8, u8)]) -> bool {
        paces.iter().for_each(|(skew, demote)| {
            restraint.heard([10, 0, 0, 3].into(), Pace { base: 1, skew: *skew }, *demote);
        });
        restraint.holds()
    }

    #[test]
    fn a_master_is_spared_until_it_is_demoted() {
        let mut restraint = Restraint::default();
        restraint.cede(NOW);
        assert!(hears(&mut restraint, &[(100, 0), (100, 0), (90, 0)]));
        assert!(!hears(&mut restraint, &[(150, 0)]));
        restraint.cede(NOW);
        assert!(!hears(&mut restraint, &[(240, 0)]), "it is demoted as far as that goes, and was before");
        restraint.cede(NOW);
        assert!(!hears(&mut restraint, &[(100, 0), (100, 50)]), "by OpenBSD's byte");
    }

    #[test]
    fn a_wait_ends_with_its_time_and_a_hand_over_does_not() {
        let mut restraint = Restraint::default();
        restraint.wait(Span::ZERO, NOW);
        assert!(!restraint.holds(), "no delay is configured");
        restraint.wait(Span::secs(5), NOW);
        assert_eq!(restraint.status(NOW + Span::secs(2)), Some(Held::Waits(Span::secs(3))));
        restraint.tick(NOW + Span::secs(5));
        assert!(!restraint.holds());
        restraint.cede(NOW);
        restraint.tick(NOW + Span::secs(500));
        assert_eq!(restraint.status(NOW), Some(Held::Ceded(NOW)));
        restraint.reclaim();
        assert!(!restraint.holds());
    }
}
