//! ARP requests for a VIP: answered with the virtual MAC while this node serves it, otherwise
//! silence. Replies and gratuitous requests pass: they are how the kernel here learns where a VIP
//! is that the other node serves.

use carp_common::id::{Mac, virtual_mac};
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::arp::{self, Arp};
use carp_common::wire::eth::{self, Ethernet};
use core::net::Ipv4Addr;

use crate::world::{Judged, Maps, Packet};

const ARP: usize = 14;

/// `None` when it is no request for a VIP of this link.
#[inline(always)]
pub fn asked(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let request = packet.header::<Arp>(ARP).filter(|request| request.is_question())?;
    let vip = maps.vip_at(packet.link(), Ipv4Addr::from_octets(request.target_ip).into())?;
    let verdict = verdict::vip(Ask::Arp, maps.serves(vip.slot));
    if let Verdict::Answer(_) = verdict
        && answer(packet, virtual_mac(vip.vhid()?)).is_none()
    {
        // The window is open: the kernel may answer.
        return Some(Judged::new(vip.slot, Verdict::Pass));
    }
    Some(Judged::new(vip.slot, verdict))
}

/// In place, back to the port that it came from: whoever sent the frame gets the answer.
#[inline(always)]
fn answer(packet: &mut impl Packet, mac: Mac) -> Option<()> {
    if !packet.can_go_back() {
        return None;
    }
    let request = packet.header::<Arp>(ARP)?;
    let asker = Mac(packet.header::<Ethernet>(0)?.source);
    let reply = Arp::new(arp::REPLY, (mac, request.target_ip), (Mac(request.sender_mac), request.sender_ip));
    packet.store(0, Ethernet::new(asker, mac, eth::ARP))?;
    packet.store(ARP, reply)
}
