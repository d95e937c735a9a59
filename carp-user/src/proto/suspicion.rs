//! What gives a forger away where CARP's own authentication lets it pass: its digest covers neither base
//! nor skew, and no receiver remembers counters (`carp-protocol` section 6). So whoever recorded an
//! advert can send it again, also with another rank; but it cannot give it another counter.
//!
//! A peer whose counter never changes (OpenBSD's and pfSense's do not) may send the same advert again as
//! often as it likes; one whose counter has been seen to change may not. Nothing is refused for it.

use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::wire::Heard;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Adverts remembered of one peer. Policy when full: the oldest is forgotten.
const REMEMBERED: usize = 16;
/// Peers remembered. Policy when full: the one heard longest ago is forgotten.
const MOST: usize = 8;

/// Why an advert is suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It came before, and its sender is not one that repeats itself.
    Repeated,
    /// It came before and said something else.
    Rewritten,
}

/// The adverts of late.
#[derive(Clone, Debug, Default)]
pub struct Suspicions {
    peers: BTreeMap<IpAddr, Trace>,
}

#[derive(Clone, Debug)]
struct Trace {
    past: [Option<Past>; REMEMBERED],
    /// Where the next one goes.
    next: usize,
    heard_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Past {
    counter: u64,
    strict: bool,
    rank: (Pace, u8),
}

impl Suspicion {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 2] = [Self::Repeated, Self::Rewritten];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Rewritten => "rewritten",
        }
    }
}

impl Suspicions {
    /// An authentic advert, signed strictly or only as CARP does it; whether there is something wrong with it.
    pub fn hear(&mut self, heard: &Heard, strict: bool, at: Instant) -> Option<Suspicion> {
        let advert = heard.advert;
        let now = Past { counter: advert.counter, strict, rank: (advert.pace, advert.demote) };
        if self.peers.len() >= MOST && !self.peers.contains_key(&heard.source) {
            let oldest = self.peers.iter().min_by_key(|(_, trace)| trace.heard_at).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        let trace = self.peers.entry(heard.source).or_insert(Trace {
            past: [None; REMEMBERED],
            next: 0,
            heard_at: at,
        });
        trace.heard_at = at;
        trace.hear(now)
    }
}

impl Trace {
    fn hear(&mut self, now: Past) -> Option<Suspicion> {
        let changes = self.past.iter().flatten().any(|past| past.counter != now.counter);
        let same = self.past.iter_mut().flatten().find(|past| past.counter == now.counter);
        match same {
            // Nobody but the sender signs strictly. Before it did that it counted on from what it heard of others, who
            // may have begun where it begins now.
            Some(past) if now.strict && !past.strict => {
                *past = now;
                None
            }
            Some(past) if past.rank != now.rank => {
                past.rank = now.rank;
                Some(Suspicion::Rewritten)
            }
            Some(_) => changes.then_some(Suspicion::Repeated),
            None => {
                self.past[self.next] = Some(now);
                self.next = (self.next + 1) % REMEMBERED;
                None
            }
        }
    }
}
