//! Probes: what a backup asks the datapath of its master, and what that answers without its daemon (`docs/detection.md`).
//! Packets of IP protocol 112 to one node, with TTL 255, that no implementation of CARP or VRRP takes for an advert: their
//! version is 15. A question and its answer are of one length.

use super::eth::Ethernet;
use super::ip::{Ipv4, Ipv6};
use crate::auth::ProbeKey;
use crate::id::Vhid;
use crate::time::{Instant, Span};
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where one begins in a frame of IPv4 without options.
pub const AT_V4: usize = size_of::<Ethernet>() + size_of::<Ipv4>();
/// Where one begins in a frame of IPv6 without extension headers.
pub const AT_V6: usize = size_of::<Ethernet>() + size_of::<Ipv6>();

/// First byte of a question: version 15, kind 1.
pub const ASK: u8 = 0xf1;
/// First byte of an answer: version 15, kind 2.
pub const ANSWER: u8 = 0xf2;

/// First byte of a question that comes over the sync link, about a group: version 15, kind 3.
pub const ASK_GROUP: u8 = 0xf3;
/// First byte of the answer to one: version 15, kind 4.
pub const ANSWER_GROUP: u8 = 0xf4;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A virtual host of the link.
    Host(Vhid),
    /// Any virtual host of the group of this number.
    Group(u8),
}

/// A probe, or its answer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Probe {
    /// [`ASK`], [`ANSWER`], [`ASK_GROUP`] or [`ANSWER_GROUP`].
    pub kind: u8,
    /// Which virtual host; or the number of the group.
    pub number: u8,
    /// Number of the path, the asker's.
    pub path: U16,
    /// In an answer: number of the start of the master's daemon.
    pub epoch: U32,
    /// Random, for as long as the asker asks this master.
    pub session: [u8; 8],
    /// When the question was sent, nanoseconds by the asker's clock.
    pub sent_at: U64,
    /// In an answer: nanoseconds that are left of the master's lease.
    pub remaining: U64,
    /// Over all that is before it, and both addresses.
    pub tag: [u8; 8],
}

const _: () = assert!(size_of::<Probe>() == 40);

/// Addresses as the tag covers them: source and destination, IPv4 mapped, as words in the order of the wire.
pub type Ends = [u64; 4];

/// Of IPv4.
#[inline(always)]
pub const fn ends_v4(source: [u8; 4], destination: [u8; 4]) -> Ends {
    [0, mapped(source), 0, mapped(destination)]
}

#[inline(always)]
const fn mapped(ip: [u8; 4]) -> u64 {
    0xffff_0000_0000 | u32::from_be_bytes(ip) as u64
}

/// Of IPv6.
#[inline(always)]
pub const fn ends_v6(source: [u8; 16], destination: [u8; 16]) -> Ends {
    let [a, b]: [[u8; 8]; 2] = zerocopy::transmute!(source);
    let [c, d]: [[u8; 8]; 2] = zerocopy::transmute!(destination);
    [u64::from_be_bytes(a), u64::from_be_bytes(b), u64::from_be_bytes(c), u64::from_be_bytes(d)]
}

impl Probe {
    /// A question, signed.
    pub fn ask(
        (subject, path): (Subject, u16),
        session: u64,
        now: Instant,
        ends: Ends,
        key: ProbeKey,
    ) -> Self {
        let (kind, number) = match subject {
            Subject::Host(vhid) => (ASK, vhid.get()),
            Subject::Group(number) => (ASK_GROUP, number),
        };
        let (path, sent_at) = (U16::new(path), U64::new(now.nanos()));
        let probe = Self { kind, number, path, session: session.to_ne_bytes(), sent_at, ..Self::default() };
        probe.signed(ends, key)
    }

    /// The answer to this question of a master that has so much left of its lease; `ends` are the answer's.
    #[inline(always)]
    #[must_use]
    pub fn answer(self, remaining: Span, epoch: u32, ends: Ends, key: ProbeKey) -> Self {
        let (remaining, epoch) = (U64::new(remaining.as_nanos()), U32::new(epoch));
        let kind = if self.kind == ASK { ANSWER } else { ANSWER_GROUP };
        Self { kind, remaining, epoch, ..self }.signed(ends, key)
    }

    /// Whether it is signed with this key.
    #[inline(always)]
    pub fn is_signed(&self, ends: Ends, key: ProbeKey) -> bool {
        self.signed(ends, key).tag == self.tag
    }

    /// The session, as a word.
    #[inline(always)]
    pub const fn session(&self) -> u64 {
        u64::from_ne_bytes(self.session)
    }

    #[inline(always)]
    fn signed(self, [a, b, c, d]: Ends, key: ProbeKey) -> Self {
        let head = u64::from(self.kind) << 56
            | u64::from(self.number) << 48
            | u64::from(self.path.get()) << 32
            | u64::from(self.epoch.get());
        let session = u64::from_be_bytes(self.session);
        let said = [head, session, self.sent_at.get(), self.remaining.get(), a, b, c, d];
        Self { tag: key.tag(said).to_be_bytes(), ..self }
    }
}
