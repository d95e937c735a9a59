//! What the stages see of the world: a frame, and the maps with their clock. The kernel's programs
//! and the tests on the host run the same stages, each over its own.

use carp_common::admission::Auth;
use carp_common::auth::{ProbeKey, Scratch};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::{Captured, Decision, Host, Sample, SenderKey, Vip, VipKey, Window};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::{Instant, Span};
use carp_common::verdict::{Fate, Verdict};
use carp_common::wire::probe::Probe;
use carp_common::wire::{Bytes, Refusal, Sighting, Wire};
use core::net::IpAddr;
use core::num::NonZeroU64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::advert;

/// A frame, from its Ethernet header on. As [`Bytes`] it is the first part of it, which lies in one
/// piece; how long that is, only [`Packet::reach`] makes sure.
pub trait Packet: Bytes {
    /// Link that it came in by, or leaves by.
    fn link(&self) -> IfIndex;

    /// Whether it carries a VLAN tag beside its bytes.
    fn is_tagged(&self) -> bool;

    /// Bytes on the wire, wherever they lie.
    fn wire_len(&self) -> usize;

    /// Whether the link can send it, as long as it is.
    fn can_go_back(&self) -> bool;

    /// Brings as many of the first `len` bytes as there are into one piece.
    fn reach(&mut self, len: u32);

    /// As [`Bytes::load`], of a header or what is in one: as fast as the kernel's own code reads it.
    fn header<T: Wire>(&self, at: usize) -> Option<T>;

    /// A copy of what lies at this offset, wherever in memory; `None` when the frame ends before it.
    fn copy<T: Wire>(&self, at: usize) -> Option<T>;

    /// Writes at this offset; `None`, and nothing written, when the frame ends before it.
    fn store<T: Wire>(&mut self, at: usize, value: T) -> Option<()>;

    /// Makes the frame `len` bytes long; `None` when there is no room for that.
    fn resize(&mut self, len: usize) -> Option<()>;

    /// Has the kernel take a frame that came in as addressed to this link, whose MAC this is.
    fn readdress(&mut self, link_mac: Mac) -> Option<()>;
}

/// The maps of probes.
pub trait Probes {
    /// The longest lease of a master of this slot.
    fn patience(&self, slot: u32) -> Span;

    /// One of the keys by which probes for this slot are signed, counted from zero.
    fn probe_key(&self, slot: u32, number: u32) -> Option<ProbeKey>;

    /// The same for the group of this number.
    fn group_key(&self, group: u32, number: u32) -> Option<ProbeKey>;

    /// Slot of one of its members, counted from zero; `None` when it has no keys.
    fn member(&self, group: u32, index: u32) -> Option<u32>;

    /// Number of the start of the daemon, for this slot.
    fn epoch(&self, slot: u32) -> u32;

    /// Writes down an answer, by which the master's lease ends then; `false` when it is not of this session, or no news.
    fn answered(&self, answer: &Probe, until: Instant) -> bool;
}

/// The maps, and the clock that their windows are about.
pub trait Maps: Probes {
    /// Nanoseconds of `CLOCK_MONOTONIC`, the daemon's clock too.
    fn now(&self) -> Instant;

    /// A moment that is not after now, and as a rule no more than [`LATELY`](carp_common::map::LATELY) before.
    /// Costs little.
    fn lately(&self) -> Instant;

    /// The virtual host with this vhid on this link; an entry that is as good as none is none.
    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host>;

    /// The VIP with this key, likewise.
    fn vip(&self, key: &VipKey) -> Option<Vip>;

    /// The window of this slot, as far as the daemon's pulse lets it last; `None` for a slot that cannot be.
    fn window(&self, slot: u32) -> Option<Window>;

    /// Whether this slot has a lease at this moment.
    fn is_leased(&self, slot: u32) -> bool;

    /// The same with the master that it is armed for, and without the lease.
    fn arming(&self, slot: u32) -> Option<Window>;

    /// When the master of this slot was heard last.
    fn heard(&self, slot: u32) -> Instant;

    /// Changes that.
    fn set_heard(&self, slot: u32, at: Instant);

    /// Has an advert for this slot read, authenticates it ([`Auth::authenticate`]) and has it judged; `None`
    /// when there is nothing to judge it by.
    fn judge(
        &self,
        slot: u32,
        read: impl FnOnce(&mut Sighting) -> Result<(), Refusal>,
        judge: impl FnOnce(&Auth, &Sighting) -> Result<(), Refusal>,
    ) -> Option<Result<(), Refusal>>;

    /// What strict authentication knows of a sender.
    fn sender(&self, key: &SenderKey) -> Option<Sender>;

    /// Knows this of it from now on; `None` when there is no room for a new one.
    fn remember(&self, key: &SenderKey, sender: Sender) -> Option<()>;

    /// Whose answers count for this slot.
    fn challenge(&self, slot: u32) -> Challenge;

    /// Puts an advert into the ring buffer, written in place by `fill`, which gets a zeroed record.
    /// `None` when the ring is full.
    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()>;

    /// Whether a refused advert of this slot is to be shown to the daemon now, and that it is.
    fn is_sample_due(&self, slot: u32, refusal: Refusal, at: Instant) -> bool;

    /// As [`Maps::capture`], a refused one.
    fn sample(&self, fill: impl FnOnce(&mut Sample)) -> Option<()>;

    /// Adds one to a counter of a virtual host, by its place in [`Counts`](carp_common::map::Counts).
    fn count(&self, slot: u32, counter: usize);

    /// Whether the log of decisions is on.
    fn is_logging(&self) -> bool;

    /// Puts a decision into it, written in place by `fill`, which gets a zeroed record.
    fn log(&self, fill: impl FnOnce(&mut Decision));

    /// The VIP with this address on this link. A group is none, and not looked up: most of what is for
    /// everybody. An IPv4 address in IPv6's clothes is none, although the map's keys look like it: no such
    /// packet is to be on a wire (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    fn vip_at(&self, link: IfIndex, address: IpAddr) -> Option<Vip> {
        match address {
            IpAddr::V4(ip) if ip.octets()[0] >> 4 == 0xe => None,
            IpAddr::V6(ip) if ip.octets()[0] == 0xff || is_mapped(ip.octets()) => None,
            IpAddr::V4(_) | IpAddr::V6(_) => self.vip(&VipKey::new(link, address)),
        }
    }

    /// Whether this slot's window is open; that of a slot that cannot be never is.
    #[inline(always)]
    fn serves(&self, slot: u32) -> bool {
        self.is_leased(slot) || self.is_taken_over(slot)
    }

    /// Whether this slot serves as an armed backup.
    ///
    /// The exact time costs half as much as all the rest of a drop, and is not asked for when the
    /// window is closed for some time to come. Should the rule of [`Maps::lately`] not hold for once,
    /// it opens that much later: the safe side.
    #[inline(always)]
    fn is_taken_over(&self, slot: u32) -> bool {
        let Some(window) = self.arming(slot).filter(|window| window.dead != 0) else { return false };
        let heard = self.heard(window.clock(slot));
        !window.is_surely_closed(heard, self.lately()) && window.is_open(heard, self.now())
    }
}

/// Byte by byte, as it lies in the frame: at most of them the first one tells.
#[inline(always)]
const fn is_mapped(address: [u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

/// Where an advert is worked on: the kernel's stack is too small.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Desk {
    /// For its digest.
    pub scratch: Scratch,
    /// The advert.
    pub seen: Sighting,
}

/// What a stage makes of a frame, and whose it is: the slot of a virtual host. All in one word: where
/// several stages' results come together the compiler makes half undefined ones of two, and the verifier
/// refuses them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged(NonZeroU64);

impl Judged {
    /// The slot in the upper half, then what is counted, counted from one, and the fate.
    #[inline(always)]
    pub(crate) fn new(slot: u32, verdict: Verdict) -> Self {
        let counted = verdict.counter().map_or(0, |counter| counter.index() as u64 + 1);
        Self(NonZeroU64::MIN | u64::from(slot) << 32 | counted << 8 | (verdict.fate() as u64) << 1)
    }

    #[inline(always)]
    const fn slot(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// The place of its counter in [`Counts`](carp_common::map::Counts); `None` when it is not counted.
    #[inline(always)]
    pub(crate) const fn counter(self) -> Option<usize> {
        ((self.0.get() >> 8 & 0xff) as usize).checked_sub(1)
    }

    #[inline(always)]
    const fn fate(self) -> Fate {
        match self.0.get() >> 1 & 3 {
            0 => Fate::Passes,
            1 => Fate::GoesBack,
            _ => Fate::Ends,
        }
    }
}

/// Counts what was decided, and logs what was answered or dropped.
#[inline(always)]
pub(crate) fn counted(judged: Option<Judged>, packet: &impl Packet, maps: &impl Maps) -> Fate {
    let Some(judged) = judged else { return Fate::Passes };
    let fate = judged.fate();
    if let Some(counter) = judged.counter() {
        maps.count(judged.slot(), counter);
        if fate != Fate::Passes && maps.is_logging() {
            log(judged.slot(), counter, packet, maps);
        }
    }
    fate
}

/// A function of its own, for its stack.
#[inline(never)]
fn log(slot: u32, counter: usize, packet: &impl Packet, maps: &impl Maps) {
    maps.log(|decision| {
        decision.at = maps.now().nanos();
        decision.ifindex = packet.link().0;
        decision.slot = slot;
        decision.counter = u32::try_from(counter).unwrap_or(u32::MAX);
        decision.frame_len = u32::try_from(packet.wire_len()).unwrap_or(u32::MAX);
        advert::copy(packet, &mut decision.frame);
    });
}
