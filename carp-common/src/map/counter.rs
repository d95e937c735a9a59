//! What the datapath counts.

use crate::wire::Refusal;

/// The counters of a virtual host, by [`Counter`].
pub type Counts = [u64; Counter::COUNT];

/// Nothing was counted.
pub const NO_COUNTS: Counts = [0; Counter::COUNT];

/// What the datapath counts, by what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Adverts handed to the daemon.
    Advert,
    /// Adverts lost because the ring buffer was full.
    RingFull,
    /// ARP requests for a VIP answered.
    ArpAnswered,
    /// ARP requests for a VIP that this node does not serve, dropped.
    ArpSilent,
    /// Neighbour solicitations for a VIP answered.
    NdpAnswered,
    /// Neighbour solicitations for a VIP that this node does not serve, dropped.
    NdpSilent,
    /// Frames to a virtual MAC, rewritten to the link's own and passed.
    VirtualMacServed,
    /// Frames to a virtual MAC that this node does not serve, dropped.
    VirtualMacFenced,
    /// Packets to a VIP over the link's own MAC, passed.
    VipServed,
    /// Packets to a VIP that this node does not serve, dropped.
    VipFenced,
    /// ARP and neighbour messages of our own kernel that speak for a VIP: they left with the virtual
    /// MAC.
    EgressRewritten,
    /// ARP that speaks for a VIP that this node does not serve, not sent.
    EgressArpFenced,
    /// Neighbour messages that speak for a VIP that this node does not serve, not sent.
    EgressNdpFenced,
    /// Packets from a VIP that this node does not serve, not sent.
    EgressVipFenced,
    /// Frames from a virtual MAC that this node does not serve, not sent. Never adverts.
    EgressVirtualMacFenced,
    /// Echo requests to a VIP answered.
    PingAnswered,
    /// Probes of a backup answered.
    ProbeAnswered,
    /// Probes of a backup, while this node has no lease: dropped.
    ProbeSilent,
    /// Answers of the master to this node's probes. They end here.
    ProbeHeard,
    /// Probes and answers that are not signed as they should be, came through a router, or are not of this session: dropped.
    ProbeRefused,
    /// Adverts refused, each for its reason.
    Refused(Refusal),
}

impl Counter {
    /// Every counter, in the order of the map: refusals first.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Advert; Self::COUNT];
        let mut at = 0;
        while at < Self::COUNT {
            all[at] = if at < Refusal::COUNT {
                Self::Refused(Refusal::ALL[at])
            } else {
                Self::OWN[at - Refusal::COUNT]
            };
            at += 1;
        }
        all
    };
    /// How many there are.
    pub const COUNT: usize = Refusal::COUNT + Self::OWN.len();

    /// Those that are no refusals.
    const OWN: [Self; 20] = [
        Self::Advert,
        Self::RingFull,
        Self::ArpAnswered,
        Self::ArpSilent,
        Self::NdpAnswered,
        Self::NdpSilent,
        Self::VirtualMacServed,
        Self::VirtualMacFenced,
        Self::VipServed,
        Self::VipFenced,
        Self::EgressRewritten,
        Self::EgressArpFenced,
        Self::EgressNdpFenced,
        Self::EgressVipFenced,
        Self::EgressVirtualMacFenced,
        Self::PingAnswered,
        Self::ProbeAnswered,
        Self::ProbeSilent,
        Self::ProbeHeard,
        Self::ProbeRefused,
    ];

    /// Its place in [`Counts`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        let own = match self {
            Self::Refused(refusal) => return refusal.index(),
            Self::Advert => 0,
            Self::RingFull => 1,
            Self::ArpAnswered => 2,
            Self::ArpSilent => 3,
            Self::NdpAnswered => 4,
            Self::NdpSilent => 5,
            Self::VirtualMacServed => 6,
            Self::VirtualMacFenced => 7,
            Self::VipServed => 8,
            Self::VipFenced => 9,
            Self::EgressRewritten => 10,
            Self::EgressArpFenced => 11,
            Self::EgressNdpFenced => 12,
            Self::EgressVipFenced => 13,
            Self::EgressVirtualMacFenced => 14,
            Self::PingAnswered => 15,
            Self::ProbeAnswered => 16,
            Self::ProbeSilent => 17,
            Self::ProbeHeard => 18,
            Self::ProbeRefused => 19,
        };
        Refusal::COUNT + own
    }

    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Advert => "advert",
            Self::RingFull => "ring-full",
            Self::ArpAnswered => "arp-answered",
            Self::ArpSilent => "arp-silent",
            Self::NdpAnswered => "ndp-answered",
            Self::NdpSilent => "ndp-silent",
            Self::VirtualMacServed => "vmac-served",
            Self::VirtualMacFenced => "vmac-fenced",
            Self::VipServed => "vip-served",
            Self::VipFenced => "vip-fenced",
            Self::EgressRewritten => "egress-rewritten",
            Self::EgressArpFenced => "egress-arp-fenced",
            Self::EgressNdpFenced => "egress-ndp-fenced",
            Self::EgressVipFenced => "egress-vip-fenced",
            Self::EgressVirtualMacFenced => "egress-vmac-fenced",
            Self::PingAnswered => "ping-answered",
            Self::ProbeAnswered => "probe-answered",
            Self::ProbeSilent => "probe-silent",
            Self::ProbeHeard => "probe-heard",
            Self::ProbeRefused => "probe-refused",
            Self::Refused(refusal) => refusal.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_have_their_places_and_names_of_their_own() {
        for (at, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter.index(), at);
            assert!(Counter::ALL[..at].iter().all(|other| other.name() != counter.name()));
        }
    }
}
