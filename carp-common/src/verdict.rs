//! The datapath's decisions, pure: what is asked, and whether this node serves, give a verdict.
//! XDP loads the facts and carries the verdict out; the tests run the same functions on the host.

use crate::map::{Counter, Vip, Window};
use crate::time::Instant;

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it on untouched: not ours, or not understood. The default.
    Pass,
    /// Turn it into the answer and send it back.
    Answer(Counter),
    /// Rewrite its destination to the link's own MAC and hand it on.
    Rewrite(Counter),
    /// Hand it on and count.
    Serve(Counter),
    /// Drop and count. Always with a reason.
    Drop(Counter),
}

/// What kind of question a frame puts about a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// An ARP request for it.
    Arp,
    /// A neighbour solicitation for it.
    Solicitation,
    /// An IP packet to it, over the link's own MAC.
    Packet,
}

/// A frame that asks for, or is addressed to, a VIP of this link. An absent entry passes.
#[inline(always)]
pub fn vip(ask: Ask, vip: Option<&Vip>, window: Option<&Window>, now: Instant) -> Verdict {
    let (Some(vip), Some(window)) = (vip, window) else { return Verdict::Pass };
    if vip.vhid == 0 {
        return Verdict::Pass;
    }
    match (ask, window.is_open(now)) {
        (Ask::Arp, true) => Verdict::Answer(Counter::ArpAnswered),
        (Ask::Arp, false) => Verdict::Drop(Counter::ArpSilent),
        (Ask::Solicitation, true) => Verdict::Answer(Counter::NdpAnswered),
        (Ask::Solicitation, false) => Verdict::Drop(Counter::NdpSilent),
        (Ask::Packet, true) => Verdict::Serve(Counter::VipServed),
        (Ask::Packet, false) => Verdict::Drop(Counter::VipFenced),
    }
}

/// A frame to a virtual MAC of this link, whatever is in it. `window` is `None` when the vhid is
/// not ours: then it passes, as it may be someone else's.
#[inline(always)]
pub fn virtual_mac(window: Option<&Window>, now: Instant) -> Verdict {
    match window {
        None => Verdict::Pass,
        Some(window) if window.is_open(now) => Verdict::Rewrite(Counter::VirtualMacServed),
        Some(_) => Verdict::Drop(Counter::VirtualMacFenced),
    }
}
