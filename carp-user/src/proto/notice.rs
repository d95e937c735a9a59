//! What a virtual host has to say to people.

use carp_common::sender::epoch_of;
use std::fmt;
use std::net::IpAddr;

/// Something worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// While migrating: all so many peers that were heard sign strictly too.
    AllStrict(usize),
    /// While migrating: this one does not, and it had looked as if all did.
    NotStrict(IpAddr),
    /// The addresses were changed, and adverts are signed for the former ones.
    Behind,
    /// Adverts are signed for the new ones.
    Ahead,
}

/// Something that works but should not stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The peer at this address has the same base and skew (item 86).
    EqualRank(IpAddr),
    /// The peer's base is more than three times ours, or ours more than three times its (item 85).
    BaseMismatch(IpAddr, u8),
    /// Adverts for our vhid fail authentication; told at most once a minute (item 115).
    BadAuth(IpAddr),
    /// Our own advertisement came back; told at most once a minute.
    Loop,
    /// A VRRP router uses our number as its VRID: both claim the virtual MAC (item 109).
    Vrrp,
    /// The peer signs its adverts in another mode of authentication.
    BadMode(IpAddr),
    /// Adverts of this peer that were heard before came again; its highest counter so far is this; 0 when none is
    /// remembered.
    Replay(IpAddr, u64),
    /// Adverts of this peer are authentic and new, but it does not answer.
    Unproven(IpAddr),
    /// Without strict authentication: an advert of this peer came again.
    Repeated(IpAddr),
    /// Without strict authentication: an advert of this peer came again, and says something else.
    Rewritten(IpAddr),
    /// The peer advertises as a master while this node is one that serves, and ranks lower.
    SecondMaster(IpAddr),
    /// The master of the group is heard by others of it, and not here.
    SilentPath,
    /// The master did not answer, and was replaced; but it lived.
    FalseAlarm,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EqualRank(peer) => {
                write!(f, "{peer} has the same base and skew: give every node its own skew")
            }
            Self::BaseMismatch(peer, base) => {
                write!(f, "{peer} advertises with base {base}, more than a factor 3 away: set the same base")
            }
            Self::BadAuth(peer) => {
                write!(f, "same vhid, digest mismatch from {peer}: check password and VIP list on both nodes")
            }
            Self::Loop => {
                write!(f, "our own advertisement came back: look for a loop or a reflecting switch")
            }
            Self::Vrrp => {
                write!(f, "a VRRP router uses this number on the segment: give one of them another")
            }
            Self::BadMode(peer) => {
                write!(
                    f,
                    "{peer} signs its adverts in another mode: set the same auth on all nodes, or migrate"
                )
            }
            Self::Replay(peer, counter) => {
                write!(
                    f,
                    "old adverts of {peer} come again: somebody records and replays them, or a loop does; or {peer} \
                     lost its epoch: then write a number "
                )?;
                match epoch_of(*counter) {
                    0 => write!(f, "well above the last one into its file"),
                    epoch => write!(f, "above {epoch} into its file"),
                }
            }
            Self::Unproven(peer) => write!(
                f,
                "{peer} does not answer, though adverts of it are heard: they were recorded and are replayed, or \
                 it does not hear this node"
            ),
            Self::Repeated(peer) => write!(
                f,
                "an advert of {peer} came again: somebody replays it, or a loop does; auth = \"strict\" refuses it"
            ),
            Self::Rewritten(peer) => write!(
                f,
                "an advert of {peer} came again and says something else: somebody forges; auth = \"strict\" refuses it"
            ),
            Self::SilentPath => f.write_str(
                "a degraded path: the master is heard elsewhere in the group, and not here: look for what loses its adverts \
                 (a filter, IGMP snooping, a VLAN)",
            ),
            Self::FalseAlarm => f.write_str(
                "the master did not answer and was replaced, but it lives: answers take longer than `detect` allows, or are lost \
                 on all paths; raise it. For a minute only its adverts count",
            ),
            Self::SecondMaster(peer) => write!(
                f,
                "two masters: {peer} is one too, and ranks lower: does it hear this node's adverts?"
            ),
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllStrict(count) => {
                let s = if *count == 1 { "" } else { "es" };
                write!(f, "all peers heard, {count} address{s}, sign strictly: auth = \"strict\" can be set")
            }
            Self::NotStrict(peer) => {
                write!(f, "{peer} does not sign strictly: auth = \"strict\" has to wait")
            }
            Self::Behind => f.write_str(
                "the VIPs are others now; adverts are signed for those before until another node knows the new ones: \
                 reload it too",
            ),
            Self::Ahead => f.write_str("the other nodes know the VIPs: adverts are signed for them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_names_the_epoch_to_write_above_when_it_is_known() {
        let says = |counter| Warning::Replay([10, 0, 0, 2].into(), counter).to_string();
        assert!(says(7 << 32 | 5).ends_with("then write a number above 7 into its file"));
        assert!(says(0).ends_with("then write a number well above the last one into its file"));
    }
}
