//! Properties over random values: what is emitted is what is parsed, and the digest is the one
//! that an independent implementation computes.

use crate::oracle;
use carp_common::auth::{Key, Midstate, Variant};
use carp_common::id::{Mac, Vhid};
use carp_common::pace::Pace;
use carp_common::wire::{Advert, Envelope, Heard};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn vhids() -> impl Strategy<Value = Vhid> {
    (1..=255_u8).prop_map(|vhid| Vhid::new(vhid).expect("not zero"))
}

fn adverts() -> impl Strategy<Value = Advert> {
    let fields = (vhids(), any::<(u8, u8, u8, u64, [u8; 20])>());
    fields.prop_map(|(vhid, (base, skew, demote, counter, digest))| Advert {
        vhid,
        pace: Pace { base, skew },
        demote,
        counter,
        digest,
    })
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let scoped = (
        prop_oneof![Just(0xfe80_u16), Just(0xfebf), Just(0xff02), Just(0xff11), Just(0xff05)],
        any::<[u16; 7]>(),
    );
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from_octets(ip).into()),
        // Few values, so that duplicates and the excluded ends happen.
        prop_oneof![Just([0; 4]), Just([255; 4]), Just([10, 0, 0, 1]), Just([9, 255, 255, 255])]
            .prop_map(|ip| Ipv4Addr::from_octets(ip).into()),
        any::<[u8; 16]>().prop_map(|ip| Ipv6Addr::from_octets(ip).into()),
        prop_oneof![Just([0; 16]), Just([255; 16])].prop_map(|ip| Ipv6Addr::from_octets(ip).into()),
        scoped.prop_map(|(first, [b, c, d, e, f, g, h])| Ipv6Addr::new(first, b, c, d, e, f, g, h).into()),
    ]
}

pub fn lists() -> impl Strategy<Value = Vec<IpAddr>> {
    proptest::collection::vec(addresses(), 1..24)
}

fn variants() -> impl Strategy<Value = Variant> {
    proptest::sample::select(Variant::ALL.to_vec())
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let v4 = any::<([u8; 4], [u8; 4], u8)>().prop_map(|(source, destination, tos)| Envelope::V4 {
        source: Ipv4Addr::from_octets(source),
        destination: Ipv4Addr::from_octets(destination),
        tos,
    });
    let v6 = any::<([u8; 16], [u8; 16], u8)>().prop_map(|(source, destination, class)| Envelope::V6 {
        source: Ipv6Addr::from_octets(source),
        destination: Ipv6Addr::from_octets(destination),
        class,
    });
    prop_oneof![v4, v6]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_emitted_is_what_is_parsed(advert in adverts(), envelope in envelopes()) {
        let frame = envelope.seal(&advert);
        let heard = Heard::parse(frame.bytes()).expect("protocol 112").expect("well-formed");
        let (source, destination) = match envelope {
            Envelope::V4 { source, destination, .. } => (source.into(), destination.into()),
            Envelope::V6 { source, destination, .. } => (source.into(), destination.into()),
        };
        prop_assert_eq!((heard.source, heard.destination, heard.advert), (source, destination, advert));
    }

    #[test]
    fn etherparse_agrees_with_every_envelope(advert in adverts(), envelope in envelopes()) {
        let frame = envelope.seal(&advert);
        let packet = etherparse::SlicedPacket::from_ethernet(frame.bytes()).expect("etherparse reads it");
        let payload = packet.ip_payload().expect("an IP packet");
        prop_assert_eq!((payload.ip_number.0, payload.payload.len(), payload.fragmented), (112, 36, false));
        if let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net {
            let header = ip.header();
            prop_assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        }
    }

    #[test]
    fn the_midstate_digest_is_that_of_an_independent_implementation(
        key: [u8; 20],
        variant in variants(),
        lladdr: Option<[u8; 6]>,
        vhid in vhids(),
        vips in lists(),
        counter: u64,
    ) {
        let (key, lladdr) = (Key(key), lladdr.map(Mac));
        let state = Midstate::new(&key, variant, lladdr, vhid, &vips);
        let message = oracle::message(variant, lladdr, vhid.get(), &vips, counter);
        let digest = oracle::hmac_sha1(&key, &message);
        prop_assert_eq!(state.digest(counter.to_be_bytes()), digest, "{:?} {:?}", variant, vips);
        prop_assert!(state.verify(counter.to_be_bytes(), &digest));
    }

    #[test]
    fn one_flipped_bit_of_counter_or_digest_does_not_verify(
        key: [u8; 20],
        vhid in vhids(),
        vips in lists(),
        counter: u64,
        bit in 0..224_usize,
    ) {
        let state = Midstate::new(&Key(key), Variant::Freebsd, None, vhid, &vips);
        let mut counter = counter.to_be_bytes();
        let mut digest = state.digest(counter);
        let byte = if bit < 64 { &mut counter[bit / 8] } else { &mut digest[(bit - 64) / 8] };
        *byte ^= 1 << (bit % 8);
        prop_assert!(!state.verify(counter, &digest));
    }
}

#[test]
fn messages_of_every_length_around_the_block_borders_agree() {
    let key = Key(*b"0123456789abcdefghij");
    let vhid = Vhid::new(200).expect("not zero");
    for count in 1..=40_u8 {
        let mixed = |i: u8| -> IpAddr {
            if i.is_multiple_of(3) {
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, i.into()).into()
            } else {
                Ipv4Addr::new(10, 1, 1, i).into()
            }
        };
        let vips: Vec<IpAddr> = (1..=count).map(mixed).collect();
        for lladdr in [None, Some(Mac([2, 0, 0, 0, 0, count]))] {
            let state = Midstate::new(&key, Variant::OpenbsdOrig, lladdr, vhid, &vips);
            let message = oracle::message(Variant::OpenbsdOrig, lladdr, 200, &vips, 77);
            assert_eq!(state.digest(77_u64.to_be_bytes()), oracle::hmac_sha1(&key, &message), "{count} VIPs");
        }
    }
}
