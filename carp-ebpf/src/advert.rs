//! Adverts: judged here, as far as that needs no memory of other adverts. What holds goes to the
//! daemon, and moves an armed backup's window; the frame itself passes, so that a capture on the node
//! shows it. What does not is dropped, and now and then one of them is shown to the daemon, which
//! warns. VRRP and what is not understood pass.

use carp_common::admission::Auth;
use carp_common::map::{CAPTURE_LEN, Captured, Counter};
use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::verdict::{self, Verdict};
use carp_common::wire::{Bytes, Heard, Refusal};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::entry::Judged;
use crate::maps::{self, Desk, Slot, Written};
use crate::parse::{Packet, now};

const IP: usize = 14;
/// Bytes that are copied at a time.
const CHUNK: usize = 8;

/// `None` when it is no IP packet of protocol 112 for a vhid of this link.
#[inline(always)]
pub fn heard(packet: &Packet) -> Option<Judged> {
    let host = maps::host(packet.link(), Heard::peek_vhid(packet)?)?;
    // One moment for all that follows from this advert.
    let (slot, at) = (host.slot, now());
    let Some((auth, desk)) = maps::auth(slot) else {
        return Some(Judged { slot, verdict: hand_over(packet, at) });
    };
    let verdict = match judge(packet, auth, desk) {
        Ok(pace) => {
            if !pace.is_word() {
                maps::set_heard(slot, at);
            }
            hand_over(packet, at)
        }
        Err(refusal) => refuse(packet, slot, refusal, at),
    };
    Some(Judged { slot, verdict })
}

/// What an advert competes with, when it is one for this virtual host.
#[inline(always)]
fn judge(packet: &Packet, auth: &Auth, desk: &mut Desk) -> Result<Pace, Refusal> {
    let Desk { heard, scratch } = desk;
    let written = read(packet, heard)?;
    let heard = heard.get(written);
    auth.admit(heard, scratch)?;
    Ok(heard.advert.pace)
}

/// A function of its own, for its stack.
#[inline(never)]
fn read(packet: &Packet, heard: &mut Slot<Heard>) -> Result<Written, Refusal> {
    // It has been found to be one of protocol 112.
    Ok(heard.set(Heard::read(packet).unwrap_or(Err(Refusal::BadLen))?))
}

impl Bytes for Packet {
    #[inline(always)]
    fn load<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, at: usize) -> Option<&T> {
        Self::load(self, at)
    }

    #[inline(always)]
    fn size(&self) -> usize {
        self.len()
    }
}

#[inline(always)]
fn hand_over(packet: &Packet, at: Instant) -> Verdict {
    let captured = maps::capture(|record| fill(packet, at, record));
    Verdict::Serve(if captured.is_some() { Counter::Advert } else { Counter::RingFull })
}

#[inline(always)]
fn refuse(packet: &Packet, slot: u32, refusal: Refusal, at: Instant) -> Verdict {
    if maps::is_sample_due(slot, refusal, at) {
        // With a full ring there are samples enough.
        let _shown = maps::sample(|sample| {
            sample.refusal = u32::from(refusal as u8);
            fill(packet, at, &mut sample.captured);
        });
    }
    verdict::refused(refusal, Heard::may_be_vrrp(packet))
}

#[inline(always)]
fn fill(packet: &Packet, at: Instant, record: &mut Captured) {
    record.at = at.nanos();
    record.ifindex = packet.link().0;
    record.frame_len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    copy(packet, &mut record.frame);
}

/// The Ethernet header, which is there; then whole chunks as far as they go, then the last bytes.
/// (Offset zero stays out of the loops: of "address < end" the verifier learns nothing there.)
#[inline(always)]
fn copy(packet: &Packet, frame: &mut [u8; CAPTURE_LEN]) {
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
