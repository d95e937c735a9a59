//! Echo requests to a VIP: answered with the virtual MAC while this node serves it, when its virtual
//! host wants that (`answer_ping`). What is not answered here is a packet like any other: the kernel
//! answers it, or the fence drops it.
//!
//! Answered is what there is no doubt about: to our virtual MAC or the link's own, from one host,
//! whole, in one buffer, without options, extension headers or fragments. Checksums are carried over,
//! not verified: the answer to a damaged request is damaged in the same way.

use carp_common::id::{Mac, virtual_mac};
use carp_common::map::Vip;
use carp_common::verdict::{self, Ask};
use carp_common::wire::eth::Ethernet;
use carp_common::wire::icmp::{self, Head};
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::vip;
use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;
const V4: usize = IP + size_of::<Ipv4>();
const V6: usize = IP + size_of::<Ipv6>();

/// An ICMP packet: `None` when neither its destination is a VIP of this link nor its MAC a virtual one.
#[inline(always)]
pub fn asked_v4(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    asked(packet, maps, vip::destination_v4(packet), answer_v4)
}

/// An ICMPv6 packet, likewise.
#[inline(always)]
pub fn asked_v6(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    asked(packet, maps, vip::destination_v6(packet), answer_v6)
}

#[inline(always)]
fn asked<P: Packet, M: Maps>(
    packet: &mut P,
    maps: &M,
    destination: Option<IpAddr>,
    answer: impl FnOnce(&mut P, &M, Vip) -> Option<Judged>,
) -> Option<Judged> {
    let vip = destination.and_then(|address| maps.vip_at(packet.link(), address));
    let Some(vip) = vip else { return vip::virtual_mac(packet, maps) };
    let serves = maps.serves(vip.slot);
    let asked = if serves && vip.answers_ping() { answer(packet, maps, vip) } else { None };
    asked.or_else(|| vip::virtual_mac(packet, maps)).or_else(|| Some(vip::fenced(vip.slot, serves)))
}

/// `None` when it is no IPv4 echo request that is answered here.
#[inline(never)]
fn answer_v4(packet: &mut impl Packet, maps: &impl Maps, vip: Vip) -> Option<Judged> {
    let header = packet.header::<Ipv4>(IP)?;
    let asker = Ipv4Addr::from_octets(header.source);
    if !header.is_plain() || !ip::is_one_host(asker.into()) || header.source == header.destination {
        return None;
    }
    let answer = packet.header::<Head>(V4)?.answer(icmp::ECHO)?;
    let end = IP + usize::from(header.total_len.get());
    packet.store(0, head(packet, maps, vip, (V4, end))?)?;
    packet.store(IP, packet.header::<Ipv4>(IP)?.answer())?;
    packet.store(V4, answer)?;
    Some(Judged::new(vip.slot, verdict::vip(Ask::Echo, true)))
}

/// `None` when it is no IPv6 echo request that is answered here.
#[inline(never)]
fn answer_v6(packet: &mut impl Packet, maps: &impl Maps, vip: Vip) -> Option<Judged> {
    let header = packet.header::<Ipv6>(IP)?;
    let asker = Ipv6Addr::from_octets(header.source);
    if !ip::is_one_host(asker.into()) || header.source == header.destination {
        return None;
    }
    let answer = packet.header::<Head>(V6)?.answer(icmp::ECHO_V6)?;
    let end = V6 + usize::from(header.payload_len.get());
    packet.store(0, head(packet, maps, vip, (V6, end))?)?;
    packet.store(IP, packet.header::<Ipv6>(IP)?.answer())?;
    packet.store(V6, answer)?;
    Some(Judged::new(vip.slot, verdict::vip(Ask::Echo, true)))
}

/// The answer's Ethernet header. The message lies between these two places.
#[inline(always)]
fn head(packet: &impl Packet, maps: &impl Maps, vip: Vip, (start, end): (usize, usize)) -> Option<Ethernet> {
    if start + icmp::SHORTEST > end || end > packet.wire_len() || !packet.can_go_back() {
        return None;
    }
    let ethernet = packet.header::<Ethernet>(0)?;
    let (vhid, sender) = (vip.vhid()?, Mac(ethernet.source));
    let is_ours = ethernet.destination == virtual_mac(vhid).0
        || maps.host(packet.link(), vhid)?.link_mac == ethernet.destination;
    if !is_ours || sender.is_group() {
        return None;
    }
    Some(Ethernet { destination: sender.0, source: virtual_mac(vhid).0, ..ethernet })
}
