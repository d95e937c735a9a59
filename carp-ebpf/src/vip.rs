//! Frames to a virtual MAC, and packets to a VIP over the link's own MAC: passed while this node
//! serves, otherwise dropped, so that a node that lost its role falls silent at once, whatever its
//! kernel still believes about the addresses.

use carp_common::id::Mac;
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{Ipv4, Ipv6};
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;

/// `None` when the destination is no virtual MAC of this link. Whatever is in the frame, the
/// kernel takes it only under the link's own MAC.
#[inline(always)]
pub fn virtual_mac(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let ethernet = *packet.load::<Ethernet>(0)?;
    let vhid = Mac(ethernet.destination).vhid()?;
    let host = maps.host(packet.link(), vhid)?;
    let verdict = verdict::virtual_mac(maps.serves(host.slot));
    if let Verdict::Rewrite(_) = verdict {
        packet.readdress(host.mac())?;
    }
    Some(Judged { slot: host.slot, verdict })
}

/// `None` when it is no IP packet to a VIP of this link. Options, extension headers and fragments
/// do not matter: the destination has its fixed place.
#[inline(always)]
pub fn packet(packet: &impl Packet, maps: &impl Maps) -> Option<Judged> {
    let vip = maps.vip_at(packet.link(), destination(packet)?)?;
    Some(Judged { slot: vip.slot, verdict: verdict::vip(Ask::Packet, maps.serves(vip.slot)) })
}

#[inline(always)]
fn destination(packet: &impl Packet) -> Option<core::net::IpAddr> {
    match packet.load::<Ethernet>(0)?.ethertype.get() {
        eth::IPV4 => {
            let header = packet.load::<Ipv4>(IP)?;
            (header.version() == 4).then(|| Ipv4Addr::from_octets(header.destination).into())
        }
        eth::IPV6 => {
            let header = packet.load::<Ipv6>(IP)?;
            (header.version() == 6).then(|| Ipv6Addr::from_octets(header.destination).into())
        }
        _ => None,
    }
}
