//! Adverts: judged here, with what strict authentication remembers of their senders. What holds goes to the
//! daemon, and moves an armed backup's window; the frame itself passes, so that a capture on the node
//! shows it. What does not is dropped, and now and then one of them is shown to the daemon, which
//! warns. VRRP and what is not understood pass.

use carp_common::admission::{Addressee, Auth};
use carp_common::map::{CAPTURE_LEN, Captured, Counter, HostKey, SenderKey, Window};
use carp_common::time::{Instant, Span};
use carp_common::verdict::{self, Verdict};
use carp_common::wire::eth;
use carp_common::wire::ip::{self, Ipv4, Ipv6};
use carp_common::wire::sighting::{may_be_vrrp, peek_vhid};
use carp_common::wire::{Refusal, Said, Sighting};

use crate::world::{Judged, Maps, Packet};

const IP: usize = 14;
/// How much of the frame is looked at, and copied.
const CAPTURED: u32 = 128;
const _: () = assert!(CAPTURED as usize == CAPTURE_LEN);
/// Bytes that are copied at a time.
const CHUNK: usize = 8;

/// Whether a frame of this ethertype is an IP packet of protocol 112; `None` when it is cut.
#[inline(always)]
pub fn is_one(packet: &impl Packet, ethertype: u16) -> Option<bool> {
    Some(match ethertype {
        eth::IPV4 => packet.header::<Ipv4>(IP)?.protocol == ip::CARP,
        eth::IPV6 => packet.header::<Ipv6>(IP)?.next_header == ip::CARP,
        _ => false,
    })
}

/// `None` when it is none for a vhid of this link.
#[inline(always)]
pub fn heard(packet: &mut impl Packet, ethertype: u16, maps: &impl Maps) -> Option<Judged> {
    if !is_one(packet, ethertype)? {
        return None;
    }
    packet.reach(CAPTURED);
    let packet = &*packet;
    let vhid = peek_vhid(packet)?;
    let host = maps.host(packet.link(), vhid)?;
    // One moment for all that follows from this advert.
    let arrival = Arrival { host: HostKey::new(packet.link(), vhid), slot: host.slot, at: maps.now() };
    let Arrival { slot, at, .. } = arrival;
    let judged = maps.judge(
        slot,
        |seen| read(packet, seen),
        |auth, seen| {
            let addressee = auth.addressee(seen);
            if addressee == Addressee::Another {
                return Err(Refusal::NotForUs);
            }
            if auth.is_strict() {
                let recalled = recall(&seen.said, addressee, auth, &arrival, maps);
                if recalled == Err(Refusal::Unproven) && !seen.said.pace().is_word() {
                    // Whoever it is moves nothing. But it may be a master: what is armed ends.
                    follow(&seen.said.source, Span::ZERO, slot, at, maps);
                }
                recalled?;
            }
            if !seen.said.pace().is_word() {
                follow(&seen.said.source, auth.patience(), slot, at, maps);
            }
            Ok(())
        },
    );
    let verdict = match judged {
        // The daemon asks the sender for a sign of life.
        Some(Err(Refusal::Unproven)) => {
            hand_over(packet, at, maps);
            Verdict::Serve(Counter::Refused(Refusal::Unproven))
        }
        Some(Err(refusal)) => refuse(packet, slot, refusal, at, maps),
        Some(Ok(())) | None => hand_over(packet, at, maps),
    };
    Some(Judged::new(slot, verdict))
}

/// An advert's virtual host and moment.
struct Arrival {
    host: HostKey,
    slot: u32,
    at: Instant,
}

/// A function of its own, as the next ones, for its stack. (What it hands back fits a register: else the
/// register holds a pointer into the stack, which the verifier does not let go.)
#[inline(never)]
fn read(packet: &impl Packet, seen: &mut Sighting) -> Result<(), Refusal> {
    // It has been found to be one of protocol 112.
    seen.take(packet).unwrap_or(Err(Refusal::BadLen))
}

/// Strict authentication: what is known of the sender says whether this is news, and whether it counts.
#[inline(never)]
fn recall(
    said: &Said,
    addressee: Addressee,
    auth: &Auth,
    Arrival { host, slot, at }: &Arrival,
    maps: &impl Maps,
) -> Result<(), Refusal> {
    let key = SenderKey { host: *host, source: said.source };
    let known = maps.sender(&key).unwrap_or_default();
    let sender = known.hear(said, addressee, maps.challenge(*slot), auth.patience(), *at)?;
    maps.remember(&key, sender).ok_or(Refusal::Unproven)?;
    sender.admit(said, addressee)
}

/// Moves the window of an armed backup, or ends it: see [`Window::hear`].
#[inline(never)]
pub(crate) fn follow(source: &[u8; 16], patience: Span, slot: u32, at: Instant, maps: &impl Maps) {
    move_on(slot, maps, |window, heard| window.hear(heard, *source, patience, at));
}

/// The master of this slot's group says on another link that it serves.
#[inline(always)]
pub(crate) fn hear_of(slot: u32, at: Instant, maps: &impl Maps) {
    move_on(slot, maps, |window, heard| window.hear_of(heard, at));
}

#[inline(always)]
fn move_on(slot: u32, maps: &impl Maps, hear: impl FnOnce(&Window, Instant) -> Instant) {
    let Some(window) = maps.arming(slot) else { return };
    let clock = window.clock(slot);
    let before = maps.heard(clock);
    let after = hear(&window, before);
    if after != before {
        maps.set_heard(clock, after);
    }
}

#[inline(always)]
fn hand_over(packet: &impl Packet, at: Instant, maps: &impl Maps) -> Verdict {
    let captured = maps.capture(|record| fill(packet, at, record));
    Verdict::Serve(if captured.is_some() { Counter::Advert } else { Counter::RingFull })
}

#[inline(always)]
fn refuse(packet: &impl Packet, slot: u32, refusal: Refusal, at: Instant, maps: &impl Maps) -> Verdict {
    if maps.is_sample_due(slot, refusal, at) {
        // With a full ring there are samples enough.
        let _shown = maps.sample(|sample| {
            sample.refusal = u32::from(refusal as u8);
            fill(packet, at, &mut sample.captured);
        });
    }
    verdict::refused(refusal, may_be_vrrp(packet))
}

#[inline(always)]
fn fill(packet: &impl Packet, at: Instant, record: &mut Captured) {
    record.at = at.nanos();
    record.ifindex = packet.link().0;
    record.frame_len = u32::try_from(packet.wire_len()).unwrap_or(u32::MAX);
    copy(packet, &mut record.frame);
}

/// The Ethernet header, which is there; then whole chunks as far as they go, then the last bytes.
/// (Offset zero stays out of the loop: of "address < end" the verifier learns nothing there.)
#[inline(always)]
pub(crate) fn copy<const LEN: usize>(packet: &impl Packet, frame: &mut [u8; LEN]) {
    copy_piece::<IP>(packet, frame, 0);
    let mut at = IP;
    while at + CHUNK <= LEN {
        let end = copy_piece::<CHUNK>(packet, frame, at);
        if end == at {
            break;
        }
        at = end;
    }
    at = copy_piece::<4>(packet, frame, at);
    at = copy_piece::<2>(packet, frame, at);
    copy_piece::<1>(packet, frame, at);
}

/// So many bytes at this place, if there are as many; where the next ones are.
#[inline(always)]
fn copy_piece<const BYTES: usize>(packet: &impl Packet, frame: &mut [u8], at: usize) -> usize {
    match (frame.get_mut(at..at + BYTES), packet.header::<[u8; BYTES]>(at)) {
        (Some(to), Some(from)) => {
            to.copy_from_slice(&from);
            at + BYTES
        }
        (_, _) => at,
    }
}
