//! What a node that migrates to strict authentication puts behind the 36 bytes of an advert: the strict
//! MAC beside CARP's digest. Other implementations do not look at it: OpenBSD and ucarp tolerate bytes
//! behind the header, and FreeBSD, which sums all of them, finds a right checksum (`carp-protocol`
//! sections 1.2, 1.6).

use super::sum;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// 32 bytes, of which the checksum over all of them is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Annex {
    magic: [u8; 2],
    checksum: U16,
    /// See [`Said::echo`](super::Said::echo).
    pub echo: [u8; 8],
    /// The strict MAC.
    pub mac: [u8; 20],
}

const MAGIC: [u8; 2] = *b"cs";

impl Annex {
    /// With this echo and MAC.
    pub fn new(echo: u64, mac: [u8; 20]) -> Self {
        let mut annex = Self { magic: MAGIC, checksum: U16::ZERO, echo: echo.to_be_bytes(), mac };
        annex.checksum = U16::new(sum::checksum(annex.as_bytes()));
        annex
    }

    /// Whether it is one, and intact: other bytes may stand behind an advert.
    #[inline(always)]
    pub fn is_one(&self) -> bool {
        self.magic == MAGIC && sum::intact(self.as_bytes())
    }
}
