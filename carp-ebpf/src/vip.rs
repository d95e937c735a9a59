//! Frames to a virtual MAC, and packets to a VIP over the link's own MAC: passed while this node
//! serves, otherwise dropped, so that a node that lost its role falls silent at once, whatever its
//! kernel still believes about the addresses.

use carp_common::id::Mac;
use carp_common::map::Host;
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::eth::Ethernet;
use carp_common::wire::ip::{Ipv4, Ipv6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;

/// `None` when the destination is no virtual MAC of this link. Whatever is in the frame, the
/// kernel takes it only under the link's own MAC.
#[inline(always)]
pub fn virtual_mac(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let ethernet = packet.header::<Ethernet>(0)?;
    let vhid = Mac(ethernet.destination).vhid()?;
    let host = maps.host(packet.link(), vhid)?;
    at_virtual_mac(packet, maps, host)
}

/// A frame to the virtual MAC of this virtual host.
#[inline(always)]
pub fn at_virtual_mac(packet: &mut impl Packet, maps: &impl Maps, host: Host) -> Option<Judged> {
    let verdict = verdict::virtual_mac(maps.serves(host.slot));
    if let Verdict::Rewrite(_) = verdict {
        packet.readdress(host.mac())?;
    }
    Some(Judged::new(host.slot, verdict))
}

/// `None` when it is no IPv4 packet to a VIP of this link. Options and fragments do not matter: the
/// destination has its fixed place.
#[inline(always)]
pub fn packet_v4(packet: &impl Packet, maps: &impl Maps) -> Option<Judged> {
    let vip = destination_v4(packet).and_then(|address| maps.vip_at(packet.link(), address))?;
    Some(fenced(vip.slot, maps.serves(vip.slot)))
}

/// The same for IPv6. Extension headers do not matter either.
#[inline(always)]
pub fn packet_v6(packet: &impl Packet, maps: &impl Maps) -> Option<Judged> {
    let vip = destination_v6(packet).and_then(|address| maps.vip_at(packet.link(), address))?;
    Some(fenced(vip.slot, maps.serves(vip.slot)))
}

/// A packet to a VIP, over whatever MAC is no virtual one.
#[inline(always)]
pub fn fenced(slot: u32, serves: bool) -> Judged {
    Judged::new(slot, verdict::vip(Ask::Packet, serves))
}

/// Where an IPv4 packet goes; `None` when it is none.
#[inline(always)]
pub fn destination_v4(packet: &impl Packet) -> Option<IpAddr> {
    let header = packet.header::<Ipv4>(IP)?;
    (header.version() == 4).then(|| Ipv4Addr::from_octets(header.destination).into())
}

/// Where an IPv6 packet goes; `None` when it is none.
#[inline(always)]
pub fn destination_v6(packet: &impl Packet) -> Option<IpAddr> {
    let header = packet.header::<Ipv6>(IP)?;
    (header.version() == 6).then(|| Ipv6Addr::from_octets(header.destination).into())
}
