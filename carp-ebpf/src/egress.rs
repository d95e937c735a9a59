//! What leaves: nothing from a VIP or a virtual MAC that this node does not serve, so that it is
//! silent in both directions; and the kernel's own ARP and neighbour messages for a VIP leave with
//! the virtual MAC, so that nobody learns the VIP at the link's own.
//!
//! Adverts leave always: a claimant advertises before it serves. Gratuitous ARP and advertisements
//! of the daemon pass by here too, once the window is open, and carry the virtual MAC already.

use carp_common::id::{Mac, virtual_mac};
use carp_common::map::Vip;
use carp_common::verdict::{self, Fate, Leaving, Verdict};
use carp_common::wire::arp::Arp;
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use carp_common::wire::ndp::{self, Solicitation};
use carp_common::wire::sum;
use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::advert;
use crate::world::{Judged, Maps, Packet, counted};

const SOURCE: usize = offset_of!(Ethernet, source);
const NET: usize = 14;
const ICMP: usize = NET + size_of::<Ipv6>();
const CHECKSUM: usize = ICMP + offset_of!(Solicitation, checksum);
const OPTIONS: usize = ICMP + size_of::<Solicitation>();
/// Options that are looked at. The kernel sends one, or two with a nonce.
const MOST_OPTIONS: usize = 4;

/// Decides about a frame, changes it so, and counts it.
#[inline(always)]
pub fn decide(frame: &mut impl Packet, maps: &impl Maps) -> Fate {
    counted(judge(frame, maps), frame, maps)
}

/// By what it says, then by its Ethernet source. A tagged frame is a VLAN link's, and has passed the
/// program there.
#[inline(always)]
fn judge(frame: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    if frame.is_tagged() {
        return None;
    }
    let ethernet = frame.header::<Ethernet>(0)?;
    let said = match ethernet.ethertype.get() {
        eth::IPV4 => from_ipv4(frame, maps),
        eth::IPV6 => from_ipv6(frame, maps),
        eth::ARP => arp(frame, maps),
        eth::VLAN | eth::SERVICE_VLAN => return None,
        _ => None,
    };
    said.filter(|judged| judged.counter().is_some()).or_else(|| from_virtual_mac(frame, maps, &ethernet))
}

/// `None` when the sender is no VIP of this link.
#[inline(always)]
fn arp(frame: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    frame.reach(42);
    let message = frame.header::<Arp>(NET)?;
    if !message.is_ipv4() {
        return None;
    }
    let vip = known(frame, maps, Ipv4Addr::from_octets(message.sender_ip).into())?;
    let verdict = verdict::egress(Leaving::Arp, maps.serves(vip.slot));
    if let Verdict::Rewrite(_) = verdict {
        let mac = virtual_mac(vip.vhid()?);
        frame.store(SOURCE, mac.0)?;
        frame.store(NET + offset_of!(Arp, sender_mac), mac.0)?;
    }
    Some(Judged::new(vip.slot, verdict))
}

/// `None` when the source is no VIP of this link.
#[inline(always)]
fn from_ipv4(frame: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    frame.reach(34);
    let header = frame.header::<Ipv4>(NET)?;
    if header.version() != 4 {
        return None;
    }
    let vip = known(frame, maps, Ipv4Addr::from_octets(header.source).into())?;
    Some(judged(maps, Leaving::Packet, vip.slot))
}

/// `None` when neither the source is a VIP of this link nor what an advertisement is about.
#[inline(always)]
fn from_ipv6(frame: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    frame.reach(54);
    let header = frame.header::<Ipv6>(NET)?;
    if header.version() != 6 {
        return None;
    }
    let is_icmp = header.next_header == ip::ICMPV6;
    match known(frame, maps, Ipv6Addr::from_octets(header.source).into()) {
        None if is_icmp => neighbour(frame, maps, None),
        None => None,
        Some(source) => {
            let said = if is_icmp { neighbour(frame, maps, Some(source)) } else { None };
            said.or_else(|| Some(judged(maps, Leaving::Packet, source.slot)))
        }
    }
}

/// `None` when it is no neighbour message that speaks for a VIP. What *asks for* one is none: so
/// the kernel of a backup finds the master.
#[inline(always)]
fn neighbour(frame: &mut impl Packet, maps: &impl Maps, source: Option<Vip>) -> Option<Judged> {
    frame.reach(78);
    let message = frame.header::<Solicitation>(ICMP)?;
    let (subject, option) = match (message.kind, message.code) {
        (ndp::SOLICITATION, 0) => (source, ndp::SOURCE_LINK_LAYER_ADDRESS),
        (ndp::ADVERTISEMENT, 0) => {
            let target = known(frame, maps, Ipv6Addr::from_octets(message.target).into());
            (target.or(source), ndp::TARGET_LINK_LAYER_ADDRESS)
        }
        _ => return None,
    };
    // An advertisement for one VIP may come from another, of another virtual host.
    if let Some(source) = source {
        let verdict = verdict::egress(Leaving::Neighbour, maps.serves(source.slot));
        if let Verdict::Drop(_) = verdict {
            return Some(Judged::new(source.slot, verdict));
        }
    }
    let vip = subject?;
    let verdict = verdict::egress(Leaving::Neighbour, maps.serves(vip.slot));
    if let Verdict::Rewrite(_) = verdict {
        let mac = virtual_mac(vip.vhid()?);
        frame.store(SOURCE, mac.0)?;
        rewrite_option(frame, option, mac, message.checksum.get());
    }
    Some(Judged::new(vip.slot, verdict))
}

/// Puts the MAC into the first option of this kind, and the checksum right.
#[inline(always)]
fn rewrite_option(frame: &mut impl Packet, kind: u8, mac: Mac, checksum: u16) -> Option<()> {
    let mut at = OPTIONS;
    let mut looked = 0;
    while looked < MOST_OPTIONS {
        let [found, units, old @ ..] = frame.copy::<[u8; 8]>(at)?;
        if found == kind && units == 1 {
            frame.store(at + 2, mac.0)?;
            return frame.store(CHECKSUM, sum::update(checksum, old, mac.0).to_be_bytes());
        }
        if units == 0 {
            return None;
        }
        at += usize::from(units) * 8;
        looked += 1;
    }
    None
}

/// `None` when it is an advert, or the source is no virtual MAC of this link.
#[inline(always)]
fn from_virtual_mac(frame: &impl Packet, maps: &impl Maps, ethernet: &Ethernet) -> Option<Judged> {
    let vhid = Mac(ethernet.source).vhid()?;
    let host = maps.host(frame.link(), vhid)?;
    if advert::is_one(frame, ethernet.ethertype.get())? {
        return None;
    }
    Some(judged(maps, Leaving::VirtualMac, host.slot))
}

#[inline(always)]
fn known(frame: &impl Packet, maps: &impl Maps, address: IpAddr) -> Option<Vip> {
    maps.vip_at(frame.link(), address)
}

#[inline(always)]
fn judged(maps: &impl Maps, leaving: Leaving, slot: u32) -> Judged {
    Judged::new(slot, verdict::egress(leaving, maps.serves(slot)))
}
