//! What the program for what leaves should do, said once more on the host, in another way: slices
//! and offsets around the same pure verdict.

use crate::frames::*;
use crate::harness::{Kernel, LINK};
use crate::random::Random;
use crate::serving::windows;
use carp_common::map::{Vip, Window};
use carp_common::time::Instant;
use carp_common::verdict::{self, Leaving, Verdict};
use std::net::{IpAddr, Ipv4Addr};

/// A virtual host beside the one with the VIPs.
pub const OTHER_VHID: u8 = 8;

/// The maps, of one link.
pub struct Maps {
    /// (vhid, window)
    hosts: Vec<(u8, Window)>,
    /// (address, vhid, window)
    vips: Vec<(IpAddr, u16, Window)>,
}

impl Maps {
    /// With both VIPs in this window.
    pub fn set_up(window: Window) -> Self {
        let vips = VIPS.map(|vip| (vip, u16::from(VHID), window));
        Self { hosts: vec![(VHID, window)], vips: vips.to_vec() }
    }

    /// Random ones, in the kernel too.
    pub fn shuffled(kernel: &mut Kernel, random: &mut Random) -> Self {
        let all = windows();
        let all: Vec<Window> = all.open.iter().chain(&all.closed).map(|(_, window)| *window).collect();
        let slots = [0, 1, 2].map(|slot| {
            let window = random.pick(&all);
            kernel.set_window(slot, window);
            window
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
    pub fn verdict(&self, frame: &[u8], now: Instant) -> (Verdict, u16) {
        let (verdict, vhid) = match frame.get(12..14) {
            Some([8, 6]) => self.arp(frame, now),
            Some([8, 0]) => self.packet(ipv4_source(frame), now),
            Some([0x86, 0xdd]) => self.ipv6(frame, now),
            Some([0x81, 0] | [0x88, 0xa8]) => return (Verdict::Pass, 0),
            Some(_) | None => (Verdict::Pass, 0),
        };
        if verdict != Verdict::Pass {
            return (verdict, vhid);
        }
        (self.virtual_mac(frame, now), 0)
    }

    fn vip(&self, address: IpAddr) -> Option<(u16, Window)> {
        // The map's key has IPv4 addresses mapped into IPv6.
        let address = address.to_canonical();
        self.vips.iter().find(|(vip, ..)| *vip == address).map(|(_, vhid, window)| (*vhid, *window))
    }

    fn judge(&self, leaving: Leaving, vip: Option<(u16, Window)>, now: Instant) -> (Verdict, u16) {
        let window = vip.map(|(_, window)| window);
        (verdict::egress(leaving, window.as_ref(), now), vip.map_or(0, |(vhid, _)| vhid))
    }

    fn arp(&self, frame: &[u8], now: Instant) -> (Verdict, u16) {
        let is_arp = frame.len() >= 42 && frame[14..20] == [0, 1, 8, 0, 6, 4];
        let sender = is_arp.then(|| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap()));
        self.judge(Leaving::Arp, sender.and_then(|sender| self.vip(sender.into())), now)
    }

    fn packet(&self, source: Option<IpAddr>, now: Instant) -> (Verdict, u16) {
        self.judge(Leaving::Packet, source.and_then(|source| self.vip(source)), now)
    }

    fn ipv6(&self, frame: &[u8], now: Instant) -> (Verdict, u16) {
        if frame.len() < 54 || frame[14] >> 4 != 6 {
            return (Verdict::Pass, 0);
        }
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let source = self.vip(address(22));
        let is_neighbour = frame[20] == 58 && frame.len() >= 78 && matches!(frame[54..56], [135 | 136, 0]);
        if !is_neighbour {
            return self.packet(Some(address(22)), now);
        }
        let target = if frame[54] == 136 { self.vip(address(62)) } else { None };
        match self.judge(Leaving::Neighbour, source, now) {
            (Verdict::Drop(counter), vhid) => (Verdict::Drop(counter), vhid),
            by_source => match target {
                Some(_) => self.judge(Leaving::Neighbour, target, now),
                None => by_source,
            },
        }
    }

    fn virtual_mac(&self, frame: &[u8], now: Instant) -> Verdict {
        let [0, 0, 0x5e, 0, 1, vhid] = frame[6..12] else { return Verdict::Pass };
        let Some((_, window)) = self.hosts.iter().find(|(host, _)| *host == vhid) else {
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
            Some(_) => verdict::egress(Leaving::VirtualMac, Some(window), now),
        }
    }
}

fn ipv4_source(frame: &[u8]) -> Option<IpAddr> {
    let is_whole = frame.len() >= 34 && frame[14] >> 4 == 4;
    is_whole.then(|| <[u8; 4]>::try_from(&frame[26..30]).unwrap().into())
}
