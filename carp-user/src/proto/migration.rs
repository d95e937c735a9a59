//! On the way to strict authentication: which of the peers sign strictly already, so that a person knows
//! when the last step can be taken.

use super::notice::News;
use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Peers remembered. Policy when full: a new one is not counted until an old one is forgotten.
const MOST: usize = 64;
/// Whoever was not heard for so long is not waited for.
const FORGET: Span = Span::secs(600);

/// The peers that were heard of late.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    peers: BTreeMap<IpAddr, Peer>,
    /// What was told last: that all sign strictly, or not.
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    strict: bool,
    at: Instant,
}

impl Migration {
    /// A peer was heard; what is new since it was told last, if it may be told now. Else it stays new.
    pub fn heard(
        &mut self,
        peer: IpAddr,
        strict: bool,
        at: Instant,
        may_tell: impl FnOnce() -> bool,
    ) -> Option<News> {
        self.peers.retain(|_, known| at.since(known.at) < FORGET);
        if self.peers.len() < MOST || self.peers.contains_key(&peer) {
            self.peers.insert(peer, Peer { strict, at });
        }
        let others = self.others(at);
        if others.is_empty() == self.told || !may_tell() {
            return None;
        }
        self.told = others.is_empty();
        Some(others.first().map_or(News::AllStrict(self.peers.len()), |other| News::NotStrict(*other)))
    }

    /// How many sign strictly.
    pub fn strict(&self, now: Instant) -> usize {
        self.peers.values().filter(|peer| peer.strict && now.since(peer.at) < FORGET).count()
    }

    /// Those that do not.
    pub fn others(&self, now: Instant) -> Vec<IpAddr> {
        let others = self.peers.iter().filter(|(_, peer)| !peer.strict && now.since(peer.at) < FORGET);
        others.map(|(peer, _)| *peer).collect()
    }
}
