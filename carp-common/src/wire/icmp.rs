//! Echo in ICMP and ICMPv6 (RFC 792; RFC 4443 sections 4.1 and 4.2).

use super::sum;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ICMP types of an echo request and its answer.
pub const ECHO: Kinds = Kinds { request: 8, answer: 0 };
/// ICMPv6 types of an echo request and its answer.
pub const ECHO_V6: Kinds = Kinds { request: 128, answer: 129 };
/// Shortest message: head, identifier, sequence number.
pub const SHORTEST: usize = 8;

/// The types of a question and of its answer.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    request: u8,
    answer: u8,
}

impl Kinds {
    /// Type of a request.
    pub const fn request(self) -> u8 {
        self.request
    }
}

/// What every message begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Head {
    /// Type.
    pub kind: u8,
    /// 0 in an echo.
    pub code: u8,
    /// Over the message, in ICMPv6 with the pseudo-header, which an answer does not change.
    pub checksum: U16,
}

impl Head {
    /// Whether it begins an answer.
    pub fn is_answer(self, kinds: Kinds) -> bool {
        (self.kind, self.code) == (kinds.answer, 0)
    }

    /// What the answer to this request begins with, its checksum as right as the request's; `None`
    /// when it is none.
    #[inline(always)]
    pub fn answer(self, kinds: Kinds) -> Option<Self> {
        if (self.kind, self.code) != (kinds.request, 0) {
            return None;
        }
        let checksum = sum::update(self.checksum.get(), [kinds.request, 0], [kinds.answer, 0]);
        Some(Self { kind: kinds.answer, code: 0, checksum: U16::new(checksum) })
    }
}
