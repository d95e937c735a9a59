//! A peer of another version. `tests/data/sync-version-1.txt` is a session of version 1 as the node that serves said it, one
//! frame a line: milliseconds since the connection, and the frame in hexadecimal. A node of today has to make the same of
//! it for as long as it speaks version 1. `CARP_RECORD=1` writes the file anew.

use carp_common::time::{Instant, Span};
use carp_tests::replica::kernel::{Kernel, flow};
use carp_tests::replica::node::Machine;
use carp_tests::sim::rng::Rng;
use carp_user::proto::flow::{
    Expectation, Flow, Ids, Key, LABELS_LEN, ProtocolState, Sctp, SequenceShift, Tuple, status,
};
use carp_user::proto::sync::message::{self, Hello, Message, Root, VERSIONS};
use carp_user::proto::sync::session::{Event, LinkStatus, Notice};
use carp_user::proto::sync::table::News;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is said when.
type Said = Vec<(u64, Vec<u8>)>;

const BATCH: u8 = 2;
/// Milliseconds from one look at the two nodes to the next.
const STEP: u64 = 5;

#[test]
fn a_session_of_version_1_is_understood() {
    let said = recorded();
    holds(&replay(&said));
    assert!(said.iter().filter_map(|(_, frame)| frame.first()).any(|kind| *kind == BATCH));
}

#[test]
fn version_1_is_still_said_as_it_was() {
    if *VERSIONS.end() == 1 {
        assert!(recorded() == record(), "the bytes are others: that is another version of the protocol");
        // What that node had no reason to say.
        let stand = Root { applied: 1, sum: 2, count: 3 };
        let numbers = [1, 2, 3].map(u64::to_be_bytes).concat();
        let bucket = [[0, 1, 0, 5].as_slice(), &9_u64.to_be_bytes()].concat();
        assert_eq!(message::sums(&stand, [(5, 9)].into_iter()), [&[7], &numbers[..], &bucket].concat());
        assert_eq!(message::want([5, 4095].into_iter()), [8, 0, 2, 0, 5, 15, 255]);
        assert_eq!(message::full(), [10]);
    }
}

#[test]
fn what_a_newer_peer_says_besides_is_passed_over() {
    let mut said = Said::new();
    for (at, mut frame) in recorded() {
        if frame.first() == Some(&BATCH) {
            frame = with_unknown_records_and_fields(&frame);
        } else if let Ok(Some(Message::Hello(hello))) = Message::decode(&frame) {
            frame = Hello { newest: 9, features: u64::MAX, ..hello }.encode();
            frame.extend(b"more of a hello");
        } else {
            frame.extend(b"more");
        }
        said.push((at, frame));
        said.push((at, vec![200, 1, 2, 3]));
    }
    holds(&replay(&said));
}

#[test]
fn a_peer_of_no_common_version_is_told_of_and_hung_up_on() {
    for (oldest, newest, is_common) in [(0, 1, true), (1, 9, true), (2, 9, false), (0, 0, false)] {
        let said: Said = recorded()
            .into_iter()
            .map(|(at, frame)| match Message::decode(&frame) {
                Ok(Some(Message::Hello(hello))) => (at, Hello { oldest, newest, ..hello }.encode()),
                Ok(_) | Err(_) => (at, frame),
            })
            .collect();
        let node = replay(&said);
        assert_eq!(!node.hangs_up, is_common, "{oldest} to {newest}");
        if is_common {
            holds(&node);
        } else {
            assert_eq!(node.notices, [Notice::Version { peer: (oldest, newest) }]);
            assert!(node.kernel.flows.is_empty() && node.kernel.expected.is_empty());
            assert!(matches!(node.session.status(start()).link, LinkStatus::Alone));
        }
    }
}

/// Frames with bytes changed, cut short, twice, or not at all: none of it is a panic, more than it says, or without an end.
#[test]
fn a_session_with_anything_changed_ends_or_goes_on_and_holds_no_more_than_was_said() {
    let said = recorded();
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut forged = said.clone();
        for _ in 0..=rng.below(6) {
            let at = rng.index(forged.len());
            let (length, byte) = (forged[at].1.len(), u8::try_from(rng.below(256)).unwrap());
            match rng.below(5) {
                0 => forged[at].1.truncate(rng.index(length + 1)),
                1 => forged.insert(at, forged[at].clone()),
                2 => drop(forged.remove(at)),
                _ if length > 0 => forged[at].1[rng.index(length)] = byte,
                _ => forged[at].1.push(byte),
            }
        }
        let node = replay(&forged);
        let (held, told) = (node.kernel.flows.len(), node.notices.len());
        assert!(
            held <= 2 * last().len() && told <= forged.len(),
            "seed {seed}: {held} flows, {told} notices"
        );
    }
}

fn start() -> Instant {
    Instant::ZERO + Span::secs(1000)
}

/// Each record has one more field, and behind each comes a record of an unknown kind.
fn with_unknown_records_and_fields(frame: &[u8]) -> Vec<u8> {
    let (head, mut rest) = frame.split_at(9);
    let mut out = head.to_vec();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (record, behind) = after.split_at(u16::from_be_bytes(*length).into());
        let field = [250, 3, 1, 2, 3];
        out.extend(u16::try_from(record.len() + field.len()).expect("a record is short").to_be_bytes());
        out.extend(record);
        out.extend(field);
        out.extend([0, 13, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7]);
        rest = behind;
    }
    out
}

/// What a node without a flow makes of this.
fn replay(said: &Said) -> Machine {
    let mut node = Machine::start("b", 2, Kernel::new(100), start());
    node.tell(Event::Connected, start());
    let end = said.last().map_or(0, |(at, _)| at + STEP);
    let mut said = said.iter().peekable();
    for at in (0..=end).step_by(usize::try_from(STEP).expect("it is five")) {
        let now = start() + Span::millis(at);
        node.work(usize::MAX, now);
        while let Some((_, frame)) = said.next_if(|(due, _)| *due <= at && !node.hangs_up) {
            node.receive(frame, now);
        }
    }
    node
}

/// What the recorded session leaves on the node that heard it.
fn holds(node: &Machine) {
    let held: BTreeMap<Key, Flow> = node.kernel.flows.iter().map(|(key, (flow, _))| (*key, *flow)).collect();
    let expected: BTreeMap<Key, Flow> = last().into_iter().map(|flow| (flow.key, flow)).collect();
    assert_eq!(held, expected);
    assert_eq!(node.kernel.expected, [expectation(2)]);
    let status = node.session.status(start());
    assert!(
        matches!(&status.link, LinkStatus::Connected { peer, in_step: true } if peer == "a"),
        "{status:?}"
    );
    assert_eq!((status.differing, status.bulk, status.count.replicated), (Some(0), None, last().len()));
    assert!(node.notices.is_empty() && node.demoted.is_none() && !node.hangs_up, "{:?}", node.notices);
}

/// Of each kind that there is: in the table when the session begins.
fn first() -> Vec<Flow> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let ports = |source, destination| Ids::Ports { source, destination };
    let of = |source: &str, destination: &str, protocol, ids| {
        let (source, destination) = (address(source), address(destination));
        let tuple = Tuple { source, destination, protocol, ids };
        Flow { status: status::CONFIRMED, timeout: 30, ..Flow::untranslated(tuple).expect("it is answered") }
    };
    let echo = Ids::Icmp { kind: 8, code: 0, id: 77 };
    let sctp = Sctp { state: 4, tags: [1, 0xffff_ffff] };
    let shift = SequenceShift { position: 9, before: -3, after: 5 };
    let mut zoned = of("10.0.0.2", "192.0.2.1", 17, ports(53, 53));
    (zoned.key.zone, zoned.reply_zone) = (7, 7);
    let mut announced = of("192.0.2.1", "10.0.0.2", 6, ports(20, 2000));
    announced.master = Some(flow(2, 2000, 3).key.original);
    vec![
        flow(1, 1024, 3),
        flow(2, 2000, 3),
        flow(3, 1025, 1),
        of("fd00::2", "2001:db8::1", 17, ports(4000, 443)),
        of("10.0.0.2", "192.0.2.1", 1, echo),
        of("10.0.0.2", "192.0.2.1", 89, Ids::None),
        Flow { state: ProtocolState::Sctp(sctp), ..of("10.0.0.3", "192.0.2.9", 132, ports(1, 2)) },
        Flow { mark: 7, labels: Some([3; LABELS_LEN]), ..of("10.0.0.4", "192.0.2.9", 17, ports(1, 2)) },
        Flow {
            helper: Some(named("ftp")),
            sequence: [Some(shift), None],
            ..of("10.0.0.5", "192.0.2.9", 6, ports(1, 21))
        },
        zoned,
        announced,
    ]
}

/// What of it is left, and how, at the end.
fn last() -> Vec<Flow> {
    let mut flows = first();
    flows.remove(0);
    flows[1] = flow(3, 1025, 3);
    flows.push(flow(4, 1030, 3));
    flows
}

fn named<const LEN: usize>(name: &str) -> [u8; LEN] {
    std::array::from_fn(|at| name.as_bytes().get(at).copied().unwrap_or(0))
}

fn expectation(number: u16) -> Expectation {
    let master = flow(2, 2000, 3).key;
    let turned =
        Tuple { source: master.original.destination, destination: master.original.source, ..master.original };
    let ids = |source, destination| Ids::Ports { source, destination };
    Expectation {
        master,
        tuple: Tuple { ids: ids(0, number), ..turned },
        mask: Tuple { ids: ids(0, u16::MAX), ..turned },
        timeout: 300,
        flags: 0,
        class: 0,
        helper: named("ftp"),
        function: Some(named("nat-follow-master")),
        nat: Some((turned, 1)),
    }
}

/// What a node that serves says to one that has nothing to say.
fn record() -> Said {
    let mut kernel = Kernel::new(1000);
    first().into_iter().for_each(|flow| kernel.packet(flow));
    let mut a = Machine::start("a", 1, kernel, start());
    let mut b = Machine::start("b", 2, Kernel::new(1000), start());
    a.serve(true, start());
    let mut said = Said::new();
    for step in 0..1200 {
        let at = STEP * step;
        let now = start() + Span::millis(at);
        match step {
            0 => [&mut a, &mut b].into_iter().for_each(|machine| machine.tell(Event::Connected, now)),
            400 => {
                a.kernel.packet(flow(4, 1030, 2));
                a.kernel.packet(flow(3, 1025, 3));
                a.kernel.end(flow(1, 0, 0).key);
            }
            500 => a.kernel.packet(flow(4, 1030, 3)),
            600 => {
                for number in [1, 2] {
                    a.tell(Event::Local(News::Expected(&expectation(number))), now);
                }
                a.tell(Event::Drained, now);
            }
            700 => {
                let Expectation { master, tuple, .. } = expectation(1);
                a.tell(Event::Local(News::Cancelled(&Key { zone: master.zone, original: tuple })), now);
                a.tell(Event::Drained, now);
            }
            _ => {}
        }
        [&mut a, &mut b].into_iter().for_each(|machine| machine.work(usize::MAX, now));
        for frame in std::mem::take(&mut a.out) {
            b.receive(&frame, now);
            said.push((at, frame));
        }
        std::mem::take(&mut b.out).iter().for_each(|frame| a.receive(frame, now));
    }
    said
}

fn recorded() -> Said {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/sync-version-1.txt");
    if std::env::var_os("CARP_RECORD").is_some() {
        let line = |(at, frame): &(u64, Vec<u8>)| {
            let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{at} {digits}\n")
        };
        std::fs::write(&file, record().iter().map(line).collect::<String>()).expect("the file is written");
    }
    let text = std::fs::read_to_string(&file).expect("the file is there");
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two digits");
    let line = |line: &str| {
        let (at, frame) = line.split_once(' ').expect("a time and a frame");
        (at.parse().expect("milliseconds"), frame.as_bytes().chunks(2).map(byte).collect())
    };
    text.lines().map(line).collect()
}
