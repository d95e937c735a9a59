//! Any bytes as a capture file, behind the start of one, as a frame, and as hexadecimal digits.
#![no_main]

use carp_common::auth::Key;
use carp_user::cli::decode::{Belief, Packet, Shape, decode, json, packet_in_hex, packets_in_capture, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut packets = [Shape::Ethernet, Shape::Ip, Shape::Carp]
        .map(|shape| Packet { number: 1, shape, bytes: bytes.to_vec(), wire_len: bytes.len() })
        .to_vec();
    for start in [&[][..], &PCAP, &PCAPNG] {
        if let Ok((captured, _)) = packets_in_capture(&[start, bytes].concat()) {
            packets.extend(captured);
        }
    }
    packets.extend(str::from_utf8(bytes).ok().and_then(|text| packet_in_hex(text).ok()));
    let vips = ["10.0.0.1", "fd00::1"].map(|vip| vip.parse().expect("an address"));
    let belief = Belief { key: &Key([7; 20]), vips: &vips, lladdr: None };
    for belief in [None, Some(&belief)] {
        let decoded = decode(&packets, belief);
        assert_eq!(decoded.len(), packets.len());
        assert!(decoded.iter().all(|one| !one.verified), "nobody guesses a key");
        assert!(!text(&decoded, 0).is_empty());
        assert!(json(&decoded).len() > 3, "it serialises");
    }
});

/// The header of a little-endian capture of Ethernet.
const PCAP: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];

/// A little-endian section with one interface, Ethernet.
const PCAPNG: [u8; 48] = [
    0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255,
    255, 255, 28, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
];
