//! The datapath's decisions, pure: what is asked, and whether this node serves, give a verdict.
//! XDP loads the facts and carries the verdict out; the tests run the same functions on the host.

use crate::map::Counter;
use crate::wire::Refusal;

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it on untouched: not ours, or not understood. The default.
    Pass,
    /// Turn it into the answer and send it back.
    Answer(Counter),
    /// Rewrite a MAC and hand it on: of a frame that came in, the destination to the link's own; of
    /// one that leaves, the sender's to the virtual MAC.
    Rewrite(Counter),
    /// Hand it on and count.
    Serve(Counter),
    /// Drop and count. Always with a reason.
    Drop(Counter),
}

/// What becomes of a frame that has been judged, changed and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The kernel, or the next program, has it.
    Passes,
    /// It goes back out of the link that it came in by.
    GoesBack,
    /// Nobody has it.
    Ends,
}

impl Verdict {
    /// What becomes of the frame.
    #[inline(always)]
    pub const fn fate(self) -> Fate {
        match self {
            Self::Pass | Self::Serve(_) | Self::Rewrite(_) => Fate::Passes,
            Self::Answer(_) => Fate::GoesBack,
            Self::Drop(_) => Fate::Ends,
        }
    }

    /// What is counted.
    #[inline(always)]
    pub const fn counter(self) -> Option<Counter> {
        match self {
            Self::Pass => None,
            Self::Answer(counter) | Self::Rewrite(counter) | Self::Serve(counter) | Self::Drop(counter) => {
                Some(counter)
            }
        }
    }
}

/// What kind of question a frame puts about a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// An ARP request for it.
    Arp,
    /// A neighbour solicitation for it.
    Solicitation,
    /// An echo request to it, which we are to answer.
    Echo,
    /// An IP packet to it, over the link's own MAC.
    Packet,
}

/// What in a frame that leaves makes it ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// ARP whose sender is a VIP.
    Arp,
    /// A neighbour solicitation from a VIP, or an advertisement from or for one.
    Neighbour,
    /// Any other IP packet from a VIP.
    Packet,
    /// A frame from a virtual MAC, and no advert: those leave before their sender serves.
    VirtualMac,
}

/// A frame that asks for, or is addressed to, a VIP of this link.
#[inline(always)]
pub const fn vip(ask: Ask, serves: bool) -> Verdict {
    match (ask, serves) {
        (Ask::Arp, true) => Verdict::Answer(Counter::ArpAnswered),
        (Ask::Arp, false) => Verdict::Drop(Counter::ArpSilent),
        (Ask::Solicitation, true) => Verdict::Answer(Counter::NdpAnswered),
        (Ask::Solicitation, false) => Verdict::Drop(Counter::NdpSilent),
        (Ask::Echo, true) => Verdict::Answer(Counter::PingAnswered),
        // Then it is a packet like any other.
        (Ask::Echo, false) => Verdict::Pass,
        (Ask::Packet, true) => Verdict::Serve(Counter::VipServed),
        (Ask::Packet, false) => Verdict::Drop(Counter::VipFenced),
    }
}

/// A frame to a virtual MAC of this link, whatever is in it.
#[inline(always)]
pub const fn virtual_mac(serves: bool) -> Verdict {
    if serves {
        Verdict::Rewrite(Counter::VirtualMacServed)
    } else {
        Verdict::Drop(Counter::VirtualMacFenced)
    }
}

/// An advert that is turned away. What may be VRRP is somebody else's, and what is not understood
/// is nobody's to drop.
#[inline(always)]
pub const fn refused(refusal: Refusal, may_be_vrrp: bool) -> Verdict {
    let counter = Counter::Refused(refusal);
    match refusal {
        Refusal::Vrrp | Refusal::Fragment | Refusal::BadVersion | Refusal::Unproven => {
            Verdict::Serve(counter)
        }
        Refusal::BadSum | Refusal::BadAuth if may_be_vrrp => Verdict::Serve(counter),
        Refusal::BadLen
        | Refusal::BadTtl
        | Refusal::BadSum
        | Refusal::BadIpSum
        | Refusal::BadVhid
        | Refusal::BadAuth
        | Refusal::Loop
        | Refusal::NotForUs
        | Refusal::BadMode
        | Refusal::Replay => Verdict::Drop(counter),
    }
}

/// A backup's probe, of a master that serves or does not.
#[inline(always)]
pub const fn probe(serves: bool) -> Verdict {
    if serves { Verdict::Answer(Counter::ProbeAnswered) } else { Verdict::Drop(Counter::ProbeSilent) }
}

/// A frame that leaves by this link and speaks for a VIP or a virtual MAC of it.
#[inline(always)]
pub const fn egress(leaving: Leaving, serves: bool) -> Verdict {
    match (leaving, serves) {
        (Leaving::Arp | Leaving::Neighbour, true) => Verdict::Rewrite(Counter::EgressRewritten),
        (Leaving::Packet | Leaving::VirtualMac, true) => Verdict::Pass,
        (Leaving::Arp, false) => Verdict::Drop(Counter::EgressArpFenced),
        (Leaving::Neighbour, false) => Verdict::Drop(Counter::EgressNdpFenced),
        (Leaving::Packet, false) => Verdict::Drop(Counter::EgressVipFenced),
        (Leaving::VirtualMac, false) => Verdict::Drop(Counter::EgressVirtualMacFenced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Leaving; 4] = [Leaving::Arp, Leaving::Neighbour, Leaving::Packet, Leaving::VirtualMac];

    #[test]
    fn outside_the_window_nothing_of_ours_leaves_and_each_kind_has_its_counter() {
        let verdicts = ALL.map(|leaving| egress(leaving, false));
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Drop(_))), "{verdicts:?}");
        for (at, verdict) in verdicts.iter().enumerate() {
            assert!(!verdicts[..at].contains(verdict), "{verdicts:?}");
        }
    }

    #[test]
    fn inside_the_window_what_others_learn_from_is_rewritten_and_the_rest_passes() {
        let rewrite = Verdict::Rewrite(Counter::EgressRewritten);
        let verdicts = ALL.map(|leaving| egress(leaving, true));
        assert_eq!(verdicts, [rewrite, rewrite, Verdict::Pass, Verdict::Pass]);
    }
}
