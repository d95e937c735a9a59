//! What the stages see of the world: a frame, and the maps with their clock. The kernel's programs
//! and the tests on the host run the same stages, each over its own.

use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::{Captured, Counter, Host, Vip, VipKey, Window};
use carp_common::time::Instant;
use carp_common::verdict::Verdict;
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What can lie in a frame: any bytes at any place.
pub trait Wire: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<T: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Wire for T {}

/// A frame, from its Ethernet header on. Its first bytes lie in one piece; how many, only
/// [`Packet::reach`] makes sure.
pub trait Packet {
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

    /// What lies at this offset; `None` when the part in one piece ends before it.
    fn load<T: Wire>(&self, at: usize) -> Option<&T>;

    /// A copy of what lies at this offset, wherever in memory; `None` when the frame ends before it.
    fn copy<T: Wire>(&self, at: usize) -> Option<T>;

    /// Writes at this offset; `None`, and nothing written, when the frame ends before it.
    fn store<T: Wire>(&mut self, at: usize, value: T) -> Option<()>;

    /// Makes the frame `len` bytes long; `None` when there is no room for that.
    fn resize(&mut self, len: usize) -> Option<()>;

    /// Has the kernel take a frame that came in as addressed to this link, whose MAC this is.
    fn readdress(&mut self, link_mac: Mac) -> Option<()>;
}

/// The maps, and the clock that their windows are about.
pub trait Maps {
    /// Nanoseconds of `CLOCK_MONOTONIC`, the daemon's clock too.
    fn now(&self) -> Instant;

    /// The virtual host with this vhid on this link.
    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host>;

    /// The VIP with this key; a zero entry is none.
    fn vip(&self, key: &VipKey) -> Option<Vip>;

    /// The window of this slot; `None` for a slot that cannot be.
    fn window(&self, slot: u32) -> Option<Window>;

    /// When the master of this slot was heard last.
    fn heard(&self, slot: u32) -> Instant;

    /// Puts an advert into the ring buffer, written in place by `fill`, which gets a zeroed record.
    /// `None` when the ring is full.
    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()>;

    /// Adds one to a counter of a virtual host.
    fn count(&self, slot: u32, counter: Counter);

    /// The VIP with this address on this link. An IPv4 address in IPv6's clothes is none, although the
    /// map's keys look like it: no such packet is to be on a wire (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    fn vip_at(&self, link: IfIndex, address: IpAddr) -> Option<Vip> {
        match address {
            IpAddr::V6(ip) if ip.to_bits() >> 32 == 0xffff => None,
            IpAddr::V4(_) | IpAddr::V6(_) => self.vip(&VipKey::new(link, address)),
        }
    }

    /// Whether this slot's window is open; that of a slot that cannot be never is.
    #[inline(always)]
    fn serves(&self, slot: u32) -> bool {
        let Some(window) = self.window(slot).filter(|window| !window.is_shut()) else { return false };
        let now = self.now();
        window.is_leased(now) || (window.is_armed(now) && window.is_open(self.heard(slot), now))
    }
}

/// What a stage makes of a frame, and whose it is: the slot of a virtual host.
pub(crate) struct Judged {
    pub(crate) slot: u32,
    pub(crate) verdict: Verdict,
}

/// Counts what was decided. What no stage knows passes.
#[inline(always)]
pub(crate) fn counted(judged: Option<Judged>, maps: &impl Maps) -> Verdict {
    let Some(Judged { slot, verdict }) = judged else { return Verdict::Pass };
    if let Some(counter) = verdict.counter() {
        maps.count(slot, counter);
    }
    verdict
}
