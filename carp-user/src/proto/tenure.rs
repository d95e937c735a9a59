//! What a master has of its VIPs: a claim at first, then the service, each for as long as its
//! adverts were really sent.

use super::election::Families;
use super::event::Family;
use carp_common::map::ARMED_FOR;
use carp_common::time::{Instant, Span};

/// A claim is announced, or advertised, first and served this much later, unless it is the heir's: so
/// that of two nodes that claim within one network latency of each other (equal skews, a bow-out heard
/// by several backups) one gives way before it has served; and that a sleeping heir's window is over.
/// Latencies of [`LATENCY`] are allowed for.
pub const SETTLE: Span = Span::nanos(ARMED_FOR.as_nanos() + LATENCY.as_nanos() + Span::millis(5).as_nanos());
/// Longest time that a frame may take to the other nodes, its sending and reading included.
pub const LATENCY: Span = Span::millis(50);
/// A claim that an old master has not confirmed is advertised again after this time, as the advert
/// or the confirmation may have been lost.
const RETRY: Span = Span::millis(100);
/// Times that it is advertised again.
const RETRIES: u8 = 5;
/// Adverts after which a new master announces its VIPs once more (item 103).
const REPEAT_AFTER: u8 = 2;

/// The state of a virtual host's VIPs on this node.
#[derive(Clone, Debug)]
pub enum Tenure {
    /// Not elected.
    None,
    /// Elected and advertising, not yet serving.
    Claim {
        /// When it was made.
        since: Instant,
        /// Before this moment it does not serve.
        settled_at: Instant,
        /// When to advertise again, and how often still.
        retry: (Instant, u8),
        /// What the last adverts give.
        sent: Sent,
    },
    /// Serving under a lease.
    Serving {
        /// What the last adverts give.
        sent: Sent,
        /// Adverts until the announcement is repeated; 0 when it was.
        repeat_in: u8,
        /// When the VIPs were announced last.
        announced_at: Instant,
    },
}

/// Until when the advert of each family that was sent last lets this node serve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    v4: Option<Instant>,
    v6: Option<Instant>,
}

impl Tenure {
    /// A fresh claim that has settled by then.
    pub fn claim(settled_at: Instant, now: Instant) -> Self {
        Self::Claim { since: now, settled_at, retry: (now + RETRY, RETRIES), sent: Sent::default() }
    }

    /// Starts to serve, the VIPs being announced now.
    pub fn serve(sent: Sent, now: Instant) -> Self {
        Self::Serving { sent, repeat_in: REPEAT_AFTER, announced_at: now }
    }

    /// Whether it serves under a lease.
    pub const fn is_serving(&self) -> bool {
        matches!(self, Self::Serving { .. })
    }

    /// A claim does not serve before this moment.
    pub fn settle_at(&mut self, at: Instant) {
        if let Self::Claim { settled_at, .. } = self {
            *settled_at = at.max(*settled_at);
        }
    }

    /// An advert of this family was sent, of which this node learns now; it gives a lease until then. A claim that is
    /// told late in one of its families settles anew: others may have claimed meanwhile.
    pub fn sent(&mut self, family: Family, until: Instant, now: Instant) {
        let sent = match self {
            Self::None => return,
            Self::Claim { sent, .. } | Self::Serving { sent, .. } => sent,
        };
        let last = match family {
            Family::V4 => &mut sent.v4,
            Family::V6 => &mut sent.v6,
        };
        let is_first = last.replace(until).is_none();
        if let Self::Claim { since, .. } = self
            && is_first
            && now.since(*since) > LATENCY
        {
            self.settle_at(now + SETTLE);
        }
    }

    /// End of the lease: by the older of the last adverts, as a backup takes over when
    /// either family falls silent. `None` while a family has not been advertised at all.
    pub fn lease_until(&self, families: Families) -> Option<Instant> {
        let sent = match self {
            Self::None => return None,
            Self::Claim { sent, .. } | Self::Serving { sent, .. } => sent,
        };
        match (families.v4, families.v6) {
            (true, true) => Some(sent.v4?.min(sent.v6?)),
            (true, false) => sent.v4,
            (false, true) => sent.v6,
            (false, false) => None,
        }
    }

    /// Other families than these will be advertised: what serves does so under the lease that it has.
    pub fn change_families(&mut self, from: Families) {
        if let Self::Serving { sent, .. } = self {
            match (from.v4, from.v6) {
                (true, false) => sent.v6 = sent.v4,
                (false, true) => sent.v4 = sent.v6,
                (true, true) | (false, false) => {}
            }
        }
    }

    /// Whether a claim should be advertised once more now, and that it is.
    pub fn retry(&mut self, now: Instant) -> bool {
        match self {
            Self::Claim { retry: (at, left), .. } if *left > 0 && *at <= now => {
                *at = now + RETRY;
                *left -= 1;
                true
            }
            Self::Claim { .. } | Self::None | Self::Serving { .. } => false,
        }
    }

    /// Counts an advert while serving; whether the announcement is to be repeated with it.
    pub fn repeat(&mut self) -> bool {
        match self {
            Self::Serving { repeat_in, .. } if *repeat_in > 0 => {
                *repeat_in -= 1;
                *repeat_in == 0
            }
            Self::Serving { .. } | Self::None | Self::Claim { .. } => false,
        }
    }

    /// Another node claims the VIPs in vain; whether to announce them again: at most once per
    /// `interval`.
    pub fn reassert(&mut self, interval: Span, now: Instant) -> bool {
        match self {
            Self::Serving { announced_at, .. } if now.since(*announced_at) >= interval => {
                *announced_at = now;
                true
            }
            Self::Serving { .. } | Self::None | Self::Claim { .. } => false,
        }
    }
}
