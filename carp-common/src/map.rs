//! The BPF maps' keys and values, shared by the datapath and the loader.
//!
//! An absent entry and a zero entry mean the same: pass. Layouts have no implicit padding (the
//! `IntoBytes` derive refuses it) and their sizes are asserted below.

mod counter;
mod link;
mod probe;
mod trace;
mod vip;
mod window;

pub use counter::{Counter, Counts, NO_COUNTS};
pub use link::{LINK_PLACES, LINK_STEPS, LINKS, Link};
pub use probe::{
    GROUP_PROBES, GroupProbes, MAX_GROUPS, MAX_MEMBERS, MAX_PATHS, PROBE_KEYS, PROBED, PULSE, ProbeKeys,
    Probed,
};
pub use trace::{DECISION_LEN, DECISIONS, DECISIONS_BYTES, Decision, TRACE, TRACE_LOST, TRACE_UNTIL};
pub use vip::{
    FORMER_VIP, NO_VIP, VIP_BLOCKS, VIP_INDEX, VIP_STEPS, VIPS, Vip, VipBlock, VipEntry, VipKey, VipPlace,
};
pub use window::{ARMED_FOR, LATELY, Window};

use crate::id::{IfIndex, Mac, Vhid};
use crate::time::Span;
use crate::wire::Refusal;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of these layouts; pinned maps of another version are not adopted.
pub const ABI: u32 = 11;

/// Most virtual hosts of one instance; the size of [`WINDOWS`]. Policy when full: the
/// configuration is refused.
pub const MAX_HOSTS: u32 = 4096;
/// Most VIPs of one instance. Policy when full: the configuration is refused.
pub const MAX_VIPS: u32 = 16384;
/// Most senders that strict authentication remembers; only what is authentic makes an entry. Policy when
/// full: a new sender's adverts are refused as unproven.
pub const MAX_SENDERS: u32 = 8192;
/// Bytes of the ring buffer for adverts, about 1700 of them: when a master of 850 virtual hosts stops, each of them says so
/// to its heir and to the group at once. Policy when full: the advert is
/// counted as [`Counter::RingFull`] and lost, as it would be on a full link.
pub const RING_BYTES: u32 = 1 << 18;

/// Of one virtual host at most one refused advert in this time and for the same reason goes to the
/// daemon: enough for a warning, and nothing that a flood could make use of.
pub const SAMPLE_EVERY: Span = Span::secs(1);

/// Name of the array of [`Host`]s, by slot; [`LINKS`] says which slot a virtual host has.
pub const HOSTS: &str = "HOSTS";
/// Name of the array of [`Window`]s, by slot. User space writes it, the programs read it.
pub const WINDOWS: &str = "WINDOWS";
/// Name of the array of moments, by slot: when the master that the slot is armed for was heard last,
/// nanoseconds of `CLOCK_MONOTONIC`; 0 is never. User space writes it when it arms, the XDP program
/// with every authentic advert ([`Window::hear`]).
pub const HEARD: &str = "HEARD";
/// Name of the ring buffer of [`Captured`] adverts.
pub const ADVERTS: &str = "ADVERTS";
/// Name of the array of [`Auth`](crate::admission::Auth), by slot. It holds secrets.
pub const AUTH: &str = "AUTH";
/// Name of the map from [`SenderKey`] to [`Sender`](crate::sender::Sender). XDP writes it; user space
/// removes what is of hosts that are gone.
pub const SENDERS: &str = "SENDERS";
/// Name of the array of [`Challenge`](crate::sender::Challenge)s, by slot.
pub const CHALLENGES: &str = "CHALLENGES";
/// Name of the ring buffer of [`Sample`]s.
pub const REFUSED: &str = "REFUSED";
/// Name of the per-CPU array of [`Counts`], by slot.
pub const COUNTERS: &str = "COUNTERS";

/// A virtual host on a link.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct HostKey {
    /// Link that a frame came in by, or leaves by.
    pub ifindex: u32,
    /// The vhid, 1..=255.
    pub vhid: u32,
}

/// What the datapath knows of a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Host {
    /// Index of its window in [`WINDOWS`].
    pub slot: u32,
    /// The link's own MAC, which frames to the virtual MAC are rewritten to while serving.
    pub link_mac: [u8; 6],
    /// [`Host::ROUTER`], [`Host::ANSWER_PING`].
    pub flags: u16,
}

/// A sender of adverts for a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SenderKey {
    /// The virtual host.
    pub host: HostKey,
    /// The sender's address; IPv4 is mapped.
    pub source: [u8; 16],
}

/// Bytes of a frame that a [`Captured`] record holds: an IPv6 advert, or one with all IPv4
/// options and some trailing bytes.
pub const CAPTURE_LEN: usize = 128;

/// An advert on its way to the daemon through the ring buffer.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Captured {
    /// Arrival, nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Link that it came in by.
    pub ifindex: u32,
    /// Bytes of the frame on the wire, also when more than [`CAPTURE_LEN`].
    pub frame_len: u32,
    /// The frame from its Ethernet header on, zero-padded.
    pub frame: [u8; CAPTURE_LEN],
}

/// One of the adverts that the datapath refused and has counted.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sample {
    /// The [`Refusal`], by its index.
    pub refusal: u32,
    /// Zero.
    pub reserved: u32,
    /// The frame.
    pub captured: Captured,
}

/// When a [`Sample`] of each [`Refusal`] was taken last, nanoseconds of `CLOCK_MONOTONIC`.
pub type Sampled = [u64; Refusal::COUNT];

impl HostKey {
    /// For this virtual host on this link.
    pub fn new(link: IfIndex, vhid: Vhid) -> Self {
        Self { ifindex: link.0, vhid: u32::from(vhid.get()) }
    }
}

impl Host {
    /// Nobody's.
    pub const NONE: Self = Self { slot: 0, link_mac: [0; 6], flags: 0 };

    /// Whether it is an entry: not zero, and of a slot that can be. Any other is as good as none.
    #[inline(always)]
    pub const fn exists(&self) -> bool {
        !matches!(self.link_mac, [0, 0, 0, 0, 0, 0]) && self.slot < MAX_HOSTS
    }

    /// The node forwards: its neighbour advertisements carry the router flag.
    pub const ROUTER: u16 = 1;
    /// Echo requests to its VIPs are answered here, not by the kernel.
    pub const ANSWER_PING: u16 = 2;

    /// The link's MAC as its type.
    pub const fn mac(&self) -> Mac {
        Mac(self.link_mac)
    }
}

const _: () = {
    assert!(size_of::<HostKey>() == 8);
    assert!(size_of::<Host>() == 12);
    assert!(size_of::<SenderKey>() == 24);
    assert!(size_of::<VipEntry>() == 32);
    assert!(size_of::<Window>() == 56);
    assert!(size_of::<ProbeKeys>() == 40);
    assert!(size_of::<GroupProbes>() == 72);
    assert!(size_of::<Probed>() == 32);
    assert!(size_of::<Captured>() == 144);
    assert!(size_of::<Sample>() == 152);
};

#[cfg(feature = "user")]
mod pod {
    #![allow(unsafe_code)]
    // SAFETY: every type below derives zerocopy's `FromBytes` and `IntoBytes`: no padding, and
    // every bit pattern is a value, which is what `Pod` asks for.
    unsafe impl aya::Pod for super::HostKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Host {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Link {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::VipEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Window {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::admission::Auth {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SenderKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::sender::Sender {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::sender::Challenge {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ProbeKeys {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::GroupProbes {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Probed {}
}
