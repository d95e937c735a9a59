//! What the program should do, said once more on the host, in another way: slices and offsets
//! around the same pure verdicts. Adverts are judged by the same code, compiled for the host.

use carp_common::admission::Auth;
use carp_common::auth::Scratch;
use carp_common::map::{Counter, Host, Vip};
use carp_common::verdict::{self, Ask, Verdict};
use carp_common::wire::Heard;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The maps, of one link.
#[derive(Default)]
pub struct Maps {
    pub hosts: BTreeMap<u8, Host>,
    pub vips: BTreeMap<IpAddr, Vip>,
    pub serves: BTreeMap<u32, bool>,
    pub auth: BTreeMap<u32, Auth>,
}

impl Maps {
    pub fn verdict(&self, frame: &[u8]) -> Verdict {
        let ethertype = field(frame, 12).map(u16::from_be_bytes);
        let asked = match ethertype {
            Some(0x0800) => self.advert(frame, ipv4_payload(frame, 112)),
            Some(0x86dd) => self.advert(frame, ipv6_payload(frame, 112)).or_else(|| self.ndp(frame)),
            Some(0x0806) => self.arp(frame),
            Some(0x8100 | 0x88a8) => Some(Verdict::Pass),
            Some(_) | None => None,
        };
        asked.or_else(|| self.virtual_mac(frame)).or_else(|| self.packet(frame)).unwrap_or(Verdict::Pass)
    }

    fn advert(&self, frame: &[u8], payload: Option<usize>) -> Option<Verdict> {
        let [_, vhid] = field::<2>(frame, payload?)?;
        let auth = &self.auth[&self.hosts.get(&vhid)?.slot];
        if !auth.is_known() {
            return Some(Verdict::Serve(Counter::Advert));
        }
        let judged = Heard::parse(frame)?.and_then(|heard| auth.admit(&heard, &mut Scratch::new()));
        Some(match judged {
            Ok(_) => Verdict::Serve(Counter::Advert),
            Err(refusal) => verdict::refused(refusal, Heard::may_be_vrrp(frame)),
        })
    }

    fn arp(&self, frame: &[u8]) -> Option<Verdict> {
        let (head, sender, target) = (field(frame, 14)?, field::<4>(frame, 28)?, field::<4>(frame, 38)?);
        let is_question = head == [0, 1, 8, 0, 6, 4, 0, 1] && sender != target;
        if is_question { self.vip(Ask::Arp, target.into()) } else { None }
    }

    fn ndp(&self, frame: &[u8]) -> Option<Verdict> {
        let at = ipv6_payload(frame, 58)?;
        let target: [u8; 16] = field(frame, at + 8)?;
        let is_question = frame[21] == 255 && field(frame, at) == Some([135, 0]);
        if is_question { self.vip(Ask::Solicitation, target.into()) } else { None }
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
        self.vip(Ask::Packet, destination)
    }

    fn vip(&self, ask: Ask, address: IpAddr) -> Option<Verdict> {
        // The map's key has IPv4 addresses mapped into IPv6.
        let vip = self.vips.get(&address.to_canonical()).filter(|vip| vip.vhid != 0)?;
        Some(verdict::vip(ask, self.serves[&vip.slot]))
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
