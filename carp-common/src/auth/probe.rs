//! The tag of probes: SipHash-2-4 (Aumasson and Bernstein 2012), short, and cheap enough to be made for each of
//! thousands of probes a second by XDP. Its key is the virtual host's password, hashed once.

use super::{Key, StrictKey};
use crate::id::Vhid;
use crate::wire::Said;
use crate::wire::probe::ASK;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A key of 128 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProbeKey([u64; 2]);

impl ProbeKey {
    /// Nobody's.
    pub const NONE: Self = Self([0; 2]);

    /// Of a virtual host with this password: the first half of the strict MAC of an advert that cannot be, whose version and
    /// type are a probe's.
    pub fn new(key: &Key, vhid: Vhid) -> Self {
        let said = Said { head: [ASK, vhid.get(), 0, 0, 0, 0], ..Said::default() };
        let [words @ .., _, _, _, _] = StrictKey::new(key, &[]).mac(&said);
        Self::of(words)
    }

    /// These bytes.
    pub const fn of(bytes: [u8; 16]) -> Self {
        let [high, low]: [[u8; 8]; 2] = zerocopy::transmute!(bytes);
        Self([u64::from_be_bytes(high), u64::from_be_bytes(low)])
    }

    /// The tag of these words, big-endian on the wire, of which SipHash sees the bytes.
    #[inline(always)]
    pub const fn tag<const WORDS: usize>(self, said: [u64; WORDS]) -> u64 {
        let Self([k0, k1]) = self;
        let mut state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let mut at = 0;
        while at < WORDS {
            state = absorb(state, said[at].swap_bytes());
            at += 1;
        }
        state = absorb(state, (WORDS as u64 * 8) << 56);
        state[2] ^= 0xff;
        let [a, b, c, d] = round(round(round(round(state))));
        a ^ b ^ c ^ d
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(…)")
    }
}

#[inline(always)]
const fn absorb([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round(round([a, b, c, d ^ word]));
    [a ^ word, b, c, d]
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's key and message bytes, 0, 1, 2 and so on; its appendix gives the tag of 15 bytes, the reference
    /// implementation's list those of whole words.
    #[test]
    fn it_is_siphash_2_4() {
        let key = ProbeKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        assert_eq!(key.tag([]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.tag([0x0001_0203_0405_0607]), 0x93f5_f579_9a93_2462);
        assert_eq!(key.tag([0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f]), 0x3f2a_cc7f_57c2_9bdb);
    }

    #[test]
    fn the_key_depends_on_the_password_and_on_the_vhid() {
        let key = |password: &[u8], vhid| {
            ProbeKey::new(&Key::from_password(password).expect("short"), Vhid::new(vhid).expect("a vhid"))
        };
        let keys = [key(b"one", 1), key(b"two", 1), key(b"one", 2), ProbeKey::NONE];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key));
        }
        assert_eq!(keys[0], key(b"one", 1));
        assert_eq!(format!("{:?}", keys[0]), "ProbeKey(…)");
    }
}
