//! How fast a virtual host advertises, and what follows from it: the rank in the election, the
//! time after which a master counts as dead, the lease. The only place that knows of 1/256 s.

use crate::time::Span;
use core::num::NonZeroU64;

/// Highest skew that a demoted or configured node puts on the wire (`CARP_MAXSKEW`).
pub const MAX_SKEW: u8 = 240;

/// The part of the dead time by which a lease ends earlier.
const LEASE_MARGIN: NonZeroU64 = NonZeroU64::new(64).expect("64 is not zero");

/// Base (seconds) and skew (1/256 s): the time between two advertisements, and the rank in the
/// election. Smaller leads; seconds compare first (`carp-protocol` section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pace {
    /// advbase, seconds.
    pub base: u8,
    /// advskew, 1/256 s.
    pub skew: u8,
}

impl Pace {
    /// What a leaving master sends: 255/255, worse than anything that may be configured.
    /// Sent to the group, any backup takes over at once; sent to one node, it is handed the role.
    pub const BOW_OUT: Self = Self { base: 255, skew: 255 };
    /// What a backup of ours sends to one master, to learn whether it confirms hand-overs. Every
    /// master ignores it as it is worse than itself; one of ours answers. So with the next three.
    pub const GREETING: Self = Self { base: 255, skew: 254 };
    /// What a former master of ours sends to the one that it gave way to: it does not serve any more.
    pub const CONFIRMATION: Self = Self { base: 255, skew: 253 };
    /// What a master of ours sends to a backup that greeted it: it will confirm.
    pub const ANSWER: Self = Self { base: 255, skew: 252 };
    /// The same, and more: the backup is its heir, and may take over without settling first.
    pub const PROMISE: Self = Self { base: 255, skew: 251 };

    /// Whether it is one of the words above, which no master advertises with.
    #[inline(always)]
    pub const fn is_word(self) -> bool {
        self.base == Self::PROMISE.base && self.skew >= Self::PROMISE.skew
    }

    /// Time between two advertisements, in whole microseconds as FreeBSD counts them; 3906 µs for
    /// base 0 skew 0 (OpenBSD). `carp-protocol` section 3.2.
    pub const fn interval(self) -> Span {
        if self.base == 0 && self.skew == 0 { skew_time(1) } else { base_time(self.base, 1, self.skew) }
    }

    /// Silence after which a backup takes the master for dead: FreeBSD's 3 × base + skew/256 s.
    /// For base 0, which FreeBSD does not allow, three intervals. Use the *configured* skew:
    /// demotion must not slow a take-over (item 64).
    pub const fn dead(self) -> Span {
        if self.base == 0 { self.interval().times(3) } else { base_time(self.base, 3, self.skew) }
    }

    /// How long a master may serve after an advertisement that it has really sent. It ends before
    /// a backup with the same base and the best skew, 0, takes over: a 64th of the dead time (47 ms
    /// at base 1) pays for clock drift and for the time that the send itself took.
    pub const fn lease(self) -> Span {
        let dead = Self { skew: 0, ..self }.dead();
        dead.less(dead.part(LEASE_MARGIN))
    }

    /// The end of what a *heard* master may be serving, counted from the arrival of its
    /// advertisement: no lease of that base lasts longer.
    pub const fn longest_lease(self) -> Span {
        Self { skew: 0, ..self }.dead()
    }

    /// With demotion folded into the skew, FreeBSD's way: clamp(skew + demotion, 0, 240). A
    /// configured skew above 240 is advertised as 240 (item 87).
    pub fn demoted(self, demotion: i32) -> Self {
        let skew = i32::from(self.skew).saturating_add(demotion).clamp(0, i32::from(MAX_SKEW));
        Self { skew: u8::try_from(skew).unwrap_or(MAX_SKEW), ..self }
    }

    /// A peer with this pace will be slower than `own` can wait: FreeBSD's "master will time out"
    /// rule, which also makes a bow-out an immediate take-over (section 3.4, row 3). `own` is the
    /// effective pace.
    pub fn outlasts(self, own: Self) -> bool {
        let limit = (u16::from(own.base) * 3, own.skew);
        (u16::from(self.base), self.skew) > limit
    }
}

const fn skew_time(skew: u8) -> Span {
    Span::micros(skew as u64 * 1_000_000 / 256)
}

const fn base_time(base: u8, times: u64, skew: u8) -> Span {
    let seconds = Span::secs(base as u64 * times).as_nanos();
    Span::nanos(seconds + skew_time(skew).as_nanos())
}
