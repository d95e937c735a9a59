use super::*;
use proptest::prelude::*;

const HELLO_1: Hello<'_> = Hello {
    oldest: 1,
    newest: 3,
    features: 5,
    epoch: 7,
    clock: Version(9),
    term: Version(8),
    serving: true,
    name: "gw-ä",
};

fn all_kinds() -> Vec<Vec<u8>> {
    let root = Root { applied: 3, sum: u64::MAX, count: 500_000 };
    vec![
        HELLO_1.encode(),
        begin_batch(1),
        ack(2),
        bulk_begin(3),
        bulk_end(4),
        digest(&root),
        sums(&root, [(0, 1), (7, 2), (4095, u64::MAX)].into_iter()),
        want([0, 17, 4095].into_iter()),
        keep_alive(true, Version(5)),
        full(),
    ]
}

#[test]
fn what_is_said_is_heard() {
    let frames = all_kinds();
    let heard: Vec<Message<'_>> =
        frames.iter().map(|frame| Message::decode(frame).unwrap().expect("of a known kind")).collect();
    let root = Root { applied: 3, sum: u64::MAX, count: 500_000 };
    assert!(matches!(heard[0], Message::Hello(hello) if hello == HELLO_1));
    assert!(matches!(heard[1], Message::Batch { number: 1, records } if records.count() == 0));
    assert!(matches!(heard[2], Message::Ack(2)));
    assert!(matches!(heard[3], Message::BulkBegin { estimate: 3 }));
    assert!(matches!(heard[4], Message::BulkEnd { count: 4 }));
    assert!(matches!(heard[5], Message::Digest(said) if said == root));
    let Message::Sums { stand, sums } = heard[6] else { panic!("{:?}", heard[6]) };
    assert_eq!((stand, sums.iter().collect()), (root, vec![(0, 1), (7, 2), (4095, u64::MAX)]));
    let Message::Want(wanted) = heard[7] else { panic!("{:?}", heard[7]) };
    assert_eq!(wanted.iter().collect::<Vec<_>>(), [0, 17, 4095]);
    assert!(matches!(heard[8], Message::KeepAlive { serving: true, clock: Version(5) }));
    assert!(matches!(heard[9], Message::Full));
}

#[test]
fn a_message_cut_short_is_an_error_and_one_with_more_behind_it_is_heard() {
    for frame in all_kinds() {
        for end in 0..frame.len() {
            assert!(Message::decode(&frame[..end]).is_err(), "{frame:?} to {end}");
        }
        // A batch has no end of its own: what follows are records.
        if frame[0] != BATCH {
            let longer = [frame.as_slice(), &[1, 2, 3]].concat();
            assert!(Message::decode(&longer).unwrap().is_some(), "{longer:?}");
        }
    }
}

#[test]
fn an_unknown_kind_is_skipped() {
    for kind in [0, 11, 255] {
        assert!(Message::decode(&[kind, 1, 2, 3]).unwrap().is_none(), "{kind}");
    }
}

#[test]
fn all_buckets_fit_into_one_message() {
    let root = Root { applied: 0, sum: 0, count: 0 };
    let all = sums(&root, (0..4096).map(|bucket| (bucket, u64::MAX)));
    assert!(all.len() <= MAX_MESSAGE, "{}", all.len());
    let Ok(Some(Message::Sums { sums, .. })) = Message::decode(&all) else { panic!("it is one") };
    assert_eq!(sums.iter().count(), BUCKETS);
}

#[test]
fn a_bucket_that_is_none_or_comes_twice_is_refused() {
    for buckets in [&[4096][..], &[3, 3], &[4, 3], &[65_535]] {
        let frame = want(buckets.iter().copied());
        assert_eq!(Message::decode(&frame).err(), Some(Malformed::Range), "{buckets:?}");
    }
}

#[test]
fn a_name_is_cut_between_letters_and_a_longer_one_is_refused() {
    let long = "ä".repeat(60);
    let frame = Hello { name: &long, ..HELLO_1 }.encode();
    let Ok(Some(Message::Hello(heard))) = Message::decode(&frame) else { panic!("it is one") };
    assert_eq!(heard.name, "ä".repeat(32));
    let mut frame = Hello { name: "x", ..HELLO_1 }.encode();
    frame.pop();
    *frame.last_mut().unwrap() = 65;
    frame.extend([b'x'; 65]);
    assert_eq!(Message::decode(&frame).err(), Some(Malformed::Range));
    *frame.last_mut().unwrap() = 0xff;
    assert_eq!(Message::decode(&frame).err(), Some(Malformed::Name));
}

#[test]
fn the_newest_version_that_both_speak_is_spoken() {
    let common = |oldest, newest| Hello { oldest, newest, ..HELLO_1 }.common_version();
    assert_eq!(common(1, 1), Some(1));
    assert_eq!(common(0, 1), Some(1));
    assert_eq!(common(1, 9), Some(1));
    assert_eq!(common(2, 9), None);
    assert_eq!(common(0, 0), None);
    let backward = Hello { oldest: 3, newest: 1, ..HELLO_1 }.encode();
    assert_eq!(Message::decode(&backward).err(), Some(Malformed::Range));
}

proptest! {
    #[test]
    fn any_bytes_are_heard_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..12) {
        let frame = [&[kind][..], &bytes].concat();
        for frame in [&frame, &bytes] {
            match Message::decode(frame) {
                Ok(Some(Message::Batch { records, .. })) => drop(records.count()),
                Ok(Some(Message::Sums { sums, .. })) => prop_assert!(sums.iter().count() <= BUCKETS),
                Ok(Some(Message::Want(wanted))) => prop_assert!(wanted.iter().count() <= BUCKETS),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
