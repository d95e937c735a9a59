//! What comes in: which stage a frame goes to.

use carp_common::id::Mac;
use carp_common::map::{Counter, Host};
use carp_common::verdict::Fate;
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{self, Ipv4, Ipv6};

use crate::world::{Judged, Maps, Packet, counted};
use crate::{advert, arp, echo, ndp, probe, vip};

const NET: usize = 14;
/// What is in front of everything that a stage looks at: an Ethernet header and ...
const ARP: u32 = 14 + 28;
/// ... with the head of an ICMP message behind it, or ...
const IPV4: u32 = 14 + 20 + 4;
/// ... with a neighbour solicitation behind it.
const IPV6: u32 = 14 + 40 + 24;

/// Decides about a frame, changes it so, and counts it.
///
/// What the master forwards comes first, and all that is done with it is in one piece of a few hundred bytes:
/// TCP's copying leaves nothing in the caches, so that what a program takes there is mostly what it has to
/// fetch anew, its own instructions first.
#[inline(always)]
pub fn decide(packet: &mut impl Packet, maps: &impl Maps) -> Fate {
    let host = transit(packet, maps);
    if let Some(host) = host
        && maps.is_leased(host.slot)
        && packet.readdress(host.mac()).is_some()
    {
        maps.count(host.slot, Counter::VirtualMacServed.index());
        return Fate::Passes;
    }
    let judged = match host {
        Some(host) => vip::at_virtual_mac(packet, maps, host),
        None => judge(packet, maps),
    };
    counted(judged, packet, maps)
}

/// Whose virtual MAC a packet of IP goes to that only [`vip`] looks at: no advert, and nothing of ICMP's.
#[inline(always)]
fn transit(packet: &impl Packet, maps: &impl Maps) -> Option<Host> {
    let ethernet = packet.header::<Ethernet>(0)?;
    let (ethertype, vhid) = (ethernet.ethertype.get(), Mac(ethernet.destination).vhid()?);
    let protocol = protocol(packet, ethertype);
    let is_transit = match ethertype {
        eth::IPV4 => !matches!(protocol, ip::CARP | ip::ICMP | ip::RESERVED),
        eth::IPV6 => !matches!(protocol, ip::CARP | ip::ICMPV6 | ip::RESERVED),
        _ => false,
    };
    if !is_transit || packet.is_tagged() {
        return None;
    }
    maps.host(packet.link(), vhid)
}

/// The stages in order. Adverts go first, so that one sent to a virtual MAC is heard; a question
/// about a VIP goes before the virtual MAC that it may be addressed to.
///
/// A VLAN-tagged frame belongs to the VLAN's link, another segment with its own vhids, and passes
/// here even when its destination is one of our virtual MACs: that link has a program of its own.
/// (A NIC that strips tags in hardware hides them from XDP: switch `rxvlan` off there.)
///
/// What is for others pays for one lookup at most, and for no call: a lookup is most of what a frame
/// costs here.
#[inline(always)]
fn judge(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    if packet.is_tagged() {
        return None;
    }
    let ethertype = packet.header::<Ethernet>(0)?.ethertype.get();
    match ethertype {
        eth::IPV4 => packet.reach(IPV4),
        eth::IPV6 => packet.reach(IPV6),
        eth::ARP => packet.reach(ARP),
        eth::VLAN | eth::SERVICE_VLAN => return None,
        _ => {}
    }
    let protocol = protocol(packet, ethertype);
    if protocol == ip::CARP
        && let Some(judged) = probe::seen(packet, ethertype, maps).or_else(|| hear(packet, ethertype, maps))
    {
        return Some(judged);
    }
    match (ethertype, protocol) {
        (eth::ARP, _) => arp::asked(packet, maps).or_else(|| vip::virtual_mac(packet, maps)),
        (eth::IPV4, ip::ICMP) => echo::asked_v4(packet, maps),
        (eth::IPV4, _) => vip::virtual_mac(packet, maps).or_else(|| vip::packet_v4(packet, maps)),
        (eth::IPV6, ip::ICMPV6) => ndp::solicited(packet, maps).or_else(|| echo::asked_v6(packet, maps)),
        (eth::IPV6, _) => vip::virtual_mac(packet, maps).or_else(|| vip::packet_v6(packet, maps)),
        (_, _) => vip::virtual_mac(packet, maps),
    }
}

/// What an IP packet carries next; when it is none, or cut, a number that is no protocol's.
#[inline(always)]
fn protocol(packet: &impl Packet, ethertype: u16) -> u8 {
    let protocol = match ethertype {
        eth::IPV4 => packet.header::<Ipv4>(NET).map(|header| header.protocol),
        eth::IPV6 => packet.header::<Ipv6>(NET).map(|header| header.next_header),
        _ => None,
    };
    protocol.unwrap_or(ip::RESERVED)
}

/// Adverts of both families in one place: judging them is most of the program. A function of its own:
/// the kernel allows 512 bytes of stack for a chain of calls.
#[inline(never)]
fn hear(packet: &mut impl Packet, ethertype: u16, maps: &impl Maps) -> Option<Judged> {
    advert::heard(packet, ethertype, maps)
}
