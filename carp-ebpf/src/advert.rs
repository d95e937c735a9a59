//! Adverts: a copy goes to the daemon, and the frame passes, so that a capture on the node shows
//! it. Nothing is judged here, so VRRPv2 with a number of ours goes to the daemon as well, which
//! warns of it.

use carp_common::id::Vhid;
use carp_common::map::{CAPTURE_LEN, Counter};
use carp_common::verdict::Verdict;
use carp_common::wire::ip::{self, Ipv4, Ipv6};

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;
/// How much of the frame is looked at, and copied.
const CAPTURED: u32 = 128;
const _: () = assert!(CAPTURED as usize == CAPTURE_LEN);
/// Bytes that are copied at a time.
const CHUNK: usize = 8;

/// `None` when it is no IPv4 packet of protocol 112 for a vhid of this link.
#[inline(always)]
pub fn heard_v4(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let header = *packet.load::<Ipv4>(IP)?;
    if header.version() != 4 || header.protocol != ip::CARP || header.header_len() < size_of::<Ipv4>() {
        return None;
    }
    hand_over(packet, maps, IP + header.header_len())
}

/// `None` when it is no IPv6 packet with next header 112 for a vhid of this link.
#[inline(always)]
pub fn heard_v6(packet: &mut impl Packet, maps: &impl Maps) -> Option<Judged> {
    let header = packet.load::<Ipv6>(IP)?;
    if header.version() != 6 || header.next_header != ip::CARP {
        return None;
    }
    hand_over(packet, maps, IP + size_of::<Ipv6>())
}

/// CARP's and VRRP's second byte is the vhid or VRID.
#[inline(always)]
fn hand_over(packet: &mut impl Packet, maps: &impl Maps, payload: usize) -> Option<Judged> {
    packet.reach(CAPTURED);
    let [_, vhid] = packet.load::<[u8; 2]>(payload)?;
    let host = maps.host(packet.link(), Vhid::new(*vhid)?)?;
    let captured = maps.capture(|record| {
        record.at = maps.now().nanos();
        record.ifindex = packet.link().0;
        record.frame_len = u32::try_from(packet.wire_len()).unwrap_or(u32::MAX);
        copy(packet, &mut record.frame);
    });
    let counter = if captured.is_some() { Counter::Advert } else { Counter::RingFull };
    Some(Judged { slot: host.slot, verdict: Verdict::Serve(counter) })
}

/// The Ethernet header, which is there; then whole chunks as far as they go, then the last bytes.
/// (Offset zero stays out of the loops: of "address < end" the verifier learns nothing there.)
#[inline(always)]
fn copy(packet: &impl Packet, frame: &mut [u8; CAPTURE_LEN]) {
    let mut at = IP;
    if let (Some(to), Some(header)) = (frame.first_chunk_mut(), packet.load::<[u8; IP]>(0)) {
        *to = *header;
    }
    while at + CHUNK <= CAPTURE_LEN {
        let Some(chunk) = packet.load::<[u8; CHUNK]>(at) else { break };
        if let Some(to) = frame.get_mut(at..at + CHUNK) {
            to.copy_from_slice(chunk);
        }
        at += CHUNK;
    }
    let mut rest = 0;
    while rest < CHUNK {
        if let (Some(to), Some(byte)) = (frame.get_mut(at + rest), packet.load::<u8>(at + rest)) {
            *to = *byte;
        }
        rest += 1;
    }
}
