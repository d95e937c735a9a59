//! Cut frames and random frames: kernel, host and a model must agree about each.

use crate::adverts::auth;
use crate::frames::*;
use crate::harness::{Action, Hook, Kernel, LINK, LINK_MAC, SLOTS};
use crate::model::Maps;
use crate::strict::strict_auth;
use crate::table::Row;
use crate::windows::{open, set_up, windows};
use crate::{incoming, leaving};
use carp_common::admission::Auth;
use carp_common::map::{Counter, Host, LINK_STEPS, NO_COUNTS, VIP_STEPS, Vip};
use carp_common::verdict::Verdict;
use carp_user::io::bpf::Standing;
use carp_user::io::clock;
use std::net::IpAddr;

/// Frames between two changes of the maps.
const BATCH: u32 = 500;
/// Virtual hosts that the frames may be about, and the maps hold.
const VHIDS: [u8; 3] = [VHID, 8, 255];
const ADDRESSES: [IpAddr; 4] = [VIPS[0], VIPS[1], IpAddr::V4(CLIENT4), IpAddr::V6(CLIENT6)];

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

#[test]
fn a_frame_that_comes_in_cut_at_any_length_is_judged_by_what_is_there() {
    cut(Hook::Xdp, &incoming::rows());
    cut(Hook::OneBuffer, &incoming::rows());
    cut(Hook::Tc, &incoming::rows());
}

#[test]
fn a_frame_that_leaves_cut_at_any_length_is_judged_by_what_is_there() {
    cut(Hook::Egress, &leaving::rows());
}

#[test]
fn kernel_host_and_model_agree_about_a_million_random_frames_that_come_in() {
    let fates = agree(Hook::Xdp, &incoming::rows(), 1_000_000);
    assert!(fates.iter().all(|count| *count > 10_000), "the frames try everything: {fates:?}");
}

#[test]
fn kernel_host_and_model_agree_about_random_frames_that_come_in_at_tc() {
    let fates = agree(Hook::Tc, &incoming::rows(), 400_000);
    assert!(fates.iter().all(|count| *count > 3_000), "the frames try everything: {fates:?}");
}

#[test]
fn kernel_host_and_model_agree_about_random_frames_that_leave() {
    let fates = agree(Hook::Egress, &leaving::rows(), 300_000);
    assert!(fates[..2].iter().all(|count| *count > 10_000), "the frames try everything: {fates:?}");
}

fn cut(hook: Hook, rows: &[Row]) {
    let mut kernel = Kernel::at(hook);
    set_up(&mut kernel, Host::ANSWER_PING);
    for standing in [open(), Standing::default()] {
        kernel.set_window(0, standing);
        let maps = Maps::one_host(standing.is_open(clock::now()));
        for row in rows {
            let whole = row.frame.len();
            // Behind the longest headers one length is like the other.
            for len in (hook.shortest(&row.frame)..=whole.min(200)).chain([whole]) {
                let frame = &row.frame[..len];
                let (action, out) = kernel.act(frame);
                maps.check(hook, frame, (action, &out));
            }
        }
        kernel.counters();
        kernel.adverts();
    }
}

/// How many passed, were dropped, went back.
fn agree(hook: Hook, rows: &[Row], count: u32) -> [u32; 3] {
    let seed = std::env::var("CARP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("CARP_SEED={seed}");
    let mut random = Random(seed);
    let mut kernel = Kernel::at(hook);
    let mut fates = [0; 3];
    for _ in 0..count / BATCH {
        let maps = Maps::shuffled(&mut kernel, &mut random);
        let mut expected = NO_COUNTS;
        let before = kernel.counters();
        for _ in 0..BATCH {
            let frame = random_frame(hook, rows, &mut random);
            let (action, out) = kernel.act(&frame);
            let verdict = maps.check(hook, &frame, (action, &out));
            if let Some(counter) = verdict.counter() {
                expected[counter.index()] += 1;
            }
            fates[action as usize] += 1;
        }
        let after = kernel.counters();
        let counted: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        // A full ring is not the model's matter: what was heard is one or the other.
        let either = |counts: &[u64]| {
            let mut counts = counts.to_vec();
            counts[Counter::Advert.index()] += std::mem::take(&mut counts[Counter::RingFull.index()]);
            counts
        };
        assert_eq!(either(&counted), either(&expected));
        kernel.adverts();
        for slot in 0..SLOTS {
            kernel.heard(slot);
        }
        kernel.senders();
    }
    println!("passed, dropped, went back: {fates:?}");
    fates
}

impl Maps {
    /// As `set_up` does it.
    fn one_host(serves: bool) -> Self {
        let host = Host { slot: 0, link_mac: LINK_MAC, flags: 0 };
        let vip = Vip { slot: 0, vhid: u16::from(VHID), flags: Host::ANSWER_PING };
        Self {
            hosts: [(VHID, host)].into(),
            vips: VIPS.map(|address| (address, vip)).into(),
            serves: [(0, serves)].into(),
            ..Self::default()
        }
    }

    /// New ones, the same in the kernel, on the host and here.
    fn shuffled(kernel: &mut Kernel, random: &mut Random) -> Self {
        let mut maps = Self::default();
        kernel.forget_senders();
        let windows: Vec<_> = windows().open.into_iter().chain(windows().closed).collect();
        for slot in 0..SLOTS {
            let (_, standing) = random.pick(&windows);
            kernel.set_window(slot, standing);
            maps.serves.insert(slot, standing.is_open(clock::now()));
            let known = random.pick(&[
                Auth::NONE,
                auth(),
                auth().at(Some(CLIENT4), None),
                strict_auth(),
                strict_auth(),
            ]);
            kernel.set_auth(slot, &known);
            maps.auth.insert(slot, known);
        }
        let slot = |random: &mut Random| random.pick(&[0, 1, 2]);
        kernel.crowd_link(random.pick(&[0, 0, 1, LINK_STEPS as usize - 1]));
        for vhid in VHIDS {
            kernel.remove_host(vhid);
            if !random.one_in(4) {
                let slot = slot(random);
                kernel.set_host(LINK, vhid, slot);
                maps.hosts.insert(vhid, Host { slot, link_mac: LINK_MAC, flags: 0 });
            }
        }
        for vip in ADDRESSES {
            match random.pick(&[None, Some(0), Some(1), Some(VIP_STEPS as usize - 1)]) {
                Some(others) => kernel.crowd(vip, others),
                None => kernel.remove_vip(vip),
            }
            if !random.one_in(3) {
                // A zero entry means the same as none.
                let vhid = random.pick(&[0, 7, 8, 255]);
                let entry = Vip {
                    slot: slot(random),
                    vhid,
                    flags: random.pick(&[0, Host::ROUTER, Host::ANSWER_PING]),
                };
                kernel.set_vip(vip, entry);
                maps.vips.insert(vip, entry);
            }
        }
        maps
    }

    /// What became of a frame is what the verdict says.
    fn check(&self, hook: Hook, frame: &[u8], (action, out): (Action, &[u8])) -> Verdict {
        let (verdict, vhid) = match hook {
            Hook::Xdp | Hook::OneBuffer | Hook::Tc => (self.comes_in(frame), 0),
            Hook::Egress => self.leaves(frame),
        };
        let is_as_said = match (verdict, hook) {
            (Verdict::Pass | Verdict::Serve(_), _) => action == Action::Pass && out == frame,
            (Verdict::Drop(_), _) => action == Action::Drop && out == frame,
            (Verdict::Rewrite(_), Hook::Tc) => action == Action::Pass && out == frame,
            (Verdict::Rewrite(_), Hook::Xdp | Hook::OneBuffer) => {
                action == Action::Pass && out[..6] == LINK_MAC && out[6..] == frame[6..]
            }
            (Verdict::Rewrite(_), Hook::Egress) => {
                let mac = virtual_mac(u8::try_from(vhid).unwrap());
                action == Action::Pass && out[6..12] == mac && out.len() == frame.len()
            }
            (Verdict::Answer(_), _) => {
                let is_to_asker = out[..6] == frame[6..12] || out[..6] == ALL_NODES_MAC;
                action == Action::Back && out[6..11] == [0, 0, 0x5e, 0, 1] && is_to_asker
            }
        };
        assert!(is_as_said, "the model says {verdict:?}: {action:?} as {out:02x?} for {frame:02x?}");
        verdict
    }
}

/// A row's frame, mostly damaged: in its length, in some bytes, in the bytes that decide.
fn random_frame(hook: Hook, rows: &[Row], random: &mut Random) -> Vec<u8> {
    let mut frame = rows[random.below(rows.len())].frame.clone();
    if random.one_in(3) {
        let mac = virtual_mac(random.pick(&[VHID, 8, 9, 255, 0]));
        let mac = random.pick(&[mac, LINK_MAC]);
        let at = random.pick(&[0, 6]);
        frame[at..at + 6].copy_from_slice(&mac);
    }
    if random.one_in(3) {
        frame.truncate(15 + random.below(frame.len() - 14));
    }
    if random.one_in(8) {
        frame.resize(frame.len() + random.below(1200), 0x5a);
    }
    if random.one_in(2) {
        for _ in 0..=random.below(3) {
            let at = 12 + random.below(frame.len().min(90) - 12);
            frame[at] = random.pick(&DECIDING);
        }
    }
    let len = frame.len().max(hook.shortest(&frame));
    frame.resize(len, 0);
    frame
}

/// Bytes that mean something somewhere.
const DECIDING: [u8; 20] =
    [0, 1, 2, 4, 6, 7, 8, 58, 112, 0x81, 0x86, 0x88, 128, 135, 136, 255, 0x21, 0x45, 0x4f, 0x60];

impl Hook {
    /// The kernel's test run takes no frame without anything behind its Ethernet header, and at tc
    /// none with part of an IP header.
    fn shortest(self, frame: &[u8]) -> usize {
        match (self.is_xdp(), &frame[12..14]) {
            (true, _) => 14,
            (false, [8, 0]) => 34,
            (false, [0x86, 0xdd]) => 54,
            (false, _) => 15,
        }
    }
}
