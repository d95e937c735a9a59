//! An announced claim. A backup that is nobody's heir tells the other nodes of ours, and them alone,
//! that it will claim, one [`SETTLE`] before it does: so the claim has settled when it is made, and
//! the old master serves meanwhile. Whoever hears it and ranks higher objects, by announcing a claim
//! itself; whoever hears it at all is no sole heir any more, in XDP too.

use super::tenure::SETTLE;
use carp_common::pace::Pace;
use carp_common::time::Instant;

/// Where a backup stands with its next claim.
#[derive(Clone, Copy, Debug, Default)]
pub enum Intent {
    /// Nothing announced.
    #[default]
    None,
    /// To be announced at once.
    Planned,
    /// On its way to the kernel.
    Asked,
    /// A better node will claim, or the kernel did not take it, as was learned at this moment: a claim
    /// has to settle after it is made.
    Void(Instant),
    /// Announced at this moment.
    Told(Instant),
}

impl Intent {
    /// A claim will be made soon, unless that was announced.
    pub fn plan(&mut self, pace: Pace, now: Instant) {
        if !self.stands(pace, now) {
            *self = Self::Planned;
        }
    }

    /// The kernel took the announcement in one family, or did not: then it counts in none.
    pub fn sent(&mut self, ok: bool, now: Instant) {
        match self {
            Self::Asked | Self::Told(_) => *self = if ok { Self::Told(now) } else { Self::Void(now) },
            Self::None | Self::Planned | Self::Void(_) => {}
        }
    }

    /// What came of the announcement was not looked at: it has to be made again.
    pub fn slept(&mut self) {
        if let Self::Told(_) = self {
            *self = Self::None;
        }
    }

    /// Whether it is to be announced at once.
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Planned)
    }

    /// Whether this was tried, and has not grown old: two adverts of a master may come in between.
    pub fn stands(self, pace: Pace, now: Instant) -> bool {
        match self {
            Self::None | Self::Planned => false,
            Self::Asked => true,
            Self::Told(at) | Self::Void(at) => now <= at + SETTLE + pace.interval().times(2),
        }
    }

    /// When it was announced.
    pub const fn told_at(self) -> Option<Instant> {
        match self {
            Self::Told(at) => Some(at),
            Self::None | Self::Planned | Self::Asked | Self::Void(_) => None,
        }
    }

    /// When a claim has settled that was announced.
    pub fn settled_at(self, pace: Pace, now: Instant) -> Option<Instant> {
        match self {
            Self::Told(at) if self.stands(pace, now) => Some(at + SETTLE),
            Self::None | Self::Planned | Self::Asked | Self::Void(_) | Self::Told(_) => None,
        }
    }
}
