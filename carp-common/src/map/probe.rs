//! What the datapath knows of probes ([`Probe`]), and what ends the leases of a daemon that does not run.

#[cfg(doc)]
use super::Window;
use crate::auth::ProbeKey;
use crate::time::Instant;
#[cfg(doc)]
use crate::wire::probe::Probe;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the array of one moment, nanoseconds of `CLOCK_MONOTONIC`: until then the daemon has said that it runs. User
/// space writes it as memory; leases that need it ([`Window::pulsed`]) end with it.
pub const PULSE: &str = "PULSE";
/// Name of the array of [`ProbeKeys`], by slot. It holds secrets.
pub const PROBE_KEYS: &str = "PROBE_KEYS";
/// Name of the array of [`Probed`], by path: what this node asks with is numbered by its prober. User space writes the
/// session, as memory, and XDP the rest.
pub const PROBED: &str = "PROBED";

/// Most paths that a node probes. Policy when full: those of further interfaces are not.
pub const MAX_PATHS: u32 = 256;

/// By which keys probes of a virtual host are signed: the one that is sent first, and another one that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProbeKeys {
    /// The keys.
    pub keys: [ProbeKey; 2],
    /// How many of them are in use. 0, as in an absent entry: probes are no business of the datapath.
    pub count: u32,
    /// Number of the start of the daemon.
    pub epoch: u32,
}

/// The newest answer that came in over a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Probed {
    /// What the probes that count carry; 0 is none. Bytes as on the wire, in a word.
    pub session: u64,
    /// When the probe was sent that was answered, nanoseconds of this node's `CLOCK_MONOTONIC`.
    pub sent_at: u64,
    /// When the master's lease ends at the latest, likewise: the answer's arrival, and what it said to be left.
    pub until: u64,
    /// The epoch of the master.
    pub epoch: u64,
}

impl ProbeKeys {
    /// None at all.
    pub const NONE: Self = Self { keys: [ProbeKey::NONE; 2], count: 0, epoch: 0 };

    /// One of those in use, counted from zero.
    #[inline(always)]
    pub const fn get(&self, number: u32) -> Option<ProbeKey> {
        match number {
            0 if self.count > 0 => Some(self.keys[0]),
            1 if self.count > 1 => Some(self.keys[1]),
            _ => None,
        }
    }
}

impl Probed {
    /// Whether this answer, of this session, is newer than the one that is known.
    #[inline(always)]
    pub const fn is_news(&self, session: u64, sent_at: Instant) -> bool {
        self.session != 0 && session == self.session && self.sent_at < sent_at.nanos()
    }
}
