//! The secrets of a virtual host at work: signs what is sent, verifies what is heard, and keeps the
//! counter (`carp-protocol` section 2.5).

use super::event::HostSetup;
use carp_common::auth::{Midstate, Variant};
use carp_common::id::Vhid;
use carp_common::pace::Pace;
use carp_common::wire::Advert;

/// Keyed digests of one virtual host, and its counter.
#[derive(Clone, Debug)]
pub struct Keyring {
    vhid: Vhid,
    send: Midstate,
    accept: Vec<(Variant, Midstate)>,
    counter: Counter,
}

/// FreeBSD's rule, and never backwards: random steps until a peer's counter is heard, then one more
/// than the last one sent or heard, whoever sent it. Only a counter that is ahead is taken over, so
/// that among nodes of ours the newer of two adverts has the higher counter.
#[derive(Clone, Debug)]
struct Counter {
    last: Option<u64>,
    heard: bool,
    random: u64,
}

impl Keyring {
    /// For this virtual host; `seed` starts its random counters.
    pub fn new(setup: &HostSetup, seed: u64) -> Self {
        let midstate = |variant| Midstate::new(&setup.key, variant, None, setup.vhid, &setup.vips);
        let mut variants = setup.accept.clone();
        if !variants.contains(&setup.digest) {
            variants.insert(0, setup.digest);
        }
        Self {
            vhid: setup.vhid,
            send: midstate(setup.digest),
            accept: variants.into_iter().map(|variant| (variant, midstate(variant))).collect(),
            counter: Counter { last: None, heard: false, random: seed },
        }
    }

    /// The next advert with this pace and demotion byte.
    pub fn sign(&mut self, pace: Pace, demote: u8) -> Advert {
        let counter = self.counter.next();
        let digest = self.send.digest(counter.to_be_bytes());
        Advert { vhid: self.vhid, pace, demote, counter, digest }
    }

    /// The variant that an advert is signed with, when it is one of those accepted here; its
    /// counter is then taken over if it is ahead.
    pub fn verify(&mut self, advert: &Advert) -> Option<Variant> {
        let bytes = advert.counter.to_be_bytes();
        let matches = |(_, midstate): &&(Variant, Midstate)| midstate.verify(bytes, &advert.digest);
        let (variant, _) = self.accept.iter().find(matches)?;
        self.counter.hear(advert.counter);
        Some(*variant)
    }
}

/// Whether a counter is ahead of another one, round the corner of 2^64 (RFC 1982).
pub fn is_ahead(counter: u64, other: u64) -> bool {
    (1..=u64::MAX / 2).contains(&counter.wrapping_sub(other))
}

impl Counter {
    fn next(&mut self) -> u64 {
        let next = match self.last {
            None => self.draw(),
            Some(last) if self.heard => last.wrapping_add(1),
            // Random steps stay far below half the range, so that each value is ahead of the last.
            Some(last) => last.wrapping_add((self.draw() >> 24).max(1)),
        };
        self.last = Some(next);
        next
    }

    fn hear(&mut self, counter: u64) {
        self.heard = true;
        if self.last.is_none_or(|last| is_ahead(counter, last)) {
            self.last = Some(counter);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): the seed is the caller's randomness.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
