use super::*;
use crate::proto::flow::{FUNCTION_LEN, HELPER_LEN, Ids, LABELS_LEN, Tuple};
use proptest::option::of;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

fn ids() -> impl Strategy<Value = Ids> {
    prop_oneof![
        Just(Ids::None),
        any::<(u16, u16)>().prop_map(|(source, destination)| Ids::Ports { source, destination }),
        any::<(u8, u8, u16)>().prop_map(|(kind, code, id)| Ids::Icmp { kind, code, id }),
    ]
}

fn tuple() -> BoxedStrategy<Tuple> {
    (any::<[IpAddr; 2]>(), any::<u8>(), ids())
        .prop_map(|([source, destination], protocol, ids)| Tuple { source, destination, protocol, ids })
        .boxed()
}

fn key() -> impl Strategy<Value = Key> {
    (any::<u16>(), tuple()).prop_map(|(zone, original)| Key { zone, original })
}

fn state() -> impl Strategy<Value = ProtocolState> {
    prop_oneof![
        Just(ProtocolState::None),
        any::<(u8, [u8; 2], [u8; 2])>().prop_map(|(state, scale, flags)| ProtocolState::Tcp(Tcp {
            state,
            scale,
            flags
        })),
        any::<(u8, [u32; 2])>().prop_map(|(state, tags)| ProtocolState::Sctp(Sctp { state, tags })),
    ]
}

fn shift() -> impl Strategy<Value = SequenceShift> {
    any::<(u32, i32, i32)>().prop_map(|(position, before, after)| SequenceShift { position, before, after })
}

/// Any flow at all, those included that no kernel has.
pub(in crate::proto::sync) fn flow() -> BoxedStrategy<Flow> {
    let extras = (
        of(any::<[u8; LABELS_LEN]>()),
        of(any::<[u8; HELPER_LEN]>()),
        [of(shift()), of(shift())],
        of(tuple()),
    );
    let replies = (of(tuple()), of(any::<u16>()));
    (key(), replies, any::<[u32; 3]>(), state(), extras)
        .prop_map(
            |(key, (reply, zone), [status, timeout, mark], state, (labels, helper, sequence, master))| Flow {
                key,
                reply_zone: zone.unwrap_or(key.zone),
                reply: reply.or_else(|| key.original.inverse()).unwrap_or(key.original),
                status,
                timeout,
                mark,
                state,
                labels,
                helper,
                sequence,
                master,
            },
        )
        .boxed()
}

fn expectation() -> BoxedStrategy<Expectation> {
    let names = (any::<[u8; HELPER_LEN]>(), of(any::<[u8; FUNCTION_LEN]>()));
    (key(), [tuple(), tuple()], any::<[u32; 3]>(), names, of((tuple(), any::<u32>())))
        .prop_map(|(master, [tuple, mask], [timeout, flags, class], (helper, function), nat)| Expectation {
            master,
            tuple,
            mask,
            timeout,
            flags,
            class,
            helper,
            function,
            nat,
        })
        .boxed()
}

fn record() -> impl Strategy<Value = Record> {
    let item = prop_oneof![
        flow().prop_map(Item::Flow),
        key().prop_map(Item::Gone),
        expectation().prop_map(Item::Expectation),
        key().prop_map(Item::Cancelled),
        any::<u64>().prop_map(Item::Lost),
    ];
    (any::<u64>(), any::<bool>(), any::<u8>(), item).prop_map(|(version, ours, incarnation, item)| Record {
        version: Version(version),
        author: if ours { Author::Sender } else { Author::Receiver },
        incarnation,
        item,
    })
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    records.iter().for_each(|record| record.encode(&mut out));
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in proptest::collection::vec(record(), 0..5)) {
        let out = encoded(&records);
        let read: Result<Vec<Record>, _> = Records::new(&out).collect();
        prop_assert_eq!(read.unwrap(), records);
    }

    #[test]
    fn a_record_cut_short_is_an_error(record in record(), cut in any::<prop::sample::Index>()) {
        let mut out = encoded(&[record]);
        // Bytes of the length, too.
        out.truncate(cut.index(out.len() - 1) + 1);
        prop_assert!(Records::new(&out).all(|read| read.is_err()));
        prop_assert_eq!(Records::new(&out).count(), 1);
        // With a length that fits what is left it is an error or, cut between two fields, another record.
        if let Some(left) = out.len().checked_sub(2) {
            out[..2].copy_from_slice(&u16::try_from(left).unwrap().to_be_bytes());
            prop_assert!(Records::new(&out).all(|read| read != Ok(record)));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut records = Records::new(&bytes);
        let read = records.by_ref().filter(Result::is_ok).count();
        prop_assert!(read <= bytes.len());
    }

    #[test]
    fn one_changed_byte_is_no_panic(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut out = encoded(&[record]);
        let at = at.index(out.len());
        out[at] = byte;
        let _ = Records::new(&out).count();
    }
}

fn tcp(translated: bool) -> Flow {
    let ports = |source, destination| Ids::Ports { source, destination };
    let original = Tuple {
        source: Ipv4Addr::new(10, 0, 0, 2).into(),
        destination: Ipv4Addr::new(192, 0, 2, 1).into(),
        protocol: 6,
        ids: ports(40_000, 443),
    };
    let plain = Flow {
        status: 0x18e,
        timeout: 432_000,
        state: ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [3, 3] }),
        ..Flow::untranslated(original).unwrap()
    };
    let outside = Ipv4Addr::new(198, 51, 100, 1).into();
    let reply = Tuple { destination: outside, ids: ports(443, 1024), ..plain.reply };
    if translated { Flow { reply, ..plain } } else { plain }
}

fn of_item(item: Item) -> Record {
    Record { version: Version(u64::MAX), author: Author::Sender, incarnation: 3, item }
}

#[test]
fn a_translated_tcp_flow_over_ipv4_takes_at_most_64_bytes_and_its_end_half_as_many() {
    let length = |item| encoded(&[of_item(item)]).len();
    let flow = tcp(true);
    assert_eq!(length(Item::Flow(flow)), 56);
    assert_eq!(length(Item::Flow(Flow { mark: 7, ..flow })), 62);
    assert_eq!(length(Item::Flow(tcp(false))), 42);
    assert_eq!(length(Item::Gone(flow.key)), 27);
}

#[test]
fn what_a_newer_peer_adds_is_skipped() {
    let known = [of_item(Item::Flow(tcp(true))), of_item(Item::Gone(tcp(true).key))];
    let mut out = encoded(&known[..1]);
    // A field that this version does not know, at the end of the first record,
    out.extend([200, 3, 1, 2, 3]);
    let length = u16::try_from(out.len() - 2).unwrap();
    out[..2].copy_from_slice(&length.to_be_bytes());
    // and a whole record of an unknown kind behind it.
    out.extend([0, 12, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42]);
    out.extend(encoded(&known[1..]));
    let mut records = Records::new(&out);
    let read: Vec<Record> = records.by_ref().map(Result::unwrap).collect();
    assert_eq!(read, known);
    assert_eq!(records.unknown(), 1);
}

#[test]
fn what_makes_no_sense_is_named() {
    let whole = encoded(&[of_item(Item::Flow(tcp(true)))]);
    let with_field = |field: &[u8]| {
        let mut out = [&whole, field].concat();
        let length = u16::try_from(out.len() - 2).unwrap();
        out[..2].copy_from_slice(&length.to_be_bytes());
        Records::new(&out).next().unwrap()
    };
    assert_eq!(with_field(&[fields::TCP, 5, 0, 0, 0, 0, 0]), Err(Malformed::Twice));
    assert_eq!(with_field(&[fields::MARK, 3, 0, 0, 0]), Err(Malformed::Length));
    assert_eq!(with_field(&[fields::MARK, 5, 0, 0, 0, 0, 0]), Err(Malformed::Length));
    assert_eq!(
        with_field(&[fields::HELPER, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7]),
        Err(Malformed::Length)
    );
    assert_eq!(with_field(&[fields::MARK, 4, 0, 0]), Err(Malformed::Short));
    assert_eq!(with_field(&[fields::MARK]), Err(Malformed::Short));
    for shape in [12, 16, 128] {
        let mut out = whole.clone();
        out[13] = shape;
        assert_eq!(Records::new(&out).next(), Some(Err(Malformed::Shape)), "{shape}");
    }
    assert_eq!(Records::new(&[0, 200, 1]).next(), Some(Err(Malformed::Short)));
}

#[test]
fn version_and_author_are_written_into_what_is_encoded() {
    let record = of_item(Item::Flow(tcp(true)));
    let mut out = encoded(&[record]);
    stamp(&mut out, Version(42), Author::Receiver);
    let stamped = Record { version: Version(42), author: Author::Receiver, ..record };
    assert_eq!(Records::new(&out).next(), Some(Ok(stamped)));
}
