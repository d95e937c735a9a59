//! What the program for what leaves should do, said once more.

use crate::model::Maps;
use carp_common::verdict::{self, Leaving, Verdict};
use std::net::{IpAddr, Ipv4Addr};

impl Maps {
    /// The verdict, and the vhid whose MAC is to be put in.
    pub fn leaves(&self, frame: &[u8]) -> (Verdict, u16) {
        let (verdict, vhid) = match frame.get(12..14) {
            Some([8, 6]) => self.leaving_arp(frame),
            Some([8, 0]) => self.leaving_packet(ipv4_source(frame)),
            Some([0x86, 0xdd]) => self.leaving_ipv6(frame),
            Some([0x81, 0] | [0x88, 0xa8]) => return (Verdict::Pass, 0),
            Some(_) | None => (Verdict::Pass, 0),
        };
        if verdict != Verdict::Pass {
            return (verdict, vhid);
        }
        (self.leaving_virtual_mac(frame), 0)
    }

    fn leaving_arp(&self, frame: &[u8]) -> (Verdict, u16) {
        let is_arp = frame.len() >= 42 && frame[14..20] == [0, 1, 8, 0, 6, 4];
        let sender = is_arp.then(|| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap()));
        judge(Leaving::Arp, sender.and_then(|sender| self.vip(sender.into())))
    }

    fn leaving_packet(&self, source: Option<IpAddr>) -> (Verdict, u16) {
        judge(Leaving::Packet, source.and_then(|source| self.vip(source)))
    }

    fn leaving_ipv6(&self, frame: &[u8]) -> (Verdict, u16) {
        if frame.len() < 54 || frame[14] >> 4 != 6 {
            return (Verdict::Pass, 0);
        }
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let source = self.vip(address(22));
        let is_neighbour = frame[20] == 58 && frame.len() >= 78 && matches!(frame[54..56], [135 | 136, 0]);
        if !is_neighbour {
            return self.leaving_packet(Some(address(22)));
        }
        let target = if frame[54] == 136 { self.vip(address(62)) } else { None };
        match judge(Leaving::Neighbour, source) {
            (Verdict::Drop(counter), vhid) => (Verdict::Drop(counter), vhid),
            by_source => match target {
                Some(_) => judge(Leaving::Neighbour, target),
                None => by_source,
            },
        }
    }

    fn leaving_virtual_mac(&self, frame: &[u8]) -> Verdict {
        let [0, 0, 0x5e, 0, 1, vhid] = frame[6..12] else { return Verdict::Pass };
        let Some(host) = self.hosts.get(&vhid) else { return Verdict::Pass };
        // What is too short to be an advert is not known to be none.
        let (protocol, header) = match frame[12..14] {
            [8, 0] => (frame.get(23), 34),
            [0x86, 0xdd] => (frame.get(20), 54),
            _ => (Some(&0), 14),
        };
        match protocol.filter(|_| frame.len() >= header) {
            Some(112) | None => Verdict::Pass,
            Some(_) => verdict::egress(Leaving::VirtualMac, self.serves[&host.slot]),
        }
    }
}

fn judge(leaving: Leaving, vip: Option<(u16, bool)>) -> (Verdict, u16) {
    vip.map_or((Verdict::Pass, 0), |(vhid, serves)| (verdict::egress(leaving, serves), vhid))
}

fn ipv4_source(frame: &[u8]) -> Option<IpAddr> {
    let is_whole = frame.len() >= 34 && frame[14] >> 4 == 4;
    is_whole.then(|| <[u8; 4]>::try_from(&frame[26..30]).unwrap().into())
}
