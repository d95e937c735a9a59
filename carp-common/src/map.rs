//! The BPF maps' keys and values, shared by the datapath and the loader.
//!
//! An absent entry and a zero entry mean the same: pass. Layouts have no implicit padding (the
//! `IntoBytes` derive refuses it) and their sizes are asserted below.

mod counter;

pub use counter::{Counter, Counts};

use crate::id::{IfIndex, Mac, Vhid};
use crate::time::{Instant, Span};
use crate::wire::Refusal;
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of these layouts; pinned maps of another version are not adopted.
pub const ABI: u32 = 4;

/// Most virtual hosts of one instance; the size of [`WINDOWS`]. Policy when full: the
/// configuration is refused.
pub const MAX_HOSTS: u32 = 4096;
/// Most VIPs of one instance. Policy when full: the configuration is refused.
pub const MAX_VIPS: u32 = 16384;
/// Bytes of the ring buffer for adverts, about 400 of them. Policy when full: the advert is
/// counted as [`Counter::RingFull`] and lost, as it would be on a full link.
pub const RING_BYTES: u32 = 1 << 16;

/// Of one virtual host at most one refused advert in this time and for the same reason goes to the
/// daemon: enough for a warning, and nothing that a flood could make use of.
pub const SAMPLE_EVERY: Span = Span::secs(1);

/// Name of the map from [`HostKey`] to [`Host`].
pub const HOSTS: &str = "HOSTS";
/// Name of the map from [`VipKey`] to [`Vip`].
pub const VIPS: &str = "VIPS";
/// Name of the array of [`Window`]s, by slot. User space writes it, the programs read it.
pub const WINDOWS: &str = "WINDOWS";
/// Name of the array of moments, by slot: when the last authenticated advert of a master arrived,
/// nanoseconds of `CLOCK_MONOTONIC`; 0 is never. The XDP program writes it.
pub const HEARD: &str = "HEARD";
/// Name of the ring buffer of [`Captured`] adverts.
pub const ADVERTS: &str = "ADVERTS";
/// Name of the array of [`Auth`](crate::admission::Auth), by slot. It holds secrets.
pub const AUTH: &str = "AUTH";
/// Name of the ring buffer of [`Sample`]s.
pub const REFUSED: &str = "REFUSED";
/// Name of the per-CPU array of [`Counts`], by slot.
pub const COUNTERS: &str = "COUNTERS";

/// A virtual host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
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
    /// [`Host::ROUTER`].
    pub flags: u16,
}

/// A VIP on a link. IPv4 addresses are mapped, `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VipKey {
    /// Link that a frame came in by, or leaves by.
    pub ifindex: u32,
    /// The address.
    pub address: [u8; 16],
}

/// What the datapath knows of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Vip {
    /// Index of its window in [`WINDOWS`].
    pub slot: u32,
    /// The vhid, hence the virtual MAC; 0 in an absent entry.
    pub vhid: u16,
    /// [`Host::ROUTER`].
    pub flags: u16,
}

/// When the datapath may serve: from one moment until another, which is a master's lease, or for
/// [`ARMED_FOR`] once its master has been silent for so long, which is an armed backup's window. That
/// one moves with every advert in [`HEARD`], so it opens with nobody's help. All zero is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Window {
    /// First moment of the lease, nanoseconds of `CLOCK_MONOTONIC`.
    pub serve_from: u64,
    /// First moment no longer.
    pub serve_until: u64,
    /// Nanoseconds of silence after which an armed backup serves; 0 when it is not armed.
    pub dead: u64,
    /// First moment at which it is not armed any more, whatever its daemon does.
    pub armed_until: u64,
}

/// How long an armed backup serves without its daemon: long enough to wake one, short enough that
/// any other node can wait for its end.
pub const ARMED_FOR: Span = Span::millis(100);

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
    /// The node forwards: its neighbour advertisements carry the router flag.
    pub const ROUTER: u16 = 1;

    /// The link's MAC as its type.
    pub const fn mac(&self) -> Mac {
        Mac(self.link_mac)
    }
}

impl Vip {
    /// Whether its neighbour advertisements carry the router flag.
    #[inline(always)]
    pub const fn is_router(&self) -> bool {
        self.flags & Host::ROUTER != 0
    }
}

impl VipKey {
    /// For this address on this link.
    #[inline(always)]
    pub fn new(link: IfIndex, vip: IpAddr) -> Self {
        let address = match vip {
            // As `to_ipv6_mapped` does it, but in two stores: in BPF that one calls a byte loop.
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
            }
            IpAddr::V6(ip) => ip.octets(),
        };
        Self { ifindex: link.0, address }
    }
}

impl Window {
    /// Never.
    pub const CLOSED: Self = Self { serve_from: 0, serve_until: 0, dead: 0, armed_until: 0 };

    /// From one moment until another.
    pub const fn new(from: Instant, until: Instant) -> Self {
        Self { serve_from: from.nanos(), serve_until: until.nanos(), ..Self::CLOSED }
    }

    /// Once the master has been silent for this long, if that is before `until`.
    pub const fn armed(dead: Span, until: Instant) -> Self {
        Self { dead: dead.as_nanos(), armed_until: until.nanos(), ..Self::CLOSED }
    }

    /// Whether the datapath serves at `now`; `heard` is this slot's entry in [`HEARD`].
    #[inline(always)]
    pub const fn is_open(&self, heard: Instant, now: Instant) -> bool {
        self.is_leased(now) || self.is_taken_over(heard, now)
    }

    /// Whether it serves as a master.
    #[inline(always)]
    pub const fn is_leased(&self, now: Instant) -> bool {
        self.serve_from <= now.nanos() && now.nanos() < self.serve_until
    }

    /// Whether a silent master may be replaced at all.
    #[inline(always)]
    pub const fn is_armed(&self, now: Instant) -> bool {
        self.dead != 0 && now.nanos() < self.armed_until
    }

    /// When it opens by itself if the master stays silent, if it is armed until then.
    pub const fn opening(&self, heard: Instant) -> Option<Instant> {
        let at = heard.nanos().saturating_add(self.dead);
        if self.dead != 0 && heard.nanos() != 0 && at < self.armed_until {
            Some(Instant::from_nanos(at))
        } else {
            None
        }
    }

    /// Whether it serves as an armed backup.
    #[inline(always)]
    const fn is_taken_over(&self, heard: Instant, now: Instant) -> bool {
        if !self.is_armed(now) || heard.nanos() == 0 {
            return false;
        }
        let silence = now.since(heard).as_nanos();
        self.dead <= silence && silence - self.dead < ARMED_FOR.as_nanos()
    }
}

const _: () = {
    assert!(size_of::<HostKey>() == 8);
    assert!(size_of::<Host>() == 12);
    assert!(size_of::<VipKey>() == 20);
    assert!(size_of::<Vip>() == 8);
    assert!(size_of::<Window>() == 32);
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
    unsafe impl aya::Pod for super::VipKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Vip {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Window {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::admission::Auth {}
}
