//! Bytes on the wire: Ethernet, IP, CARP, ARP, neighbour discovery, echo. Parse and emit, header by
//! header, without allocation.
//!
//! Bytes become a type once, here; what is turned away is a [`Refusal`], and its variant is the
//! index of its counter.

pub mod advert;
pub mod annex;
pub mod arp;
pub mod bytes;
pub mod carp;
pub mod eth;
pub mod frame;
pub mod icmp;
pub mod ip;
pub mod ndp;
pub mod probe;
pub mod sighting;
pub mod sum;

pub use advert::{Envelope, Heard};
pub use bytes::{Bytes, Wire};
pub use carp::Advert;
pub use frame::Frame;
pub use sighting::{Said, Sighting};

/// Why an advertisement was turned away. The names follow `netstat -s -p carp` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// Shorter than its headers say, or less than 36 bytes of CARP (`badlen`, `hdrops`).
    BadLen = 0,
    /// TTL or hop limit is not 255: it came through a router (`badttl`).
    BadTtl = 1,
    /// Version is not 2 (`badver`).
    BadVersion = 2,
    /// The checksum over the 36 CARP bytes is wrong (`badsum`).
    BadSum = 3,
    /// The IPv4 header's own checksum is wrong; it is verified apart from CARP's (item 8).
    BadIpSum = 4,
    /// A fragment; never put together here (item 50).
    Fragment = 5,
    /// No virtual host with this vhid on this link, or none with VIPs of this family (`badvhid`).
    BadVhid = 6,
    /// No accepted digest variant matches: other password, other VIP list, or forged (`badauth`).
    BadAuth = 7,
    /// Our own advertisement came back to us (reflection by a switch, a bridge loop).
    Loop = 8,
    /// VRRP shares protocol 112, the group and the first byte: not ours to judge.
    Vrrp = 9,
    /// Addressed to one node, and that node is another one.
    NotForUs = 10,
    /// Signed in another mode of authentication than this node's.
    BadMode = 11,
    /// Strict mode: authentic, and not newer than what was heard of its sender before.
    Replay = 12,
    /// Strict mode: authentic, but its sender was silent and has not yet proved that it lives.
    Unproven = 13,
}

impl Refusal {
    /// Every refusal, in the order of the counters.
    pub const ALL: [Self; 14] = [
        Self::BadLen,
        Self::BadTtl,
        Self::BadVersion,
        Self::BadSum,
        Self::BadIpSum,
        Self::Fragment,
        Self::BadVhid,
        Self::BadAuth,
        Self::Loop,
        Self::Vrrp,
        Self::NotForUs,
        Self::BadMode,
        Self::Replay,
        Self::Unproven,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Index of the counter.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadLen => "badlen",
            Self::BadTtl => "badttl",
            Self::BadVersion => "badver",
            Self::BadSum => "badsum",
            Self::BadIpSum => "badipsum",
            Self::Fragment => "fragment",
            Self::BadVhid => "badvhid",
            Self::BadAuth => "badauth",
            Self::Loop => "loop",
            Self::Vrrp => "vrrp",
            Self::NotForUs => "notforus",
            Self::BadMode => "badmode",
            Self::Replay => "replay",
            Self::Unproven => "unproven",
        }
    }

    /// What it means and what to look at, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::BadLen => "too short for a CARP advertisement (36 bytes after the IP header)",
            Self::BadTtl => "TTL or hop limit is not 255: it was routed, or forged from afar",
            Self::BadVersion => "CARP version is not 2",
            Self::BadSum => "CARP checksum is wrong: damaged on the way",
            Self::BadIpSum => "IPv4 header checksum is wrong: damaged on the way",
            Self::Fragment => "an IP fragment: advertisements are never fragmented",
            Self::BadVhid => "no virtual host with this vhid and address family here",
            Self::BadAuth => "no digest variant matches: compare password and VIP list on both nodes",
            Self::Loop => "our own advertisement came back: look for a loop or a reflecting switch",
            Self::Vrrp => "a VRRP packet, not CARP; never use its number as a vhid on this segment",
            Self::NotForUs => "addressed to another node",
            Self::BadMode => "signed in another mode: set the same `auth` on all nodes, or migrate",
            Self::Replay => {
                "not newer than what was heard before: recorded and sent again, or its epoch was lost"
            }
            Self::Unproven => "its sender was silent and is asked for a sign of life first",
        }
    }
}
