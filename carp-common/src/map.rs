//! The BPF maps' keys and values, shared by the datapath and the loader.
//!
//! An absent entry and a zero entry mean the same: pass. Layouts have no implicit padding (the
//! `IntoBytes` derive refuses it) and their sizes are asserted below.

mod counter;
mod trace;

pub use counter::{Counter, Counts};
pub use trace::{DECISION_LEN, DECISIONS, DECISIONS_BYTES, Decision, TRACE, TRACE_LOST, TRACE_UNTIL};

use crate::id::{IfIndex, Mac, Vhid};
use crate::time::{Instant, Span};
use crate::wire::Refusal;
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of these layouts; pinned maps of another version are not adopted.
pub const ABI: u32 = 5;

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
/// Name of the array of moments, by slot: when the master that the slot is armed for was heard last,
/// nanoseconds of `CLOCK_MONOTONIC`; 0 is never. User space writes it when it arms, the XDP program
/// with every authentic advert ([`Window::hear`]).
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
    /// [`Host::ROUTER`], [`Host::ANSWER_PING`].
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
    /// [`Host::ROUTER`], [`Host::ANSWER_PING`].
    pub flags: u16,
}

/// When the datapath may serve: from one moment until another, which is a master's lease; or for
/// [`ARMED_FOR`] once the master has been silent for so long, which is an armed backup's window. XDP
/// moves that one with every advert ([`HEARD`]), so it opens with nobody's help. All zero is closed.
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
    /// Address of the master that it is armed for: the bytes of a [`VipKey::address`], in words, which
    /// are what the datapath can read at once.
    pub master: [u64; 2],
}

/// How long an armed backup serves without its daemon: long enough to wake one, short enough that
/// any other node can wait for its end.
pub const ARMED_FOR: Span = Span::millis(100);

/// How old the time may be by which a window is found to be closed for sure: two ticks of the kernel
/// whose clock ticks slowest.
pub const LATELY: Span = Span::millis(20);

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

impl Vip {
    /// As [`Host::exists`].
    #[inline(always)]
    pub const fn exists(&self) -> bool {
        self.vhid != 0 && self.slot < MAX_HOSTS
    }

    /// Whether its neighbour advertisements carry the router flag.
    #[inline(always)]
    pub const fn is_router(&self) -> bool {
        self.flags & Host::ROUTER != 0
    }

    /// Whether echo requests to it are answered here.
    #[inline(always)]
    pub const fn answers_ping(&self) -> bool {
        self.flags & Host::ANSWER_PING != 0
    }

    /// The virtual host's number; `None` in an absent entry.
    #[inline(always)]
    pub fn vhid(&self) -> Option<Vhid> {
        Vhid::new(u8::try_from(self.vhid).ok()?)
    }
}

impl VipKey {
    /// For this address on this link.
    #[inline(always)]
    pub fn new(link: IfIndex, vip: IpAddr) -> Self {
        Self { ifindex: link.0, address: mapped(vip) }
    }
}

/// IPv4 as `::ffff:a.b.c.d`. As `to_ipv6_mapped` does it, but in words: in BPF ten zero bytes in a row are
/// a call of a byte loop, a sixth of what dropping a frame may cost.
#[inline(always)]
const fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => {
            zerocopy::transmute!([0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(ip.octets())])
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The same in words.
#[inline(always)]
const fn in_words(address: IpAddr) -> [u64; 2] {
    zerocopy::transmute!(mapped(address))
}

#[inline(always)]
const fn is_mapped([high, low]: [u64; 2]) -> bool {
    high == 0 && u64::from_be(low) >> 32 == 0xffff
}

impl Window {
    /// Never.
    pub const CLOSED: Self = Self { serve_from: 0, serve_until: 0, dead: 0, armed_until: 0, master: [0; 2] };

    /// From one moment until another.
    pub const fn new(from: Instant, until: Instant) -> Self {
        Self { serve_from: from.nanos(), serve_until: until.nanos(), ..Self::CLOSED }
    }

    /// Once this master has been silent for so long, if that is before `until`.
    pub fn armed(dead: Span, until: Instant, master: IpAddr) -> Self {
        let (dead, armed_until) = (dead.as_nanos(), until.nanos());
        Self { dead, armed_until, master: in_words(master), ..Self::CLOSED }
    }

    /// Without its lease.
    #[must_use]
    pub const fn without_lease(self) -> Self {
        Self { serve_from: 0, serve_until: 0, ..self }
    }

    /// Without being armed.
    #[must_use]
    pub const fn disarmed(self) -> Self {
        Self { serve_from: self.serve_from, serve_until: self.serve_until, ..Self::CLOSED }
    }

    /// What an authenticated advert of a master, not one of its words, makes of this slot's entry in
    /// [`HEARD`]. It moves with the master that the slot is armed for. With another's, or when that
    /// one returns after `patience`, the longest lease, it is over: zero, until the daemon arms anew.
    #[inline(always)]
    pub fn hear(&self, heard: Instant, source: IpAddr, patience: Span, now: Instant) -> Instant {
        let source = in_words(source);
        if self.dead == 0 || is_mapped(source) != is_mapped(self.master) {
            return heard;
        }
        let is_over = heard == Instant::ZERO || source != self.master || patience <= now.since(heard);
        if is_over { Instant::ZERO } else { now }
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

    /// Whether it is sure to be closed from `lately` on for [`LATELY`]: it has no lease or one that is over,
    /// and is not armed, or the master was heard not long ago. Of a closed window it may not be sure, of
    /// an open one it never is.
    #[inline(always)]
    pub const fn is_surely_closed(&self, heard: Instant, lately: Instant) -> bool {
        let silence = lately.since(heard).as_nanos();
        let is_waiting =
            self.dead == 0 || heard.nanos() == 0 || silence.saturating_add(LATELY.as_nanos()) < self.dead;
        self.serve_until <= lately.nanos() && is_waiting
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
    assert!(size_of::<Window>() == 48);
    assert!(size_of::<Captured>() == 144);
    assert!(size_of::<Sample>() == 152);
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of [`LATELY`]: no moment that matters lies between two.
    const STEP: u64 = LATELY.as_nanos() / 2;

    /// Every combination of some moments, and when the master was heard.
    fn windows() -> impl Iterator<Item = (Window, Instant)> {
        const STEPS: [u64; 8] = [0, 1, 2, 3, 5, 8, 13, 18];
        (0..STEPS.len().pow(5)).map(|index| {
            let pick = |digit| STEPS[index / STEPS.len().pow(digit) % STEPS.len()] * STEP;
            let (serve_from, serve_until, dead, armed_until) = (pick(0), pick(1), pick(2), pick(3));
            let window = Window { serve_from, serve_until, dead, armed_until, ..Window::CLOSED };
            (window, Instant::from_nanos(pick(4)))
        })
    }

    #[test]
    fn what_is_surely_closed_is_open_at_no_moment_of_the_time_that_it_is_sure_for() {
        let mut seen = [0; 2];
        for (window, heard) in windows() {
            for lately in 0..20 {
                let is_closed = window.is_surely_closed(heard, Instant::from_nanos(lately * STEP));
                let mut moments = (0..5).map(|half| Instant::from_nanos(lately * STEP + half * STEP / 2));
                let is_open = moments.any(|now| window.is_open(heard, now));
                assert!(!(is_closed && is_open), "{window:?} {heard:?} {lately}");
                seen[usize::from(is_closed)] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 10_000), "{seen:?}");
    }
}

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
