//! Cut frames and random frames.

use crate::adverts::{auth, good};
use crate::frames::*;
use crate::harness::{DROP, Kernel, LINK, LINK_MAC, PASS, SLOTS, TX};
use crate::model::Maps;
use crate::serving::windows;
use carp_common::admission::Auth;
use carp_common::map::{Counter, Host, Vip};
use carp_common::verdict::Verdict;
use carp_user::io::clock;
use std::net::IpAddr;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// One frame of every kind, for this vhid.
fn kinds(vhid: u8) -> Vec<Vec<u8>> {
    let fence = udp4(virtual_mac(vhid), CLIENT4);
    let tagged = [&fence[..12], &[0x81, 0, 0, 5], &fence[12..]].concat();
    vec![
        advert4(vhid),
        advert6(vhid),
        good(CLIENT4.into()),
        good(CLIENT6.into()),
        arp_request(VIP4),
        arp(virtual_mac(vhid), 1, CLIENT4, VIP4),
        arp(BROADCAST, 1, VIP4, VIP4),
        arp(virtual_mac(vhid), 2, CLIENT4, VIP4),
        solicitation(CLIENT6, VIP6, &source_option()),
        solicitation([0; 16].into(), VIP6, &[]),
        solicitation([0; 16].into(), VIP6, &nonce_option()),
        fence,
        tagged,
        udp6(virtual_mac(vhid), CLIENT6),
        udp4(LINK_MAC, VIP4),
        udp6(LINK_MAC, VIP6),
        ethernet(LINK_MAC, 0x88cc, &[3; 60]),
    ]
}

#[test]
fn a_frame_cut_at_any_length_passes_or_is_answered_whole() {
    let mut kernel = Kernel::new();
    crate::serving::set_up(&mut kernel);
    kernel.set_window(0, windows().open[0].1);
    // The kernel itself hands out nothing shorter than an Ethernet header.
    for frame in kinds(VHID) {
        let (whole, _) = kernel.act(&frame);
        let needed = if frame[12..14] == [8, 6] { 42 } else { 78 };
        for len in 14..=frame.len() {
            let (action, out) = kernel.act(&frame[..len]);
            if whole == TX && len >= needed {
                assert_eq!(action, TX, "{len} bytes of {frame:02x?}");
            } else {
                assert_eq!((action, out.len()), (PASS, len), "{len} bytes of {frame:02x?}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_random_frames_agree_with_the_model() {
    let seed = std::env::var("CARP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("CARP_SEED={seed}");
    let mut random = Random(seed);
    let mut kernel = Kernel::new();
    let mut actions = [0_u32; 4];
    for _ in 0..200 {
        let maps = shuffle(&mut kernel, &mut random);
        let mut expected = [0_u64; Counter::ALL.len()];
        let before = kernel.counters();
        for _ in 0..500 {
            let frame = random_frame(&mut random);
            let verdict = maps.verdict(&frame);
            let (action, out) = kernel.act(&frame);
            check(&frame, verdict, action, &out);
            actions[usize::try_from(action).unwrap()] += 1;
            if let Some(counter) = counter(verdict) {
                expected[counter.index()] += 1;
            }
        }
        let counted: Vec<u64> =
            kernel.counters().iter().zip(before).map(|(after, before)| after - before).collect();
        // A full ring is not the model's matter: what was heard is one or the other.
        let either = |counts: &[u64]| {
            let mut counts = counts.to_vec();
            counts[Counter::Advert.index()] += std::mem::take(&mut counts[Counter::RingFull.index()]);
            counts
        };
        assert_eq!(either(&counted), either(&expected));
        kernel.adverts();
    }
    println!("dropped, passed, sent back: {:?}", &actions[1..]);
    assert!(actions[1..].iter().all(|count| *count > 1000), "the frames try everything: {actions:?}");
}

fn check(frame: &[u8], verdict: Verdict, action: u32, out: &[u8]) {
    let expected = match verdict {
        Verdict::Pass | Verdict::Serve(_) | Verdict::Rewrite(_) => PASS,
        Verdict::Answer(_) => TX,
        Verdict::Drop(_) => DROP,
    };
    assert_eq!(action, expected, "{verdict:?} for {frame:02x?}");
    match verdict {
        Verdict::Pass | Verdict::Serve(_) | Verdict::Drop(_) => assert_eq!(out, frame, "{verdict:?}"),
        Verdict::Rewrite(_) => {
            assert_eq!(out[..6], LINK_MAC);
            assert_eq!(out[6..], frame[6..]);
        }
        Verdict::Answer(_) => assert_eq!(out[6..11], [0, 0, 0x5e, 0, 1]),
    }
}

fn counter(verdict: Verdict) -> Option<Counter> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Answer(counter)
        | Verdict::Rewrite(counter)
        | Verdict::Serve(counter)
        | Verdict::Drop(counter) => Some(counter),
    }
}

/// New maps, the same in the kernel and in the model.
fn shuffle(kernel: &mut Kernel, random: &mut Random) -> Maps {
    let mut maps = Maps::default();
    let choices: Vec<_> = windows().open.into_iter().chain(windows().closed).collect();
    for slot in 0..SLOTS {
        let (_, window) = random.pick(&choices);
        kernel.set_window(slot, window);
        maps.serves.insert(slot, window.is_open(clock::now()));
        let known = random.pick(&[Auth::NONE, auth(), auth().at(Some(CLIENT4), None)]);
        kernel.set_auth(slot, &known);
        maps.auth.insert(slot, known);
    }
    for vhid in [VHID, 8, 255] {
        kernel.remove_host(vhid);
        if !random.one_in(4) {
            let slot = u32::try_from(random.below(3)).unwrap();
            kernel.set_host(LINK, vhid, slot);
            maps.hosts.insert(vhid, Host { slot, link_mac: LINK_MAC, flags: 0 });
        }
    }
    for vip in [VIPS[0], VIPS[1], IpAddr::V4(CLIENT4)] {
        kernel.remove_vip(vip);
        if !random.one_in(4) {
            let slot = u32::try_from(random.below(3)).unwrap();
            // A zero entry means the same as none.
            let entry = Vip { slot, vhid: random.pick(&[0, 7, 8, 255]), flags: random.pick(&[0, 1]) };
            kernel.set_vip(vip, entry);
            maps.vips.insert(vip, entry);
        }
    }
    maps
}

/// One of the kinds, mostly damaged: in its length, in some bytes, in the bytes that decide.
fn random_frame(random: &mut Random) -> Vec<u8> {
    let vhid = random.pick(&[VHID, 8, 9, 255, 0]);
    let mut frame = random.pick(&kinds(vhid));
    if random.one_in(3) {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    if random.one_in(8) {
        frame.resize(frame.len() + random.below(1200), 0x5a);
    }
    if random.one_in(2) {
        for _ in 0..=random.below(3) {
            let at = random.below(frame.len().min(90));
            frame[at] = random.pick(&[0, 1, 4, 6, 7, 8, 58, 112, 135, 255, 0x45, 0x46, 0x4f, 0x60, 0x21]);
        }
    }
    frame
}
