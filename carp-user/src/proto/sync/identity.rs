//! Numbers of flows: what both nodes know a flow by without its addresses. They come from SipHash-1-3 (Aumasson, Bernstein 2012) under a
//! key that only the two nodes have, so that nobody can choose flows that fall together.

use super::wire::{ids, shape};
use crate::proto::flow::{Flow, Key, ProtocolState, Tuple};
use std::fmt;
use std::net::IpAddr;

/// Makes the numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    key: [u64; 2],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// What the first word of each kind of number begins with; a shape has no bits there.
const OF_FLOW: u64 = 0;
const OF_EXPECTATION: u64 = 1;
const OF_REPLY: u64 = 2;
const OF_CONTENT: u64 = 3;

impl Identity {
    /// With the key that both nodes have.
    pub const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// Of a flow. Among 10^6 flows two with the same number are there once in 37 million tables; then one of them
    /// is not replicated.
    pub fn flow(&self, key: &Key) -> u64 {
        self.tuple(OF_FLOW, key.zone, &key.original).finish()
    }

    /// Of an expectation, by its zone and its tuple.
    pub fn expectation(&self, key: &Key) -> u64 {
        self.tuple(OF_EXPECTATION, key.zone, &key.original).finish()
    }

    /// Of the reply's direction; with the flow's number it is what digests are made of.
    pub fn reply(&self, reply: &Tuple) -> u32 {
        high(self.tuple(OF_REPLY, 0, reply).finish())
    }

    /// Of all that can change in a flow besides its timeout, its reply and the state of TCP.
    pub fn content(&self, flow: &Flow) -> u16 {
        let mut sip = Sip::new(self.key);
        sip.word(OF_CONTENT << 56 | u64::from(flow.status));
        sip.word(u64::from(flow.mark));
        match flow.state {
            ProtocolState::None => {}
            ProtocolState::Tcp(tcp) => {
                let ([a, b], [c, d]) = (tcp.scale, tcp.flags);
                sip.word(u32::from_be_bytes([a, b, c, d]).into());
            }
            ProtocolState::Sctp(sctp) => {
                sip.word(sctp.state.into());
                sctp.tags.iter().for_each(|tag| sip.word((*tag).into()));
            }
        }
        for bytes in [flow.labels, flow.helper].into_iter().flatten() {
            sip.wide(u128::from_be_bytes(bytes));
        }
        for shift in flow.sequence {
            sip.word(u64::from(shift.is_some()));
            let shift = shift.unwrap_or_default();
            sip.word(shift.position.into());
            sip.word(u64::from(shift.before.cast_unsigned()) << 32 | u64::from(shift.after.cast_unsigned()));
        }
        let [a, b, ..] = sip.finish().to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    fn tuple(&self, domain: u64, zone: u16, tuple: &Tuple) -> Sip {
        let mut sip = Sip::new(self.key);
        let ids = u32::from_be_bytes(ids(tuple.ids).unwrap_or_default());
        let what = u64::from(zone) << 40 | u64::from(tuple.protocol) << 32 | u64::from(ids);
        sip.word(domain << 60 | u64::from(shape(tuple)) << 56 | what);
        match (tuple.source, tuple.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sip.word(u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()));
            }
            (source, destination) => {
                for address in [source, destination] {
                    match address {
                        IpAddr::V4(address) => sip.wide(address.to_bits().into()),
                        IpAddr::V6(address) => sip.wide(address.to_bits()),
                    }
                }
            }
        }
        sip
    }
}

/// What a flow adds to the digest of its bucket. Sums of these do not depend on the order.
pub(super) fn contribution(flow: u64, reply: u32) -> u64 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection, so that no flow adds what another one does.
    let mixed = flow.wrapping_add(u64::from(reply).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// SipHash-1-3 over whole words.
struct Sip {
    state: [u64; 4],
    words: u8,
}

impl Sip {
    const fn new([k0, k1]: [u64; 2]) -> Self {
        let state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { state, words: 0 }
    }

    const fn word(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.state[0] ^= word;
        self.words = self.words.wrapping_add(8);
    }

    const fn wide(&mut self, wide: u128) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = wide.to_be_bytes();
        self.word(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        self.word(u64::from_be_bytes([i, j, k, l, m, n, o, p]));
    }

    const fn finish(mut self) -> u64 {
        let length = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, self.words]);
        self.word(length);
        self.state[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        let [v0, v1, v2, v3] = self.state;
        v0 ^ v1 ^ v2 ^ v3
    }

    const fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.state;
        v0 = v0.wrapping_add(v1);
        v2 = v2.wrapping_add(v3);
        v1 = v1.rotate_left(13) ^ v0;
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v1);
        v0 = v0.wrapping_add(v3);
        v1 = v1.rotate_left(17) ^ v2;
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.rotate_left(32);
        self.state = [v0, v1, v2, v3];
    }
}

fn high(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::flow;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_siphash_1_3() {
        // Key 00..0f, message 00..07, from a second implementation that was held to the paper's vector of 2-4.
        let key = |start: u8| u64::from_le_bytes(std::array::from_fn(|at| start + u8::try_from(at).unwrap()));
        let mut sip = Sip::new([key(0), key(8)]);
        sip.word(key(0));
        assert_eq!(sip.finish(), VECTOR);
    }

    const VECTOR: u64 = 0x3690_9511_8d29_9a8e;

    proptest! {
        #[test]
        fn every_part_of_a_key_counts(a in flow(), b in flow(), zone in any::<u16>()) {
            let identity = Identity::new([1, 2]);
            let number = identity.flow(&a.key);
            prop_assert_eq!(a.key == b.key, number == identity.flow(&b.key));
            let other = Key { zone, ..a.key };
            prop_assert_eq!(other == a.key, number == identity.flow(&other));
            let turned = Tuple { source: a.key.original.destination, destination: a.key.original.source, ..a.key.original };
            let turned = Key { original: turned, ..a.key };
            prop_assert_eq!(turned == a.key, number == identity.flow(&turned));
            prop_assert_ne!(number, identity.expectation(&a.key));
            prop_assert_ne!(number, Identity::new([1, 3]).flow(&a.key));
        }
    }
}
