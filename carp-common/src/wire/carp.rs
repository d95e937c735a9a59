//! The CARPv2 header, 36 bytes (`carp-protocol` section 1.1).

use super::{Bytes, Refusal, Sighting, sum};
use crate::id::Vhid;
use crate::pace::Pace;
use zerocopy::byteorder::network_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a CARP header; nothing follows it.
pub const LEN: usize = 36;
/// Version 2, type 1.
pub const VERSION_TYPE: u8 = 0x21;
/// "7 words of authentication data": always sent, never looked at.
pub const AUTH_LEN: u8 = 7;

/// The same of an advert whose digest is the strict MAC. No other implementation looks at it, and so
/// sees a wrong digest.
pub const STRICT_AUTH_LEN: u8 = 0x80 | AUTH_LEN;

/// The header as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Carp {
    /// Version in the high nibble, type in the low one. Nobody checks the type, nor do we (item 46).
    pub version_type: u8,
    /// Virtual host id.
    pub vhid: u8,
    /// Skew of the sender, 1/256 s, its demotion folded in.
    pub skew: u8,
    /// Always 7; ignored on receipt.
    pub auth_len: u8,
    /// OpenBSD's demote counter; zero or ignored elsewhere.
    pub demote: u8,
    /// Base of the sender, seconds.
    pub base: u8,
    /// Over these 36 bytes, no pseudo-header in either family.
    pub checksum: U16,
    /// Opaque to the digest: hashed as its eight bytes.
    pub counter: U64,
    /// HMAC-SHA1, or what an authentication mode puts there.
    pub digest: [u8; 20],
}

/// An advertisement, once its header is known to be well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Which virtual host.
    pub vhid: Vhid,
    /// What the sender competes with: its effective base and skew.
    pub pace: Pace,
    /// Byte 4: the sender's demotion, clamped to 255; 0 from FreeBSD and ucarp.
    pub demote: u8,
    /// Counter, high word first on the wire.
    pub counter: u64,
    /// The digest over key, vhid, VIPs and counter. See [`crate::auth`].
    pub digest: [u8; 20],
}

impl Advert {
    /// The header to send: version 2, type 1, length 7, checksum filled in.
    pub fn emit(&self) -> Carp {
        let mut header = Carp {
            version_type: VERSION_TYPE,
            vhid: self.vhid.get(),
            skew: self.pace.skew,
            auth_len: AUTH_LEN,
            demote: self.demote,
            base: self.pace.base,
            checksum: U16::ZERO,
            counter: U64::new(self.counter),
            digest: self.digest,
        };
        header.sum_up();
        header
    }

    /// Reads what follows the IP header. Bytes after the 36th are tolerated and not summed
    /// (item 44); type, authentication length and byte 4 are not judged.
    ///
    /// # Errors
    /// `Vrrp` for VRRPv3 and for VRRPv2 that is shorter than 36 bytes, `BadLen`, `BadVersion`,
    /// `BadSum`; `BadVhid` for vhid 0.
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let header = Carp::find(payload, 0, payload.len())?;
        Ok(Self {
            vhid: Vhid::new(header.vhid).ok_or(Refusal::BadVhid)?,
            pace: Pace { base: header.base, skew: header.skew },
            demote: header.demote,
            counter: header.counter.get(),
            digest: header.digest,
        })
    }

    /// What was seen, by type; `None` for vhid 0.
    pub fn of(seen: &Sighting) -> Option<Self> {
        let Sighting { said, digest, .. } = seen;
        Some(Self {
            vhid: Vhid::new(said.vhid())?,
            pace: said.pace(),
            demote: said.demote(),
            counter: said.counter(),
            digest: *digest,
        })
    }
}

impl Carp {
    /// The well-formed header in the `len` bytes that begin at `at`.
    ///
    /// # Errors
    /// Those of [`Advert::parse`].
    #[inline(always)]
    pub fn find(bytes: &(impl Bytes + ?Sized), at: usize, len: usize) -> Result<&Self, Refusal> {
        let header = if len < LEN { None } else { bytes.load::<Self>(at) };
        let intact = header.is_some_and(|header| sum::intact(header.as_bytes()));
        match Start::of(bytes, at, len) {
            Some(start) if start.is_vrrp3() && !intact => return Err(Refusal::Vrrp),
            Some(start) if start.is_vrrp2(len) && len < LEN => return Err(Refusal::Vrrp),
            Some(_) | None => {}
        }
        let header = header.ok_or(Refusal::BadLen)?;
        if header.version_type >> 4 != VERSION_TYPE >> 4 {
            return Err(Refusal::BadVersion);
        }
        if !intact {
            return Err(Refusal::BadSum);
        }
        if header.vhid == 0 { Err(Refusal::BadVhid) } else { Ok(header) }
    }

    /// The first six bytes.
    #[inline(always)]
    pub const fn head(&self) -> [u8; 6] {
        [self.version_type, self.vhid, self.skew, self.auth_len, self.demote, self.base]
    }

    /// Fills in the checksum.
    pub fn sum_up(&mut self) {
        self.checksum = U16::ZERO;
        self.checksum = U16::new(sum::checksum(self.as_bytes()));
    }
}

/// What tells CARP from VRRP: the first byte, and the fourth, which is 0 where there is none.
#[derive(Clone, Copy)]
pub(super) struct Start {
    version_type: u8,
    count: u8,
}

impl Start {
    /// Of the `len` bytes that begin at `at`; `None` of fewer than two. (Never one byte by itself: of
    /// "address < end" the BPF verifier learns nothing.)
    #[inline(always)]
    pub(super) fn of(bytes: &(impl Bytes + ?Sized), at: usize, len: usize) -> Option<Self> {
        if len < 4 {
            let [version_type, _] = if len < 2 { None } else { bytes.load::<[u8; 2]>(at) }?;
            return Some(Self { version_type: *version_type, count: 0 });
        }
        let [version_type, _, _, count] = bytes.load::<[u8; 4]>(at)?;
        Some(Self { version_type: *version_type, count: *count })
    }

    /// VRRPv3 sums a pseudo-header too: what is intact without one is CARP of another version.
    #[inline(always)]
    const fn is_vrrp3(self) -> bool {
        self.version_type == 0x31
    }

    /// VRRPv2 has 16 + 4·n bytes with n in byte 3. With five addresses it is exactly as long as
    /// CARP and fails only at the digest.
    #[inline(always)]
    pub(super) fn is_vrrp2(self, len: usize) -> bool {
        self.version_type == VERSION_TYPE && len == 16 + 4 * usize::from(self.count)
    }
}
