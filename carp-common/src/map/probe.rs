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

/// Name of the array of [`GroupProbes`], by the number of the group less one. It holds secrets.
pub const GROUP_PROBES: &str = "GROUP_PROBES";

/// Most groups whose masters are asked over the sync link, too. Policy when full: further ones are not.
pub const MAX_GROUPS: u32 = 32;
/// Most members that are looked at to find out whether a group is served.
pub const MAX_MEMBERS: u32 = 8;
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

/// A group, as it is asked for over the sync link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GroupProbes {
    /// By which keys its probes are signed.
    pub keys: ProbeKeys,
    /// Slots of its virtual hosts, one for each link; after the last one the first comes again.
    pub members: [u32; MAX_MEMBERS as usize],
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

impl GroupProbes {
    /// Nothing is asked for.
    pub const NONE: Self = Self { keys: ProbeKeys::NONE, members: [0; MAX_MEMBERS as usize] };

    /// The group of these slots, of which the first few count.
    pub fn new(keys: ProbeKeys, slots: &[u32]) -> Self {
        let first = slots.first().copied().unwrap_or(0);
        let mut members = [first; MAX_MEMBERS as usize];
        members.iter_mut().zip(slots).for_each(|(member, slot)| *member = *slot);
        Self { keys, members }
    }
}

impl Probed {
    /// Whether this answer, of this session, is newer than the one that is known.
    #[inline(always)]
    pub const fn is_news(&self, session: u64, sent_at: Instant) -> bool {
        self.session != 0 && session == self.session && self.sent_at < sent_at.nanos()
    }
}
