//! Probes: a backup's question whether this node's datapath serves is answered here, whatever its daemon does meanwhile;
//! the answers to this node's own questions are written down here, for its prober to see. `docs/detection.md`.
//!
//! A master without a lease does not answer: to the backup it is as dead as it is to its clients. Judged by [`verdict`]
//! is what is signed with a key of the virtual host; it ends here in any case, as nobody else knows what to do with it.

use carp_common::auth::ProbeKey;
use carp_common::id::Vhid;
use carp_common::map::{Counter, MAX_MEMBERS};
use carp_common::time::Span;
use carp_common::verdict::{self, Verdict};
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use carp_common::wire::probe::{self, AT_V4, AT_V6, Ends, Probe};
use core::net::IpAddr;

use crate::advert;
use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;

/// A packet of protocol 112: `None` when it is no probe, or none for a virtual host that has keys for them.
#[inline(always)]
pub fn seen(packet: &mut impl Packet, ethertype: u16, maps: &impl Maps) -> Option<Judged> {
    match ethertype {
        eth::IPV4 => seen_at::<AT_V4>(packet, maps),
        eth::IPV6 => seen_at::<AT_V6>(packet, maps),
        _ => None,
    }
}

/// Where it begins says which version of IP it is.
#[inline(always)]
fn seen_at<const AT: usize>(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    match packet.header::<u8>(AT)? {
        kind @ (probe::ASK | probe::ANSWER) => judge::<AT, false>(packet, kind == probe::ANSWER, maps),
        kind @ (probe::ASK_GROUP | probe::ANSWER_GROUP) => {
            judge::<AT, true>(packet, kind == probe::ANSWER_GROUP, maps)
        }
        _ => None,
    }
}

/// A function of its own, as the next ones, for its stack; and adverts, which are most of this protocol, are not to pay
/// for it. `OF_GROUP`: it is about a group and came over the sync link; otherwise it is about a virtual host of this one.
#[inline(never)]
fn judge<const AT: usize, const OF_GROUP: bool>(
    packet: &mut impl Packet,
    is_answer: bool,
    maps: &impl Maps,
) -> Option<Judged> {
    let number = packet.header::<Probe>(AT)?.number;
    let (slot, keys) = if OF_GROUP {
        let group = u32::from(number);
        (maps.member(group, 0)?, group)
    } else {
        let slot = maps.host(packet.link(), Vhid::new(number)?)?.slot;
        (slot, slot)
    };
    let verdict = match signer::<AT, OF_GROUP>(packet, keys, maps) {
        NO_PROBE => return None,
        NOBODY => Verdict::Drop(Counter::ProbeRefused),
        _ if is_answer => note::<AT, OF_GROUP>(packet, slot, maps),
        number => answer::<AT, OF_GROUP>(packet, number, (slot, keys), maps)?,
    };
    Some(Judged::new(slot, verdict))
}

/// What [`signer`] says of one whose virtual host has no keys, or that cannot be a probe.
const NO_PROBE: u32 = u32::MAX;
/// And of one that is not signed with any of them.
const NOBODY: u32 = u32::MAX - 1;

/// Number of the key of its virtual host or group that a probe is signed with. What was routed nobody signed. All in one
/// number: of an enum that a loop changes the compiler leaves half undefined, and the verifier refuses it.
#[inline(never)]
fn signer<const AT: usize, const OF_GROUP: bool>(packet: &impl Packet, keys: u32, maps: &impl Maps) -> u32 {
    let packet = whole(packet);
    let Some(first) = key::<OF_GROUP>(keys, 0, maps) else { return NO_PROBE };
    let Some(probe) = packet.header::<Probe>(AT) else { return NO_PROBE };
    let Some((ends, hops)) = ends::<AT>(packet) else { return NO_PROBE };
    if hops != ip::UNROUTED {
        return NOBODY;
    }
    if probe.is_signed(ends, first) {
        return 0;
    }
    match key::<OF_GROUP>(keys, 1, maps) {
        Some(second) if probe.is_signed(ends, second) => 1,
        _ => NOBODY,
    }
}

/// Of a slot, or of a group.
#[inline(always)]
fn key<const OF_GROUP: bool>(keys: u32, number: u32, maps: &impl Maps) -> Option<ProbeKey> {
    if OF_GROUP { maps.group_key(keys, number) } else { maps.probe_key(keys, number) }
}

/// A function is to be given the frame and not, in its place, what the compiler finds to be all that it needs of it: the
/// ends of the frame, cut to numbers, which the verifier does not take for them.
#[inline(always)]
fn whole<P: Packet>(packet: &P) -> &P {
    core::hint::black_box(packet)
}

/// And the TTL; `None` when it is cut or not in one piece, has options, or is a fragment.
#[inline(always)]
fn ends<const AT: usize>(packet: &impl Packet) -> Option<(Ends, u8)> {
    if AT == AT_V4 {
        let header = packet.header::<Ipv4>(IP)?;
        if !header.is_plain() {
            return None;
        }
        Some((probe::ends_v4(header.source, header.destination), header.ttl))
    } else {
        let header = packet.header::<Ipv6>(IP)?;
        Some((probe::ends_v6(header.source, header.destination), header.hop_limit))
    }
}

/// An answer to this node. It is as good as an advert of the master: what is armed counts its silence from now on.
#[inline(never)]
fn note<const AT: usize, const OF_GROUP: bool>(packet: &impl Packet, slot: u32, maps: &impl Maps) -> Verdict {
    let packet = whole(packet);
    let refused = Verdict::Drop(Counter::ProbeRefused);
    let Some(answer) = packet.header::<Probe>(AT) else { return refused };
    let now = maps.now();
    if !maps.answered(&answer, now + Span::nanos(answer.remaining.get())) {
        return refused;
    }
    if OF_GROUP {
        advert::hear_of(slot, now, maps);
    } else if let Some(source) = source::<AT>(packet) {
        advert::follow(&source, maps.patience(slot), slot, now, maps);
    }
    Verdict::Drop(Counter::ProbeHeard)
}

#[inline(always)]
fn source<const AT: usize>(packet: &impl Packet) -> Option<[u8; 16]> {
    Some(if AT == AT_V4 {
        ip::mapped(IpAddr::from(packet.header::<Ipv4>(IP)?.source))
    } else {
        packet.header::<Ipv6>(IP)?.source
    })
}

/// By the key that it was asked with. `None` when it cannot be sent.
#[inline(never)]
fn answer<const AT: usize, const OF_GROUP: bool>(
    packet: &mut impl Packet,
    number: u32,
    (slot, keys): (u32, u32),
    maps: &impl Maps,
) -> Option<Verdict> {
    let left = if OF_GROUP { group_left(keys, maps) } else { left(slot, maps) };
    if left == Span::ZERO {
        return Some(verdict::probe(false));
    }
    let key = key::<OF_GROUP>(keys, number, maps)?;
    let ([a, b, c, d], _) = ends::<AT>(packet)?;
    let answer = packet.header::<Probe>(AT)?.answer(left, maps.epoch(slot), [c, d, a, b], key);
    send_back::<AT>(packet)?;
    packet.store(AT, answer)?;
    Some(verdict::probe(true))
}

#[inline(always)]
fn left(slot: u32, maps: &impl Maps) -> Span {
    maps.window(slot).map_or(Span::ZERO, |window| window.left(maps.now()))
}

/// Of whichever is served the longest.
#[inline(never)]
fn group_left(group: u32, maps: &impl Maps) -> Span {
    let mut most = Span::ZERO;
    let mut index = 0;
    while index < MAX_MEMBERS {
        if let Some(slot) = maps.member(group, index) {
            most = most.max(left(slot, maps));
        }
        index += 1;
    }
    most
}

/// Everything else of the question lies where it was.
#[inline(always)]
fn send_back<const AT: usize>(packet: &mut impl Packet) -> Option<()> {
    if !packet.can_go_back() {
        return None;
    }
    let ethernet = packet.header::<Ethernet>(0)?;
    packet.store(0, Ethernet { destination: ethernet.source, source: ethernet.destination, ..ethernet })?;
    if AT == AT_V4 {
        let header = packet.header::<Ipv4>(IP)?;
        packet.store(IP, Ipv4 { source: header.destination, destination: header.source, ..header })
    } else {
        let header = packet.header::<Ipv6>(IP)?;
        packet.store(IP, Ipv6 { source: header.destination, destination: header.source, ..header })
    }
}
