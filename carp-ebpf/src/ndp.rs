//! Neighbour solicitations for a VIP: answered with the virtual MAC while this node serves it,
//! otherwise silence (RFC 4861 section 7.2).

use carp_common::id::{Mac, virtual_mac};
use carp_common::map::Vip;
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{self, Ipv6};
use carp_common::wire::ndp::{self, Advertisement, Solicitation};
use core::net::Ipv6Addr;

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;
const ICMP: usize = IP + size_of::<Ipv6>();
const ANSWER: usize = ICMP + size_of::<Advertisement>();

/// `None` when it is no solicitation for a VIP of this link. Its checksum is not verified: the
/// frame's own has been, and a forger can do sums.
#[inline(always)]
pub fn solicited(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let header = packet.header::<Ipv6>(IP)?;
    if header.version() != 6 || header.next_header != ip::ICMPV6 || header.hop_limit != ip::UNROUTED {
        return None;
    }
    let question = packet.header::<Solicitation>(ICMP)?;
    if question.kind != ndp::SOLICITATION || question.code != 0 {
        return None;
    }
    let target = Ipv6Addr::from_octets(question.target);
    let vip = maps.vip_at(packet.link(), target.into())?;
    let verdict = verdict::vip(Ask::Solicitation, maps.serves(vip.slot));
    if let Verdict::Answer(_) = verdict
        && answer(packet, vip).is_none()
    {
        // No room for the answer in the frame. The window is open: the kernel may answer.
        return Some(Judged::new(vip.slot, Verdict::Pass));
    }
    Some(Judged::new(vip.slot, verdict))
}

/// In place. A probe by a node that has no address yet is answered to all nodes (section 7.2.4). A
/// function of its own, for its stack.
#[inline(never)]
fn answer(packet: &mut impl Packet, entry: Vip) -> Option<()> {
    let mac = virtual_mac(entry.vhid()?);
    let vip = Ipv6Addr::from_octets(packet.header::<Solicitation>(ICMP)?.target);
    let source = packet.header::<Ipv6>(IP)?.source;
    let asker = Mac(packet.header::<Ethernet>(0)?.source);
    let is_probe = source == [0; 16];
    let (to, destination, solicited) = match is_probe {
        true => (eth::ALL_NODES, ip::ALL_NODES, 0),
        false => (asker, Ipv6Addr::from_octets(source), ndp::SOLICITED),
    };
    let router = if entry.is_router() { ndp::ROUTER } else { 0 };
    let flags = router | solicited | ndp::OVERRIDE;
    let message = Advertisement::new(flags, vip.octets(), mac, vip.octets(), destination.octets());
    packet.resize(ANSWER)?;
    packet.store(0, Ethernet::new(to, mac, eth::IPV6))?;
    packet.store(IP, Ipv6::unrouted(vip, destination, 0, ip::ICMPV6, 32))?;
    packet.store(ICMP, message)
}
