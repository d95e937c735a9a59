//! What comes in: which stage a frame goes to.

use carp_common::verdict::Verdict;
use carp_common::wire::eth::{self, Ethernet};

use crate::world::{Judged, Maps, Packet, counted};
use crate::{advert, arp, echo, ndp, vip};

/// What is in front of everything that a stage looks at: an Ethernet header and ...
const ARP: u32 = 14 + 28;
/// ... with the head of an ICMP message behind it, or ...
const IPV4: u32 = 14 + 20 + 4;
/// ... with a neighbour solicitation behind it.
const IPV6: u32 = 14 + 40 + 24;

/// Decides about a frame, changes it so, and counts it.
#[inline(always)]
pub fn decide(packet: &mut impl Packet, maps: &impl Maps) -> Verdict {
    counted(judge(packet, maps), maps)
}

/// The stages in order. Adverts go first, so that one sent to a virtual MAC is heard; a question
/// about a VIP goes before the virtual MAC that it may be addressed to.
///
/// A VLAN-tagged frame belongs to the VLAN's link, another segment with its own vhids, and passes
/// here even when its destination is one of our virtual MACs: that link has a program of its own.
/// (A NIC that strips tags in hardware hides them from XDP: switch `rxvlan` off there.)
#[inline(always)]
fn judge(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    if packet.is_tagged() {
        return None;
    }
    let judged = match packet.load::<Ethernet>(0)?.ethertype.get() {
        eth::IPV4 => {
            packet.reach(IPV4);
            advert::heard_v4(packet, maps).or_else(|| echo::asked_v4(packet, maps))
        }
        eth::IPV6 => {
            packet.reach(IPV6);
            advert::heard_v6(packet, maps)
                .or_else(|| ndp::solicited(packet, maps))
                .or_else(|| echo::asked_v6(packet, maps))
        }
        eth::ARP => {
            packet.reach(ARP);
            arp::asked(packet, maps)
        }
        eth::VLAN | eth::SERVICE_VLAN => return None,
        _ => None,
    };
    judged.or_else(|| vip::virtual_mac(packet, maps)).or_else(|| vip::packet(packet, maps))
}
