//! The frames that a virtual host sends.

use super::event::{Family, HostSetup, LinkState};
use super::keyring::{Keyring, Word};
use carp_common::id::{Mac, virtual_mac};
use carp_common::pace::Pace;
use carp_common::wire::{Envelope, Frame, arp, ndp};
use std::net::IpAddr;

/// This link's source address of a family.
pub fn source(state: &LinkState, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => state.source_v4.map(IpAddr::V4),
        Family::V6 => state.source_v6.map(IpAddr::V6),
    }
}

/// An advert to the group; a farewell leaves from the link's own MAC, so that no switch learns from
/// it that the virtual MAC is still here when the heir has already announced itself.
pub fn to_group(
    setup: &HostSetup,
    state: &LinkState,
    keys: &mut Keyring,
    family: Family,
    word: Word,
) -> Option<Frame> {
    let envelope = Envelope::to_group(source(state, family)?, setup.tos);
    let from = if word.pace == Pace::BOW_OUT { state.mac } else { virtual_mac(setup.vhid) };
    Some(keys.seal(&envelope, word, from))
}

/// To nodes of ours alone, from the link's own MAC: a claim that is announced.
pub fn to_ours(
    setup: &HostSetup,
    state: &LinkState,
    keys: &mut Keyring,
    family: Family,
    word: Word,
) -> Option<Frame> {
    let envelope = Envelope::to_ours(source(state, family)?, setup.tos);
    Some(keys.seal(&envelope, word, state.mac))
}

/// To one node, from the link's own MAC: a farewell, a greeting, or what answers them.
pub fn to_node(
    setup: &HostSetup,
    state: &LinkState,
    keys: &mut Keyring,
    node: IpAddr,
    word: Word,
) -> Option<Frame> {
    let envelope = Envelope::to_node(source(state, Family::of(node))?, node, setup.tos)?;
    Some(keys.seal(&envelope, word, state.mac))
}

/// Gratuitous ARP or an unsolicited neighbour advertisement for each of these VIPs. Without XDP the virtual
/// MAC reaches nobody, so the link's own is announced.
pub fn announcements(
    setup: &HostSetup,
    state: &LinkState,
    which: impl Fn(&IpAddr) -> bool,
) -> impl Iterator<Item = Frame> {
    let mac: Mac = if state.shielded { virtual_mac(setup.vhid) } else { state.mac };
    let router = state.router;
    setup.vips.iter().filter(move |vip| which(vip)).map(move |vip| match vip {
        IpAddr::V4(vip) => arp::gratuitous(*vip, mac),
        IpAddr::V6(vip) => ndp::unsolicited(*vip, mac, router),
    })
}
