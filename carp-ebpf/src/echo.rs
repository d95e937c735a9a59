//! Echo requests to a VIP: answered with the virtual MAC while this node serves it, when its virtual
//! host wants that (`answer_ping`). What is not answered here is a packet like any other: the kernel
//! answers it, or the fence drops it.
//!
//! Answered is what there is no doubt about: to our virtual MAC or the link's own, from one host,
//! whole, in one buffer, without options, extension headers or fragments. Checksums are carried over, not verified:
//! the answer to a damaged request is damaged in the same way.

use carp_common::id::{Mac, virtual_mac};
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::eth::Ethernet;
use carp_common::wire::icmp::{self, Head};
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;
const V4: usize = IP + size_of::<Ipv4>();
const V6: usize = IP + size_of::<Ipv6>();

/// `None` when it is no IPv4 echo request that is answered here.
#[inline(always)]
pub fn asked_v4(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let header = *packet.load::<Ipv4>(IP)?;
    if header.protocol != ip::ICMP || !header.is_plain() {
        return None;
    }
    let answer = packet.load::<Head>(V4)?.answer(icmp::ECHO)?;
    let end = IP + usize::from(header.total_len.get());
    let (asker, vip) = (Ipv4Addr::from_octets(header.source), Ipv4Addr::from_octets(header.destination));
    let (judged, ethernet) = judge(packet, maps, (asker.into(), vip.into()), (V4, end))?;
    packet.store(0, ethernet)?;
    packet.store(IP, header.answer())?;
    packet.store(V4, answer)?;
    Some(judged)
}

/// `None` when it is no IPv6 echo request that is answered here.
#[inline(always)]
pub fn asked_v6(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let header = *packet.load::<Ipv6>(IP)?;
    if header.version() != 6 || header.next_header != ip::ICMPV6 {
        return None;
    }
    let answer = packet.load::<Head>(V6)?.answer(icmp::ECHO_V6)?;
    let end = V6 + usize::from(header.payload_len.get());
    let (asker, vip) = (Ipv6Addr::from_octets(header.source), Ipv6Addr::from_octets(header.destination));
    let (judged, ethernet) = judge(packet, maps, (asker.into(), vip.into()), (V6, end))?;
    packet.store(0, ethernet)?;
    packet.store(IP, header.answer())?;
    packet.store(V6, answer)?;
    Some(judged)
}

/// The answer's Ethernet header beside the verdict. The message lies between these two places.
#[inline(always)]
fn judge(
    packet: &impl Packet,
    maps: &impl Maps,
    (asker, address): (IpAddr, IpAddr),
    (start, end): (usize, usize),
) -> Option<(Judged, Ethernet)> {
    let vip = maps.vip_at(packet.link(), address).filter(|vip| vip.answers_ping())?;
    if start + icmp::SHORTEST > end || end > packet.wire_len() || !packet.can_go_back() {
        return None;
    }
    let ethernet = packet.load::<Ethernet>(0)?;
    let (vhid, sender) = (vip.vhid()?, Mac(ethernet.source));
    let is_ours = ethernet.destination == virtual_mac(vhid).0
        || maps.host(packet.link(), vhid)?.link_mac == ethernet.destination;
    if !is_ours || sender.is_group() || !ip::is_one_host(asker) || asker == address {
        return None;
    }
    let verdict = verdict::vip(Ask::Echo, maps.serves(vip.slot));
    let answer = Ethernet { destination: sender.0, source: virtual_mac(vhid).0, ..*ethernet };
    (verdict != Verdict::Pass).then_some((Judged { slot: vip.slot, verdict }, answer))
}
