//! What the programs should do, said once more, in another way: slices and offsets around the same
//! pure verdicts. Here what comes in; what leaves in `egress_model`. Adverts are judged by the same code,
//! compiled for the host.

use carp_common::admission::{Addressee, Auth};
use carp_common::map::{Counter, Host, Vip};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::Instant;
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::sighting::may_be_vrrp;
use carp_common::wire::{Heard, Refusal};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The maps, of one link.
#[derive(Default)]
pub struct Maps {
    pub hosts: BTreeMap<u8, Host>,
    pub vips: BTreeMap<IpAddr, Vip>,
    pub serves: BTreeMap<u32, bool>,
    pub auth: BTreeMap<u32, Auth>,
    /// What strict authentication remembers, by vhid and address.
    pub senders: RefCell<BTreeMap<(u8, IpAddr), Sender>>,
}

impl Maps {
    pub fn comes_in(&self, frame: &[u8]) -> Verdict {
        let ethertype = field(frame, 12).map(u16::from_be_bytes);
        let asked = match ethertype {
            Some(0x0800) => self.advert(frame, ipv4_payload(frame, 112)),
            Some(0x86dd) => self.advert(frame, ipv6_payload(frame, 112)).or_else(|| self.ndp(frame)),
            Some(0x0806) => self.arp(frame),
            Some(0x8100 | 0x88a8) => Some(Verdict::Pass),
            Some(_) | None => None,
        };
        asked
            .or_else(|| self.ping(frame))
            .or_else(|| self.virtual_mac(frame))
            .or_else(|| self.packet(frame))
            .unwrap_or(Verdict::Pass)
    }

    /// The vhid of a VIP, and whether it is served.
    pub fn vip(&self, address: IpAddr) -> Option<(u16, bool)> {
        let vip = self.vips.get(&address).filter(|vip| vip.vhid != 0)?;
        Some((vip.vhid, self.serves[&vip.slot]))
    }

    fn advert(&self, frame: &[u8], payload: Option<usize>) -> Option<Verdict> {
        let [_, vhid] = field::<2>(frame, payload?)?;
        let slot = self.hosts.get(&vhid)?.slot;
        let Some(auth) = self.auth.get(&slot).filter(|auth| auth.is_known()) else {
            return Some(Verdict::Serve(Counter::Advert));
        };
        let judged = Heard::parse(frame)?.and_then(|heard| {
            let addressee = auth.admit(heard.seen())?;
            match addressee {
                Addressee::Another => Err(Refusal::NotForUs),
                Addressee::Group | Addressee::Ours | Addressee::Us if auth.is_strict() => {
                    self.recall(slot, vhid, &heard, addressee)
                }
                Addressee::Group | Addressee::Ours | Addressee::Us => Ok(()),
            }
        });
        Some(match judged {
            Ok(()) => Verdict::Serve(Counter::Advert),
            Err(refusal) => verdict::refused(refusal, may_be_vrrp(frame)),
        })
    }

    /// The highest counter of each sender is all that there is to know of one that proves nothing.
    fn recall(&self, slot: u32, vhid: u8, heard: &Heard, addressee: Addressee) -> Result<(), Refusal> {
        let mut senders = self.senders.borrow_mut();
        let known = senders.entry((vhid, heard.source)).or_default();
        *known = known.hear(
            &heard.seen().said,
            addressee,
            Challenge::default(),
            self.auth[&slot].patience(),
            Instant::ZERO,
        )?;
        known.admit(&heard.seen().said, addressee)
    }

    fn arp(&self, frame: &[u8]) -> Option<Verdict> {
        let (head, sender, target) = (field(frame, 14)?, field::<4>(frame, 28)?, field::<4>(frame, 38)?);
        let is_question = head == [0, 1, 8, 0, 6, 4, 0, 1] && sender != target;
        if is_question { self.asked(Ask::Arp, target.into()) } else { None }
    }

    fn ndp(&self, frame: &[u8]) -> Option<Verdict> {
        let at = ipv6_payload(frame, 58)?;
        let target: [u8; 16] = field(frame, at + 8)?;
        let is_question = frame[21] == 255 && field(frame, at) == Some([135, 0]);
        if is_question { self.asked(Ask::Solicitation, target.into()) } else { None }
    }

    fn ping(&self, frame: &[u8]) -> Option<Verdict> {
        let number = |at| field(frame, at).map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        // Where its message begins and ends, from whom and to whom.
        let (kind, at, end, asker, vip): (_, _, _, IpAddr, IpAddr) = match field(frame, 12)? {
            [8, 0] if frame.get(14) == Some(&0x45) && number(20)? & 0x3fff == 0 => {
                let (asker, vip) = (field::<4>(frame, 26)?, field::<4>(frame, 30)?);
                (8, ipv4_payload(frame, 1)?, 14 + number(16)?, asker.into(), vip.into())
            }
            [0x86, 0xdd] => {
                let (asker, vip) = (field::<16>(frame, 22)?, field::<16>(frame, 38)?);
                (128, ipv6_payload(frame, 58)?, 54 + number(18)?, asker.into(), vip.into())
            }
            _ => return None,
        };
        let entry = self.vips.get(&vip).filter(|vip| vip.flags & Host::ANSWER_PING != 0)?;
        let vhid = u8::try_from(entry.vhid).ok()?;
        let to: [u8; 6] = field(frame, 0)?;
        let is_to_link = self.hosts.get(&vhid).is_some_and(|host| host.link_mac == to);
        let is_odd = match asker {
            IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_loopback() || ip.octets()[0] >= 224,
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_loopback() || ip.is_multicast(),
        };
        let is_answered = field(frame, at) == Some([kind, 0])
            && (at + 8..=frame.len()).contains(&end)
            && (is_to_link || to == [0, 0, 0x5e, 0, 1, vhid])
            && !(is_odd || asker == vip || frame[6] & 1 == 1);
        let (_, serves) = self.vip(vip)?;
        (is_answered && serves).then_some(Verdict::Answer(Counter::PingAnswered))
    }

    fn virtual_mac(&self, frame: &[u8]) -> Option<Verdict> {
        let [0, 0, 0x5e, 0, 1, vhid] = field(frame, 0)? else { return None };
        let host = self.hosts.get(&vhid)?;
        Some(verdict::virtual_mac(self.serves[&host.slot]))
    }

    fn packet(&self, frame: &[u8]) -> Option<Verdict> {
        let destination: IpAddr = match (field(frame, 12)?, frame.get(14)? >> 4) {
            ([8, 0], 4) => field::<4>(frame, 30)?.into(),
            ([0x86, 0xdd], 6) => field::<16>(frame, 38)?.into(),
            _ => return None,
        };
        self.asked(Ask::Packet, destination)
    }

    fn asked(&self, ask: Ask, address: IpAddr) -> Option<Verdict> {
        self.vip(address).map(|(_, serves)| verdict::vip(ask, serves))
    }
}

fn ipv4_payload(frame: &[u8], protocol: u8) -> Option<usize> {
    let header: [u8; 20] = field(frame, 14)?;
    let words = usize::from(header[0] & 15);
    let total = usize::from(u16::from_be_bytes([header[2], header[3]])).min(frame.len() - 14);
    (header[0] >> 4 == 4 && words >= 5 && 4 * words <= total && header[9] == protocol)
        .then_some(14 + 4 * words)
}

fn ipv6_payload(frame: &[u8], next: u8) -> Option<usize> {
    let header: [u8; 40] = field(frame, 14)?;
    (header[0] >> 4 == 6 && header[6] == next).then_some(54)
}

fn field<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}
