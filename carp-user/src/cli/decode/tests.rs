//! The decoder against the captured and derived frames, and against broken input.

use super::*;
use serde_json::Value;

fn file(name: &str) -> Value {
    let path = format!("{}/../tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    serde_json::from_str(&text).expect("they are JSON")
}

fn vectors() -> Vec<Value> {
    file("carp-vectors.json")["vectors"].as_array().expect("a list").clone()
}

fn vector(id: &str) -> Value {
    vectors().into_iter().find(|vector| vector["id"] == id).expect("the vector is there")
}

fn strict_vectors() -> Vec<Value> {
    file("strict-vectors.json").as_array().expect("a list").clone()
}

fn strict_vector(id: &str) -> Value {
    strict_vectors().into_iter().find(|vector| vector["id"] == id).expect("the vector is there")
}

fn vips(vector: &Value) -> Vec<IpAddr> {
    let list = vector["vips"].as_array().expect("VIPs").iter();
    list.map(|vip| vip.as_str().and_then(|vip| vip.parse().ok()).expect("an address")).collect()
}

/// As a user of the strict vector's password believes.
fn decoded_strict(vector: &Value, packet: Packet) -> Decoded {
    let key = Key::from_password(vector["password"].as_str().expect("a word").as_bytes()).expect("short");
    decoded(packet, &key, &vips(vector), None)
}

fn frame(vector: &Value) -> Packet {
    packet_in_hex(vector["frame_hex"].as_str().expect("digits")).expect("a frame")
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Key, VIPs and hashed link-layer address of an advertisement vector.
fn belief(vector: &Value) -> (Key, Vec<IpAddr>, Option<Mac>) {
    let params = &vector["params"];
    let key = Key(bytes(params["key_hex"].as_str().expect("digits")).try_into().expect("20 bytes"));
    let list = params["vips"].as_array().or(params["vips_interface_order"].as_array()).expect("VIPs");
    let vips =
        list.iter().map(|vip| vip.as_str().and_then(|vip| vip.parse().ok()).expect("an address")).collect();
    (key, vips, params["hashed_lladdr"].as_str().map(|text| mac(text).expect("a MAC")))
}

fn decoded(packet: Packet, key: &Key, vips: &[IpAddr], lladdr: Option<Mac>) -> Decoded {
    decode(&[packet], Some(&Belief { key, vips, lladdr })).remove(0)
}

/// As user of the injected frames believe.
fn injected(id: &str) -> Decoded {
    let key = Key::from_password(b"forge-me").expect("short");
    decoded(frame(&vector(id)), &key, &["10.99.0.33".parse().expect("an address")], None)
}

#[test]
fn every_advertisement_vector_decodes_to_its_own_fields_and_verifies() {
    let mut count = 0;
    for vector in vectors().iter().filter(|vector| vector["kind"] == "advertisement") {
        let (key, vips, lladdr) = belief(vector);
        let one = decoded(frame(vector), &key, &vips, lladdr);
        let json: Value = serde_json::from_str(&json(&[one])).expect("valid JSON");
        let json = &json[0];
        let id = &vector["id"];
        assert_eq!((&json["verified"], &json["refused"]), (&Value::Bool(true), &Value::Null), "{id}");
        for part in ["ethernet", "ip", "carp"].into_iter().filter(|part| !vector[part].is_null()) {
            assert_eq!(json[part], vector[part], "{id} {part}");
        }
        let matching: Vec<&str> =
            json["hmac_variants_that_match"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        match (vector["hmac_variants_that_match"].as_array(), vector["hmac_variant"].as_str()) {
            // The captures were not compared with the 2005 variant; with one VIP it matches too.
            (Some(listed), _) => {
                assert!(listed.iter().all(|name| matching.contains(&name.as_str().unwrap())), "{id}");
                assert_eq!(matching.len(), listed.len() + 1, "{id}");
            }
            (None, Some(name)) => assert!(matching.contains(&name), "{id}: {matching:?}"),
            (None, None) => panic!("{id} names no variant"),
        }
        count += 1;
    }
    assert_eq!(count, 42);
}

#[test]
fn an_ip_packet_and_a_bare_header_are_recognised() {
    for id in ["cap-c1_solo-10_99_2_1-0", "fb-v6-only"] {
        let vector = vector(id);
        let (key, vips, _) = belief(&vector);
        let frame = frame(&vector);
        let header = if id.starts_with("cap") { 20 } else { 40 };
        for (skip, shape, note) in
            [(14, Shape::Ip, "an IP packet"), (14 + header, Shape::Carp, "a bare CARP header")]
        {
            let digits: String = frame.bytes[skip..].iter().map(|byte| format!("{byte:02X}:")).collect();
            let packet = packet_in_hex(&digits).expect("digits");
            assert_eq!(packet.shape, shape);
            let one = decoded(packet, &key, &vips, None);
            assert!(
                one.verified && one.ethernet.is_none() && one.ip.is_some() == (shape == Shape::Ip),
                "{one:?}"
            );
            assert!(one.notes[0].contains(note), "{one:?}");
        }
    }
}

#[test]
fn every_refusal_is_named() {
    let cases = [
        ("inj-01", None),
        ("inj-04", Some("badttl")),
        ("inj-05", Some("badver")),
        ("inj-06", None),
        ("inj-10", Some("badsum")),
        ("inj-11", Some("badsum")),
        ("inj-14", None),
        ("inj-17", Some("badauth")),
        ("inj-24", Some("badlen")),
        ("inj-26", None),
    ];
    for (id, reason) in cases {
        let one = injected(id);
        assert_eq!(one.refused.as_ref().map(|refused| refused.reason), reason, "{id}: {one:?}");
        assert_eq!(one.verified, reason.is_none(), "{id}");
    }
}

#[test]
fn without_a_password_only_the_structure_is_judged() {
    let one = decode(&[frame(&vector("inj-17"))], None).remove(0);
    assert!(one.refused.is_none() && !one.verified && one.variants.is_empty(), "{one:?}");
    assert_eq!(one.notes, ["not verified: give --password-file and --vip"]);
}

#[test]
fn a_tagged_frame_is_decoded_and_said_to_belong_to_its_vlan() {
    let one = injected("inj-20");
    assert_eq!(one.ethernet.as_ref().and_then(|ethernet| ethernet.vlan), Some(5));
    assert!(one.verified && one.notes[0].contains("VLAN 5"), "{one:?}");
}

#[test]
fn a_near_miss_is_explained() {
    let vector = vector("cap-c1_solo-10_99_2_1-0");
    let (key, vips, _) = belief(&vector);
    let more = [vips[0], "10.99.0.253".parse().expect("an address")];
    let one = decoded(frame(&vector), &key, &more, None);
    assert_eq!(one.notes, ["it verifies without 10.99.0.253: the sender does not have this address"]);
    let most = [vips[0], more[1], "fd00::1".parse().expect("an address")];
    let one = decoded(frame(&vector), &key, &most, None);
    assert_eq!(one.notes, ["it verifies with 10.99.0.254 alone: the sender has no other address"]);
    let nokey = self::vector("fb-nokey");
    let one = decoded(frame(&nokey), &key, &belief(&nokey).1, None);
    assert_eq!(one.notes, ["it verifies without a password: the sender has none"]);
    let dragonfly = self::vector("df-v6-unsorted");
    let (key, vips, _) = belief(&dragonfly);
    let one = decoded(frame(&dragonfly), &key, &vips, None);
    assert_eq!(one.notes, ["carpd accepts it only with digest = \"dragonfly\" in the configuration"]);
}

#[test]
fn a_strict_or_migrating_advert_says_its_mode_counter_and_echo_and_whether_the_mac_is_right() {
    for vector in strict_vectors() {
        let one = decoded_strict(&vector, frame(&vector));
        let json: Value = serde_json::from_str(&json(&[one])).expect("valid JSON");
        let (json, id) = (&json[0], &vector["id"]);
        assert_eq!((&json["verified"], &json["refused"]), (&Value::Bool(true), &Value::Null), "{id}: {json}");
        assert_eq!(json["auth"], vector["mode"], "{id}");
        let (strict, counter) = (&json["strict"], vector["counter"].as_u64().expect("a number"));
        assert_eq!((&strict["mac"], &strict["mac_ok"]), (&vector["mac_hex"], &Value::Bool(true)), "{id}");
        assert_eq!(strict["epoch"], counter >> 32, "{id}");
        assert_eq!(strict["count"], counter & 0xffff_ffff, "{id}");
        assert_eq!(json["carp"]["counter"], format!("{counter:016x}"), "{id}");
        assert_eq!(strict["echo"], format!("{:016x}", vector["echo"].as_u64().expect("a number")), "{id}");
        let has_digest = json["hmac_variants_that_match"].as_array().is_some_and(|list| !list.is_empty());
        assert_eq!(has_digest, vector["mode"] == "migrate", "{id}");
    }
}

#[test]
fn a_wrong_strict_mac_is_refused_beside_a_right_digest_noted_and_explained() {
    let change = |id: &str, at: usize| {
        let vector = strict_vector(id);
        let mut packet = frame(&vector);
        packet.bytes[at] ^= 1;
        (vector, packet)
    };
    // The sender's address, of which the IPv6 header has no sum.
    let (vector, packet) = change("strict-v6-many", 14 + 8 + 15);
    let one = decoded_strict(&vector, packet);
    assert_eq!(one.refused.as_ref().map(|refused| refused.reason), Some("badauth"), "{one:?}");
    assert!(
        !one.verified && one.strict.as_ref().is_some_and(|strict| strict.mac_ok == Some(false)),
        "{one:?}"
    );
    let (vector, packet) = change("migrate-answer-v6", 14 + 8 + 15);
    let one = decoded_strict(&vector, packet);
    assert!(!one.verified && one.refused.is_none(), "{one:?}");
    assert!(one.notes.iter().any(|note| note.contains("with auth = \"strict\" only")), "{one:?}");
    let vector = strict_vector("strict-v4");
    let key = Key::from_password(b"secret").expect("short");
    let more = [vips(&vector), vec!["10.77.1.9".parse().expect("an address")]].concat();
    let one = decoded(frame(&vector), &key, &more, None);
    assert_eq!(one.notes, ["it verifies without 10.77.1.9: the sender does not have this address"]);
}

#[test]
fn of_a_bare_strict_header_the_mode_is_told_and_the_ip_packet_asked_for() {
    for id in ["strict-v4", "migrate-v4"] {
        let vector = strict_vector(id);
        let digits: String = frame(&vector).bytes[34..].iter().map(|byte| format!("{byte:02x}")).collect();
        let one = decoded_strict(&vector, packet_in_hex(&digits).expect("digits"));
        assert_eq!(one.auth, vector["mode"].as_str(), "{id}");
        assert!(!one.verified && one.refused.is_none(), "{one:?}");
        assert!(one.notes.iter().any(|note| note.ends_with("give the IP packet")), "{one:?}");
    }
}

#[test]
fn an_interval_that_is_a_word_between_nodes_is_told_as_such() {
    let greeting = "2101fe07ffff181e609586b0f23c88ffc40fe0871ab94e7daaab8bdbdc0e39e35a8fb17f";
    let one = decode(&[packet_in_hex(greeting).expect("a frame")], None).remove(0);
    assert!(one.notes.iter().any(|note| note.contains("a greeting of carpd")), "{:?}", one.notes);
}

#[test]
fn what_is_no_carp_says_what_it_is_instead() {
    let arp = "ffffffffffff020000000001080600010800060400010200000000010a000001000000000000\
               0a0000010000000000000000000000000000000000000000";
    let one = decode(&[packet_in_hex(arp).expect("digits")], None).remove(0);
    assert!(one.refused.is_none() && one.carp.is_none() && one.notes[0].starts_with("not CARP"), "{one:?}");
    let vrrp = "2101640101010000c0a80001000000000000000000";
    let one = decode(&[packet_in_hex(&vrrp[..40]).expect("digits")], None).remove(0);
    assert_eq!(one.refused.expect("VRRP").reason, "vrrp");
    for (digits, wrong) in [("", "no digits"), ("abc", "odd"), ("0xzz", "'z' is no hexadecimal")] {
        assert!(packet_in_hex(digits).expect_err("wrong").contains(wrong), "{digits}");
    }
}

#[test]
fn the_text_reads_from_the_outside_in_and_ends_with_a_verdict() {
    let vector = vector("cap-c1_solo-10_99_2_1-0");
    let (key, vips, _) = belief(&vector);
    let expected = "\
packet 1: CARP advertisement, vhid 1, every 1.000 s
  ethernet  00:00:5e:00:00:01 -> 01:00:5e:00:00:12, type 0x0800, 70 bytes
  ip        10.99.2.1 -> 224.0.0.18, tos 0x10, id 34064, DF, ttl 255, 56 bytes, header checksum ok
  carp      version 2, type 1, vhid 1, advskew 0, authlen 7
            demote 0, advbase 1, checksum 0xfe44 ok
            counter 4d27796f9a158d4c, digest 0de5ff7688327e65ec1916575075f24323e875b2
  signed    carp
  digest    dragonfly yes, fb05 yes, freebsd yes, netbsd yes, openbsd-nov6ll yes, openbsd-orig yes, ucarp yes
  verdict   accepted: it verifies
";
    assert_eq!(text(&[decoded(frame(&vector), &key, &vips, None)], 0), expected);
    let strict = strict_vector("strict-answer");
    let strict = text(&[decoded_strict(&strict, frame(&strict))], 0);
    let signed = "signed    strict, MAC 82ec18fa63a47a33ebfdc74600c1b106003f96a7 ok, epoch 3, count 2, echo 0000000500000006\n";
    assert!(strict.contains(signed), "{strict}");
    let wrong = text(&[injected("inj-17")], 3);
    assert!(wrong.contains("  verdict   refused (badauth): no digest variant matches"), "{wrong}");
    assert!(wrong.ends_with("1 of protocol 112, 3 others ignored\n"), "{wrong}");
}

/// A little-endian microsecond pcap.
fn pcap(link: u32, frames: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, link] {
        file.extend(u32::to_le_bytes(word));
    }
    for frame in frames {
        let len = u32::try_from(frame.len()).expect("short");
        for word in [0, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*frame);
    }
    file
}

/// A big-endian pcapng with one interface.
fn pcapng(link: u16, frames: &[&[u8]]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let len = u32::try_from(padded + 12).expect("short").to_be_bytes();
        [&kind.to_be_bytes()[..], &len, body, &vec![0; padded - body.len()], &len].concat()
    };
    let mut file = block(0x0a0d_0d0a, &bytes("1a2b3c4d00010000ffffffffffffffff"));
    file.extend(block(1, &[&link.to_be_bytes()[..], &[0; 6]].concat()));
    for frame in frames {
        let len = u32::try_from(frame.len()).expect("short").to_be_bytes();
        file.extend(block(6, &[&[0; 12][..], &len, &len, frame].concat()));
    }
    file
}

#[test]
fn captures_of_every_supported_kind_give_the_same_packets() {
    let advert = frame(&vector("cap-c1_solo-10_99_2_1-0")).bytes;
    let other = bytes("ffffffffffff0200000000010806000108000604");
    for file in [pcap(1, &[&other, &advert]), pcapng(1, &[&other, &advert])] {
        let (packets, others) = packets_in_capture(&file).expect("a capture");
        assert_eq!((packets.len(), others), (1, 1));
        assert_eq!((packets[0].number, packets[0].shape, &packets[0].bytes), (2, Shape::Ethernet, &advert));
    }
    let cooked = [&[0; 14][..], &[8, 0], &advert[14..]].concat();
    let cooked2 = [&[8, 0][..], &[0; 18], &advert[14..]].concat();
    for file in [pcap(101, &[&advert[14..]]), pcap(113, &[&cooked]), pcapng(276, &[&cooked2])] {
        let (packets, others) = packets_in_capture(&file).expect("a capture");
        assert_eq!((packets.len(), others, packets[0].shape), (1, 0, Shape::Ip));
        assert_eq!(packets[0].bytes, advert[14..]);
    }
}

#[test]
fn a_capture_that_ends_in_the_middle_gives_what_came_before() {
    let advert = frame(&vector("cap-c1_solo-10_99_2_1-0")).bytes;
    for file in [pcap(1, &[&advert, &advert]), pcapng(1, &[&advert, &advert])] {
        for end in 0..file.len() {
            if let Ok((packets, _)) = packets_in_capture(&file[..end]) {
                assert!(packets.len() < 2, "cut at {end}");
            }
        }
        assert_eq!(packets_in_capture(&file[..file.len() - 10]).expect("the first is whole").0.len(), 1);
    }
    assert!(packets_in_capture(b"hello").expect_err("text").contains("neither pcap nor pcapng"));
    assert!(packets_in_capture(&pcap(105, &[&advert])).expect_err("Wi-Fi").contains("link type 105"));
}

#[test]
fn a_capture_that_kept_too_little_is_told_apart_from_a_short_advertisement() {
    let advert = frame(&vector("cap-c1_solo-10_99_2_1-0")).bytes;
    let mut file = pcap(1, &[&advert[..60]]);
    file[24 + 12] = 70;
    let (packets, _) = packets_in_capture(&file).expect("a capture");
    let one = decode(&packets, None).remove(0);
    assert_eq!(one.refused.as_ref().expect("cut").reason, "badlen");
    assert!(one.notes[0].contains("kept 60 of its 70 bytes: capture with -s 0"), "{one:?}");
}
