//! The other nodes of a virtual host, as far as one has to know them: until when each may be
//! serving, and whether it confirms a hand-over.
//!
//! CARP's old master is silent when it gives way, so a preempting node cannot know whether it has
//! been heard. A node of ours confirms: having closed its own window, it sends the new master a
//! bow-out addressed to it alone. Until then, or until the longest possible lease of the old master
//! has run out, the new master is elected but does not serve. Whether a master confirms is learned
//! by a *greeting* that a backup sends it: one of ours answers; every other implementation ignores the
//! greeting, as it is worse than its own advert, and after [`GREETINGS`] of them is taken for one that
//! steps down without a word. It is greeted all the same: it may only have been hard of hearing.

use super::event::Family;
use super::keyring::is_ahead;
use super::status::PeerStatus;
use carp_common::admission::Mode;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Advert;
use std::net::IpAddr;

/// Peers remembered. Policy when full: the one heard longest ago goes.
const MOST: usize = 8;
/// Leases of silence after which a peer is not heard any more.
const SILENT: u64 = 3;
/// Greetings sent to a master before it counts as one that does not confirm.
const GREETINGS: u8 = 2;
/// Unanswered greetings after which it is of another make beyond doubt: a path that is blocked one way
/// for so long is not to be expected.
const STRANGER: u8 = 15;
/// An answer to a greeting comes within this time, or not at all.
const ANSWER_WITHIN: Span = Span::millis(300);

/// The nodes heard of, newest knowledge only.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    known: Vec<Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    address: IpAddr,
    pace: Pace,
    /// When anything was heard of it.
    heard_at: Instant,
    /// When it advertised as a master.
    advertised_at: Option<Instant>,
    /// End of the longest lease that its last advert can have given it.
    may_serve_until: Instant,
    /// The same by an advert of which it seemed that somebody else had sent it.
    dismissed_until: Instant,
    /// The newest of its counters: frames may overtake each other.
    counter: Option<u64>,
    custom: Custom,
    /// It has signed for addresses that this node does not sign for yet.
    is_ahead: bool,
    /// People know that it is heard.
    is_told: bool,
}

/// How a peer hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Custom {
    Unknown { greetings: u8, last: Option<Instant> },
    Confirms,
    Silent { greetings: u8, last: Instant },
}

impl Peers {
    /// A master's advert came in.
    pub fn heard(&mut self, address: IpAddr, advert: &Advert, at: Instant) {
        let pace = advert.pace;
        let peer = self.entry(address, pace, at);
        if at.since(peer.heard_at) > peer.pace.longest_lease().times(2) {
            peer.counter = None;
        }
        peer.pace = pace;
        peer.count(advert.counter);
        peer.heard_at = peer.heard_at.max(at);
        peer.advertised_at = Some(at);
        peer.may_serve_until = at + pace.longest_lease();
    }

    /// An advert of this node was heard that does not count, as it has not proved that it lives. As far as it
    /// may live, it may serve, and then gives way by confirming.
    pub fn suspected(&mut self, address: IpAddr, advert: &Advert, at: Instant, may_live: bool) {
        let peer = self.entry(address, advert.pace, at);
        peer.count(advert.counter);
        let until = at + advert.pace.longest_lease();
        if may_live {
            peer.may_serve_until = until.max(peer.may_serve_until);
        } else {
            peer.dismissed_until = until;
        }
    }

    /// It lives: what was dismissed was its own.
    pub fn proved(&mut self, address: IpAddr) {
        for peer in self.known.iter_mut().filter(|peer| peer.address == address) {
            let dismissed_until = std::mem::replace(&mut peer.dismissed_until, Instant::ZERO);
            peer.may_serve_until = dismissed_until.max(peer.may_serve_until);
        }
    }

    /// A peer said that it does not serve: by leaving, or by confirming. Unless it is of another make
    /// this must be newer than its last advert, by the counter that nodes of ours count up together:
    /// else it is late, or a replay, and tells of the past. Whether it is believed.
    pub fn released(&mut self, address: IpAddr, advert: &Advert, at: Instant) -> bool {
        let Some(peer) = self.known.iter().find(|peer| peer.address == address) else { return false };
        if !peer.custom.is_silent() && !peer.is_news(advert.counter) {
            return false;
        }
        for peer in self.known.iter_mut().filter(|peer| peer.address == address) {
            peer.may_serve_until = peer.may_serve_until.min(at);
        }
        true
    }

    /// Whoever is known is one node, which does not serve at that moment.
    pub fn release_all(&mut self, at: Instant) {
        for peer in
            self.known.iter_mut().filter(|peer| peer.advertised_at.is_none_or(|advertised| advertised < at))
        {
            peer.may_serve_until = peer.may_serve_until.min(at);
        }
    }

    /// Whether more than one node is known by an address of this family.
    pub fn are_several(&self, family: Family) -> bool {
        self.known.iter().filter(|peer| Family::of(peer.address) == family).count() > 1
    }

    /// This is a node of ours: it greeted, or answered.
    pub fn confirms(&mut self, address: IpAddr, advert: &Advert, at: Instant) {
        let peer = self.entry(address, advert.pace, at);
        peer.count(advert.counter);
        peer.custom = Custom::Confirms;
        peer.heard_at = at;
    }

    /// Whether to greet this master now, and that it is done. With strict authentication all are ours.
    pub fn greet(&mut self, address: IpAddr, mode: Mode, now: Instant) -> bool {
        self.look_again(now);
        let Some(peer) = self.known.iter_mut().find(|peer| peer.address == address) else { return false };
        match &mut peer.custom {
            Custom::Unknown { last: Some(last), .. } if now.since(*last) <= ANSWER_WITHIN => false,
            Custom::Unknown { greetings, last } if *greetings < GREETINGS || mode == Mode::Strict => {
                *greetings = greetings.saturating_add(1);
                *last = Some(now);
                true
            }
            Custom::Unknown { greetings, .. } => {
                peer.custom = Custom::Silent { greetings: *greetings, last: now };
                true
            }
            Custom::Silent { greetings, last } => {
                *greetings = greetings.saturating_add(1);
                *last = now;
                true
            }
            Custom::Confirms => false,
        }
    }

    /// Whoever did not answer, but was not asked of late, may have been hard of hearing: the path may have been
    /// blocked then.
    pub fn look_again(&mut self, now: Instant) {
        for peer in self.known.iter_mut().filter(|peer| peer.was_greeted_long_ago(now)) {
            peer.custom = Custom::UNKNOWN;
        }
    }

    /// Greetings cannot be sent: whoever was taken for silent may just not have been asked.
    pub fn forget_greetings(&mut self) {
        for peer in self.known.iter_mut().filter(|peer| peer.custom != Custom::Confirms) {
            peer.custom = Custom::UNKNOWN;
        }
    }

    /// Whether it is known at this moment how this master hands over; before that it is not preempted.
    pub fn is_acquainted(&self, address: IpAddr, at: Instant) -> bool {
        self.known.iter().any(|peer| {
            peer.address == address
                && match peer.custom {
                    Custom::Unknown { .. } => false,
                    Custom::Confirms => true,
                    Custom::Silent { .. } => !peer.was_greeted_long_ago(at),
                }
        })
    }

    /// Until when some other node may be serving, in the worst case, of those that confirm.
    pub fn may_serve_until(&self) -> Instant {
        self.last_to_serve(|peer| !peer.custom.is_silent())
    }

    /// The same of those that give way without a word.
    pub fn silent_may_serve_until(&self) -> Instant {
        self.last_to_serve(|peer| peer.custom.is_silent())
    }

    fn last_to_serve(&self, of: impl Fn(&Peer) -> bool) -> Instant {
        let peers = self.known.iter().filter(|peer| of(peer));
        peers.map(|peer| peer.may_serve_until).max().unwrap_or(Instant::ZERO)
    }

    /// The node of ours that was heard last: it can be handed the role.
    pub fn confirming(&self, family: Family) -> Option<IpAddr> {
        let confirming = |peer: &&Peer| peer.custom == Custom::Confirms && Family::of(peer.address) == family;
        let latest = self.known.iter().filter(confirming).max_by_key(|peer| peer.heard_at);
        latest.map(|peer| peer.address)
    }

    /// It has signed for addresses that this node does not sign for yet.
    pub fn went_ahead(&mut self, address: IpAddr) {
        self.known.iter_mut().filter(|peer| peer.address == address).for_each(|peer| peer.is_ahead = true);
    }

    /// The addresses are others now, of which nobody is known to know.
    pub fn forget_ahead(&mut self) {
        self.known.iter_mut().for_each(|peer| peer.is_ahead = false);
    }

    /// Whether all nodes that are known by an address of this family, and may be of ours, have done so.
    pub fn are_all_ahead(&self, family: Family) -> bool {
        let may_be_ours = |peer: &&Peer| !peer.custom.is_silent() && Family::of(peer.address) == family;
        self.known.iter().filter(may_be_ours).all(|peer| peer.is_ahead)
    }

    /// Whether this master is of another make beyond doubt, and nobody of ours was ever heard.
    pub fn is_alone_under(&self, master: IpAddr) -> bool {
        self.known.iter().all(|peer| peer.custom != Custom::Confirms)
            && self.known.iter().any(|peer| {
                peer.address == master
                    && matches!(peer.custom, Custom::Silent { greetings, .. } if greetings >= STRANGER)
            })
    }

    /// Whether this counter is newer than that of the last advert of this node.
    pub fn is_news(&self, address: IpAddr, counter: u64) -> bool {
        let known = self.known.iter().find(|peer| peer.address == address);
        known.is_some_and(|peer| peer.is_news(counter))
    }

    /// Who is heard from now on, or not any more, and has not been told of: in three leases even a backup of ours, which
    /// asks its master once in each, says something.
    pub fn changed(&mut self, pace: Pace, now: Instant) -> impl Iterator<Item = (IpAddr, bool)> {
        self.known.iter_mut().filter_map(move |peer| {
            let heard = now.since(peer.heard_at) < pace.longest_lease().times(SILENT);
            (std::mem::replace(&mut peer.is_told, heard) != heard).then_some((peer.address, heard))
        })
    }

    /// When anything was heard of this one last.
    pub fn heard_at(&self, address: IpAddr) -> Option<Instant> {
        self.known.iter().find(|peer| peer.address == address).map(|peer| peer.heard_at)
    }

    /// When this one advertised as a master last.
    pub fn advertised_at(&self, address: IpAddr) -> Option<Instant> {
        self.known.iter().find(|peer| peer.address == address)?.advertised_at
    }

    /// The one whose advert was heard last, for people.
    pub fn latest(&self, now: Instant) -> Option<PeerStatus> {
        let advertised = self.known.iter().filter_map(|peer| Some((peer.advertised_at?, peer)));
        let (at, latest) = advertised.max_by_key(|(at, _)| *at)?;
        Some(PeerStatus {
            address: latest.address,
            pace: latest.pace,
            age: now.since(at),
            confirms: latest.custom == Custom::Confirms,
        })
    }

    fn entry(&mut self, address: IpAddr, pace: Pace, at: Instant) -> &mut Peer {
        let index = match self.known.iter().position(|peer| peer.address == address) {
            Some(index) => index,
            None => {
                if self.known.len() >= MOST
                    && let Some((oldest, _)) =
                        self.known.iter().enumerate().min_by_key(|(_, peer)| peer.heard_at)
                {
                    self.known.swap_remove(oldest);
                }
                let peer = Peer {
                    address,
                    pace,
                    heard_at: at,
                    advertised_at: None,
                    may_serve_until: Instant::ZERO,
                    dismissed_until: Instant::ZERO,
                    counter: None,
                    custom: Custom::UNKNOWN,
                    is_ahead: false,
                    is_told: false,
                };
                self.known.push(peer);
                self.known.len() - 1
            }
        };
        &mut self.known[index]
    }
}

impl Peer {
    fn is_news(&self, counter: u64) -> bool {
        self.counter.is_none_or(|known| is_ahead(counter, known))
    }

    /// Whether it has to be found out anew whether it answers.
    fn was_greeted_long_ago(&self, now: Instant) -> bool {
        let last = match self.custom {
            Custom::Unknown { last, .. } => last,
            Custom::Silent { last, .. } => Some(last),
            Custom::Confirms => None,
        };
        last.is_some_and(|last| now.since(last) > self.pace.longest_lease())
    }

    fn count(&mut self, counter: u64) {
        if self.is_news(counter) {
            self.counter = Some(counter);
        }
    }
}

impl Custom {
    const UNKNOWN: Self = Self::Unknown { greetings: 0, last: None };

    const fn is_silent(self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}
