//! What the program for what leaves should do, said once more on the host, in another way: slices
//! and offsets around the same pure verdict.

use crate::frames::*;
use crate::harness::{Kernel, LINK};
use crate::random::Random;
use crate::serving::windows;
use carp_common::map::Vip;
use carp_common::verdict::{self, Leaving, Verdict};
use carp_user::io::bpf::Standing;
use carp_user::io::clock;
use std::net::{IpAddr, Ipv4Addr};

/// A virtual host beside the one with the VIPs.
pub const OTHER_VHID: u8 = 8;

/// The maps, of one link.
pub struct Maps {
    /// (vhid, whether it is served)
    hosts: Vec<(u8, bool)>,
    /// (address, vhid, whether it is served)
    vips: Vec<(IpAddr, u16, bool)>,
}

impl Maps {
    /// With both VIPs served, or neither.
    pub fn set_up(serves: bool) -> Self {
        let vips = VIPS.map(|vip| (vip, u16::from(VHID), serves));
        Self { hosts: vec![(VHID, serves)], vips: vips.to_vec() }
    }

    /// Random ones, in the kernel too.
    pub fn shuffled(kernel: &mut Kernel, random: &mut Random) -> Self {
        let all = windows();
        let all: Vec<Standing> = all.open.iter().chain(&all.closed).map(|(_, window)| *window).collect();
        let slots = [0, 1, 2].map(|slot| {
            let window = random.pick(&all);
            kernel.set_window(slot, window);
            window.is_open(clock::now())
        });
        let mut maps = Self { hosts: Vec::new(), vips: Vec::new() };
        for vhid in [VHID, OTHER_VHID] {
            kernel.remove_host(vhid);
            if !random.one_in(4) {
                let slot = random.below(3);
                kernel.set_host(LINK, vhid, u32::try_from(slot).unwrap());
                maps.hosts.push((vhid, slots[slot]));
            }
        }
        for vip in [VIPS[0], VIPS[1], CLIENT4.into(), CLIENT6.into()] {
            kernel.remove_vip(vip);
            if !random.one_in(3) {
                let (slot, vhid) = (random.below(3), random.pick(&[7, 8]));
                kernel.set_vip(vip, Vip { slot: u32::try_from(slot).unwrap(), vhid, flags: 0 });
                maps.vips.push((vip, vhid, slots[slot]));
            }
        }
        maps
    }

    /// The verdict and the MAC to be put in.
    pub fn verdict(&self, frame: &[u8]) -> (Verdict, u16) {
        let (verdict, vhid) = match frame.get(12..14) {
            Some([8, 6]) => self.arp(frame),
            Some([8, 0]) => self.packet(ipv4_source(frame)),
            Some([0x86, 0xdd]) => self.ipv6(frame),
            Some([0x81, 0] | [0x88, 0xa8]) => return (Verdict::Pass, 0),
            Some(_) | None => (Verdict::Pass, 0),
        };
        if verdict != Verdict::Pass {
            return (verdict, vhid);
        }
        (self.virtual_mac(frame), 0)
    }

    fn vip(&self, address: IpAddr) -> Option<(u16, bool)> {
        // The map's key has IPv4 addresses mapped into IPv6.
        let address = address.to_canonical();
        self.vips.iter().find(|(vip, ..)| *vip == address).map(|(_, vhid, serves)| (*vhid, *serves))
    }

    fn judge(&self, leaving: Leaving, vip: Option<(u16, bool)>) -> (Verdict, u16) {
        vip.map_or((Verdict::Pass, 0), |(vhid, serves)| (verdict::egress(leaving, serves), vhid))
    }

    fn arp(&self, frame: &[u8]) -> (Verdict, u16) {
        let is_arp = frame.len() >= 42 && frame[14..20] == [0, 1, 8, 0, 6, 4];
        let sender = is_arp.then(|| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap()));
        self.judge(Leaving::Arp, sender.and_then(|sender| self.vip(sender.into())))
    }

    fn packet(&self, source: Option<IpAddr>) -> (Verdict, u16) {
        self.judge(Leaving::Packet, source.and_then(|source| self.vip(source)))
    }

    fn ipv6(&self, frame: &[u8]) -> (Verdict, u16) {
        if frame.len() < 54 || frame[14] >> 4 != 6 {
            return (Verdict::Pass, 0);
        }
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let source = self.vip(address(22));
        let is_neighbour = frame[20] == 58 && frame.len() >= 78 && matches!(frame[54..56], [135 | 136, 0]);
        if !is_neighbour {
            return self.packet(Some(address(22)));
        }
        let target = if frame[54] == 136 { self.vip(address(62)) } else { None };
        match self.judge(Leaving::Neighbour, source) {
            (Verdict::Drop(counter), vhid) => (Verdict::Drop(counter), vhid),
            by_source => match target {
                Some(_) => self.judge(Leaving::Neighbour, target),
                None => by_source,
            },
        }
    }

    fn virtual_mac(&self, frame: &[u8]) -> Verdict {
        let [0, 0, 0x5e, 0, 1, vhid] = frame[6..12] else { return Verdict::Pass };
        let Some((_, serves)) = self.hosts.iter().find(|(host, _)| *host == vhid) else {
            return Verdict::Pass;
        };
        // What is too short to be an advert is not known to be none.
        let (protocol, header) = match frame[12..14] {
            [8, 0] => (frame.get(23), 34),
            [0x86, 0xdd] => (frame.get(20), 54),
            _ => (Some(&0), 14),
        };
        match protocol.filter(|_| frame.len() >= header) {
            Some(112) | None => Verdict::Pass,
            Some(_) => verdict::egress(Leaving::VirtualMac, *serves),
        }
    }
}

fn ipv4_source(frame: &[u8]) -> Option<IpAddr> {
    let is_whole = frame.len() >= 34 && frame[14] >> 4 == 4;
    is_whole.then(|| <[u8; 4]>::try_from(&frame[26..30]).unwrap().into())
}
