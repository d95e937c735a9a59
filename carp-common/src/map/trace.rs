//! The log of decisions: off as a rule, switched on for a time by `carpctl trace`.

use super::Counter;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the array of two numbers: at [`TRACE_UNTIL`] and [`TRACE_LOST`].
pub const TRACE: &str = "TRACE";
/// Until when decisions are logged, nanoseconds of `CLOCK_MONOTONIC`; 0 is never. So whoever switches
/// the log on and dies leaves it off.
pub const TRACE_UNTIL: u32 = 0;
/// About how many decisions there was no room for. The programs count without a lock.
pub const TRACE_LOST: u32 = 1;
/// Name of the ring buffer of [`Decision`]s.
pub const DECISIONS: &str = "DECISIONS";
/// Bytes of that ring buffer, about 600 decisions. Policy when full: the decision is counted at
/// [`TRACE_LOST`] and not logged, so that a flood is told by its number.
pub const DECISIONS_BYTES: u32 = 1 << 16;

/// Bytes of a frame that a [`Decision`] holds: what every stage looks at.
pub const DECISION_LEN: usize = 64;

/// That a frame was answered or dropped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Decision {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Link that the frame came in by, or was to leave by.
    pub ifindex: u32,
    /// Slot of the virtual host.
    pub slot: u32,
    /// The [`Counter`] that says what was done: its index in the map.
    pub counter: u32,
    /// Bytes of the frame on the wire, also when more than [`DECISION_LEN`].
    pub frame_len: u32,
    /// The frame from its Ethernet header on, zero-padded; one that was answered is its answer.
    pub frame: [u8; DECISION_LEN],
}

impl Decision {
    /// What was done; `None` for a number that this version does not know.
    pub fn counter(&self) -> Option<Counter> {
        usize::try_from(self.counter).ok().and_then(|index| Counter::ALL.get(index)).copied()
    }
}

const _: () = assert!(size_of::<Decision>() == 88);
