//! The MAC of strict authentication: HMAC-SHA-256 over everything that an advert says and where it
//! comes from and goes to, cut to the 20 bytes that CARP has for a digest. `docs/authentication.md`
//! shows its message byte by byte.

use super::scratch::Hasher;
use super::{DIGEST_LEN, Key, Scratch, ascending, sha256};
use crate::wire::{Said, Sighting};
use core::fmt;
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What every message begins with, so that it is one of nothing else under the same key.
const LABEL: [u8; 16] = *b"carp strict 1\0\0\0";

/// A keyed MAC with everything absorbed that is the same for all adverts of a virtual host. It fits a
/// BPF map.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StrictKey {
    inner: [u32; 8],
    outer: [u32; 8],
    /// Bits in the inner message, what follows included; 0 in an absent entry.
    bits: u32,
    /// Makes the size a multiple of eight.
    reserved: u32,
}

impl StrictKey {
    /// None at all.
    pub const NONE: Self = Self { inner: [0; 8], outer: [0; 8], bits: 0, reserved: 0 };

    /// Of a virtual host with these VIPs, in whatever order.
    pub fn new(key: &Key, vips: &[IpAddr]) -> Self {
        const HASH: ([u32; 8], fn(&mut Scratch)) = (sha256::START, sha256::compress);
        let v4 =
            || vips.iter().filter_map(|vip| if let IpAddr::V4(ip) = vip { Some(ip.octets()) } else { None });
        let v6 =
            || vips.iter().filter_map(|vip| if let IpAddr::V6(ip) = vip { Some(ip.octets()) } else { None });
        let mut hash = Hasher::keyed(HASH, key, 0x36);
        hash.absorb(&LABEL);
        let mut counts = [0_u32; 2];
        ascending(v4, 1, |_| counts[0] += 1);
        ascending(v6, 1, |_| counts[1] += 1);
        counts.iter().for_each(|count| hash.absorb(&count.to_be_bytes()));
        ascending(v4, 1, |ip| hash.absorb(ip));
        ascending(v6, 1, |ip| hash.absorb(ip));
        hash.fill_block();
        // 32 bits hold the length of any list that a configuration can have.
        let said = u64::try_from(size_of::<Said>()).unwrap_or(0);
        let bits = u32::try_from((hash.bytes + said) * 8).unwrap_or(0);
        let outer = Hasher::keyed(HASH, key, 0x5c).scratch.state;
        Self { inner: hash.scratch.state, outer, bits, reserved: 0 }
    }

    /// The MAC to send.
    pub fn mac(&self, said: &Said) -> [u8; DIGEST_LEN] {
        let mut scratch = Scratch::new();
        self.mac_in(&mut scratch, said);
        scratch.digest()
    }

    /// Whether this advert is signed with it, in constant time.
    pub fn verify(&self, seen: &Sighting) -> bool {
        self.verify_in(&mut Scratch::new(), seen)
    }

    /// As [`StrictKey::verify`].
    #[inline(always)]
    pub fn verify_in(&self, scratch: &mut Scratch, seen: &Sighting) -> bool {
        self.mac_in(scratch, &seen.said);
        scratch.is_digest(&seen.mac)
    }

    /// What is left of the message is one block with its padding. Leaves the MAC in the scratch's state.
    #[inline(always)]
    fn mac_in(&self, scratch: &mut Scratch, said: &Said) {
        let bytes = said.as_bytes();
        let mut i = 0;
        while i < SAID / 4 {
            let byte = |at: usize| bytes[4 * i + at];
            scratch.words[i] = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
            i += 1;
        }
        scratch.words[SAID / 4] = u32::from_be_bytes([bytes[SAID - 2], bytes[SAID - 1], 0x80, 0]);
        scratch.words[14] = 0;
        scratch.words[15] = self.bits;
        scratch.state = self.inner;
        sha256::compress(scratch);
        scratch.wrap(8);
        scratch.state = self.outer;
        sha256::compress(scratch);
    }
}

const SAID: usize = size_of::<Said>();
const _: () = assert!(SAID / 4 == 13 && SAID % 4 == 2, "one block holds it, and that is how it ends");

impl fmt::Debug for StrictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StrictKey(…)")
    }
}
