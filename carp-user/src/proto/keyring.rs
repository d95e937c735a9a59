//! The secrets of a virtual host at work: signs what is sent, verifies what is heard, and keeps the
//! counter (`carp-protocol` section 2.5).

use super::event::{HostSetup, LinkState};
use carp_common::admission::{Addressee, Auth};
use carp_common::auth::{Midstate, Scratch};
use carp_common::id::Vhid;
use carp_common::pace::Pace;
use carp_common::wire::{Advert, Heard, Refusal};

/// Keyed digests of one virtual host, and its counter.
#[derive(Clone, Debug)]
pub struct Keyring {
    vhid: Vhid,
    send: Midstate,
    auth: Auth,
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
        Self {
            vhid: setup.vhid,
            send: Midstate::new(&setup.key, setup.digest, None, setup.vhid, &setup.vips),
            auth: auth(setup),
            counter: Counter { last: None, heard: false, random: seed },
        }
    }

    /// The next advert with this pace and demotion byte.
    pub fn sign(&mut self, pace: Pace, demote: u8) -> Advert {
        let counter = self.counter.next();
        let digest = self.send.digest(counter.to_be_bytes());
        Advert { vhid: self.vhid, pace, demote, counter, digest }
    }

    /// The link's own addresses are these, from now on.
    pub fn locate(&mut self, link: &LinkState) {
        self.auth = self.auth.at(link.source_v4, link.source_v6);
    }

    /// Judges what needs keys and addresses. The counter of an authentic advert is taken over if it
    /// is ahead.
    ///
    /// # Errors
    /// Those of [`Auth::admit`].
    pub fn admit(&mut self, heard: &Heard) -> Result<Addressee, Refusal> {
        let is_signed = |key| self.auth.is_signed(key, heard, &mut Scratch::new());
        let admitted = self.auth.admit(heard, is_signed);
        if let Ok(_) | Err(Refusal::NotForUs) = admitted {
            self.counter.hear(heard.advert.counter);
        }
        admitted
    }
}

/// What adverts of this virtual host are judged by, here and in the datapath, on a link that has no
/// addresses yet. The variant that is sent goes first: most adverts are signed like ours.
pub fn auth(setup: &HostSetup) -> Auth {
    let variants = [setup.digest].into_iter().chain(setup.accept.iter().copied());
    let midstate = |variant| Midstate::new(&setup.key, variant, None, setup.vhid, &setup.vips);
    Auth::new(&setup.vips, setup.pace.longest_lease(), variants.map(midstate))
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
