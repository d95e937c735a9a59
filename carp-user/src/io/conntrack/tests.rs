//! What is written reads back, and bytes from anywhere harm nobody.

use super::build::{self, Unfit};
use super::{Change, Message, News, messages};
use crate::io::clock::now;
use crate::proto::flow::{
    Expectation, Flow, Ids, Key, ProtocolState, Sctp, SequenceShift, Tcp, Tuple, status,
};
use crate::proto::protocol::{ICMP, ICMPV6};
use proptest::prelude::*;
use std::net::IpAddr;

/// Names have a terminating zero.
fn name<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    (0..N).prop_flat_map(|len| {
        proptest::collection::vec(1u8..=255, len).prop_map(|bytes| {
            let mut name = [0; N];
            name[..bytes.len()].copy_from_slice(&bytes);
            name
        })
    })
}

fn addresses() -> impl Strategy<Value = [IpAddr; 4]> {
    prop_oneof![
        any::<[[u8; 4]; 4]>().prop_map(|four| four.map(IpAddr::from)),
        any::<[[u8; 16]; 4]>().prop_map(|four| four.map(IpAddr::from)),
    ]
}

/// Both directions, as a kernel could have them.
fn directions() -> impl Strategy<Value = (Tuple, Tuple)> {
    (addresses(), any::<(u16, u16, u16, u16, u8)>(), 0..3u8).prop_map(|(addresses, ids, kind)| {
        let [source, destination, other_source, other_destination] = addresses;
        let (a, b, c, d, code) = ids;
        let (protocol, there, back) = match kind {
            0 => (89, Ids::None, Ids::None),
            1 => (6, Ids::Ports { source: a, destination: b }, Ids::Ports { source: c, destination: d }),
            _ => {
                let (protocol, question, answer) =
                    if source.is_ipv4() { (ICMP, 8, 0) } else { (ICMPV6, 128, 129) };
                let there = Ids::Icmp { kind: question, code, id: a };
                (protocol, there, Ids::Icmp { kind: answer, code, id: b })
            }
        };
        let reply = Tuple { source: other_source, destination: other_destination, protocol, ids: back };
        (Tuple { source, destination, protocol, ids: there }, reply)
    })
}

fn state() -> impl Strategy<Value = ProtocolState> {
    let tcp = |(state, scale, flags)| ProtocolState::Tcp(Tcp { state, scale, flags });
    prop_oneof![
        Just(ProtocolState::None),
        any::<(u8, [u8; 2], [u8; 2])>().prop_map(tcp),
        any::<(u8, [u32; 2])>().prop_map(|(state, tags)| ProtocolState::Sctp(Sctp { state, tags })),
    ]
}

fn shift() -> impl Strategy<Value = Option<SequenceShift>> {
    proptest::option::of(any::<(u32, i32, i32)>().prop_map(|(position, before, after)| SequenceShift {
        position,
        before,
        after,
    }))
}

fn flow() -> impl Strategy<Value = Flow> {
    let zones = (any::<u16>(), 0..3u8).prop_map(|(zone, where_)| match where_ {
        0 => (zone, zone),
        1 => (zone, 0),
        _ => (0, zone),
    });
    let rest =
        (any::<(u32, u32, u32)>(), proptest::option::of(any::<[u8; 16]>()), proptest::option::of(name()));
    (directions(), zones, rest, state(), [shift(), shift()], proptest::option::of(directions())).prop_map(
        |((original, reply), (zone, reply_zone), rest, state, sequence, master)| {
            let ((status, timeout, mark), labels, helper) = rest;
            let master = master.map(|(tuple, _)| tuple);
            let key = Key { zone, original };
            Flow { key, reply, reply_zone, status, timeout, mark, state, labels, helper, sequence, master }
        },
    )
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unfit>) -> Option<Message> {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    messages(&bytes).next()
}

proptest! {
    #[test]
    fn a_flow_reads_back_as_it_was_written_but_for_what_the_kernel_makes_itself(flow in flow()) {
        let Some(Message { by: 0, news: News::Flow(Change::New, back) }) =
            written(|bytes| build::create(bytes, 7, &flow, false)) else { panic!("not understood") };
        let mut expected = flow.carried();
        expected.status = flow.status & status::TOLD | status::CONFIRMED;
        expected.reply = flow.key.original.inverse().unwrap();
        prop_assert_eq!(back, expected);
    }

    #[test]
    fn a_change_names_the_flow_and_nothing_that_the_kernel_would_refuse(flow in flow()) {
        let mut bytes = Vec::new();
        build::update(&mut bytes, 7, &flow, true).unwrap();
        let reply = crate::io::netlink::replies(&bytes).next().unwrap();
        let kinds: Vec<u16> = crate::io::netlink::attributes(&reply.body[4..]).map(|(kind, _)| kind).collect();
        use super::number::*;
        prop_assert!(kinds.contains(&CTA_TUPLE_ORIG));
        for refused in [CTA_NAT_SRC, CTA_NAT_DST, CTA_TUPLE_MASTER, CTA_HELP] {
            prop_assert!(!kinds.contains(&refused), "{}", refused);
        }
        // Without a direction the kernel would forget everything.
        bytes.clear();
        build::delete(&mut bytes, 7, &flow.key).unwrap();
        let reply = crate::io::netlink::replies(&bytes).next().unwrap();
        prop_assert!(crate::io::netlink::attributes(&reply.body[4..]).any(|(kind, _)| kind == CTA_TUPLE_ORIG));
    }

    #[test]
    fn an_expectation_reads_back_as_it_was_written(
        of in (directions(), any::<(u16, u32, u32, u32)>(), name(), proptest::option::of(name()), any::<Option<u32>>())
    ) {
        let ((tuple, mask), (zone, timeout, flags, class), helper, function, nat) = of;
        let nat = nat.map(|direction| (tuple, direction));
        let master = Key { zone, original: mask };
        let expectation = Expectation { master, tuple, mask, timeout, flags, class, helper, function, nat };
        let Some(Message { news: News::Expectation(Change::New, back), .. }) =
            written(|bytes| build::expect(bytes, 7, &expectation)) else { panic!("not understood") };
        prop_assert_eq!(back, expectation);
    }

    #[test]
    fn bytes_from_anywhere_and_changed_messages_neither_panic_nor_loop(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        flow in flow(),
        (at, value) in any::<(u16, u8)>(),
    ) {
        prop_assert!(messages(&noise).count() <= noise.len());
        let mut bytes = Vec::new();
        build::create(&mut bytes, 7, &flow, true).unwrap();
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
        prop_assert!(messages(&bytes).count() <= 1 + bytes.len() / 16);
        prop_assert!(messages(&bytes[..at]).count() <= 1);
    }
}

/// Printed and not judged: `cargo test --release -p carp-user --lib costs -- --nocapture`.
#[test]
fn what_a_message_costs() {
    const ROUNDS: u32 = if cfg!(debug_assertions) { 100 } else { 10_000 };
    let tcp = ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [3, 3] });
    let (mut flow, mut bytes) = (udp(), Vec::new());
    (flow.state, flow.mark, flow.key.original.protocol, flow.reply.protocol) = (tcp, 1, 6, 6);
    flow.reply.destination = [10, 0, 0, 9].into();
    let measure = |what: &str, mut work: Box<dyn FnMut()>| {
        // The best of some: others use the machine, too.
        let best = (0..30).map(|_| {
            let begun = now();
            (0..ROUNDS).for_each(|_| work());
            now().since(begun).as_nanos() / u64::from(ROUNDS)
        });
        println!("{what} {} ns", best.min().unwrap());
    };
    build::create(&mut bytes, 1, &flow, true).unwrap();
    println!("a message of {} bytes, a flow of {}", bytes.len(), size_of::<Flow>());
    let message = bytes.clone();
    let parse = move || {
        let first = messages(std::hint::black_box(&message)).next();
        assert!(std::hint::black_box(first).is_some());
    };
    measure("parse", Box::new(parse));
    measure(
        "build",
        Box::new(move || {
            bytes.clear();
            build::create(&mut bytes, 1, std::hint::black_box(&flow), true).unwrap();
        }),
    );
}

#[test]
fn what_no_kernel_can_hold_is_refused_and_nothing_is_written() {
    let good = udp();
    let v6 = IpAddr::from([1; 16]);
    type Spoil = fn(&mut Flow, IpAddr);
    let cases: [(Unfit, Spoil); 5] = [
        (Unfit::Families, |flow, v6| flow.reply.destination = v6),
        (Unfit::Families, |flow, v6| flow.key.original.destination = v6),
        (Unfit::Reply, |flow, _| flow.reply.protocol = 6),
        (Unfit::Reply, |flow, _| flow.reply.ids = Ids::None),
        (Unfit::Zones, |flow, _| (flow.key.zone, flow.reply_zone) = (1, 2)),
    ];
    let mut bytes = vec![1, 2, 3, 4];
    for (unfit, spoil) in cases {
        let mut flow = good;
        spoil(&mut flow, v6);
        assert_eq!(build::create(&mut bytes, 1, &flow, false), Err(unfit), "{flow:?}");
        assert_eq!(build::update(&mut bytes, 1, &flow, false), Err(unfit), "{flow:?}");
    }
    let mut flow = good;
    flow.key.original.ids = Ids::Icmp { kind: 3, code: 0, id: 0 };
    assert_eq!(build::create(&mut bytes, 1, &flow, false), Err(Unfit::Reply));
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(build::create(&mut bytes, 1, &good, false), Ok(()));
    assert!(bytes.len() > 4);
}

fn udp() -> Flow {
    let original = Tuple {
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        protocol: 17,
        ids: Ids::Ports { source: 1, destination: 2 },
    };
    Flow::untranslated(original).unwrap()
}
