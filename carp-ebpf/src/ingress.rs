//! What comes in: which stage a frame goes to.

use carp_common::verdict::Verdict;
use carp_common::wire::eth::{self, Ethernet};

use crate::world::{Maps, Packet, counted};
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
    judge(packet, maps).unwrap_or(Verdict::Pass)
}

/// The stages in order. Adverts go first, so that one sent to a virtual MAC is heard; a question
/// about a VIP goes before the virtual MAC that it may be addressed to.
///
/// A VLAN-tagged frame belongs to the VLAN's link, another segment with its own vhids, and passes
/// here even when its destination is one of our virtual MACs: that link has a program of its own.
/// (A NIC that strips tags in hardware hides them from XDP: switch `rxvlan` off there.)
///
/// Each stage's result is counted where it is called: of several stages' results in one place the
/// compiler makes words that are half undefined, and the verifier refuses them.
#[inline(always)]
fn judge(packet: &mut impl Packet, maps: &impl Maps) -> Option<Verdict> {
    if packet.is_tagged() {
        return None;
    }
    let ethertype = packet.load::<Ethernet>(0)?.ethertype.get();
    match ethertype {
        eth::IPV4 => packet.reach(IPV4),
        eth::IPV6 => packet.reach(IPV6),
        eth::ARP => packet.reach(ARP),
        eth::VLAN | eth::SERVICE_VLAN => return None,
        _ => {}
    }
    hear(packet, ethertype, maps).or_else(|| serve(packet, ethertype, maps))
}

/// Adverts of both families in one place: judging them is most of the program. A function of its own,
/// like the next: the kernel allows 512 bytes of stack for a chain of calls.
#[inline(never)]
fn hear(packet: &mut impl Packet, ethertype: u16, maps: &impl Maps) -> Option<Verdict> {
    advert::heard(packet, ethertype, maps).map(|judged| counted(judged, packet, maps))
}

/// The stages around the VIPs.
#[inline(never)]
fn serve(packet: &mut impl Packet, ethertype: u16, maps: &impl Maps) -> Option<Verdict> {
    let asked = match ethertype {
        eth::IPV4 => echo::asked_v4(packet, maps).map(|judged| counted(judged, packet, maps)),
        eth::IPV6 => {
            let solicited = ndp::solicited(packet, maps).map(|judged| counted(judged, packet, maps));
            solicited.or_else(|| echo::asked_v6(packet, maps).map(|judged| counted(judged, packet, maps)))
        }
        eth::ARP => arp::asked(packet, maps).map(|judged| counted(judged, packet, maps)),
        _ => None,
    };
    let fenced = asked.or_else(|| vip::virtual_mac(packet, maps).map(|judged| counted(judged, packet, maps)));
    fenced.or_else(|| vip::packet(packet, maps).map(|judged| counted(judged, packet, maps)))
}
