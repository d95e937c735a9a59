//! Any bytes as a message of the sync session: it is read to its end, in bounds.
#![no_main]

use carp_user::proto::sync::message::{BUCKETS, Hello, MAX_NAME, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(message)) = Message::decode(bytes) else { return };
    match message {
        Message::Hello(hello) => {
            assert!(hello.name.len() <= MAX_NAME && hello.oldest <= hello.newest);
            let again = hello.encode();
            let Ok(Some(Message::Hello(again))) = Message::decode(&again) else { panic!("{hello:?}") };
            assert_eq!(Hello { ..again }, hello);
        }
        Message::Batch { records, .. } => assert!(records.count() <= bytes.len()),
        Message::Sums { sums, .. } => {
            let numbers: Vec<u16> = sums.iter().map(|(number, _)| number).collect();
            assert!(numbers.len() <= BUCKETS && numbers.is_sorted());
        }
        Message::Want(wanted) => assert!(wanted.iter().count() <= BUCKETS),
        Message::Ack(_)
        | Message::BulkBegin { .. }
        | Message::BulkEnd { .. }
        | Message::Digest(_)
        | Message::KeepAlive { .. }
        | Message::Full => {}
    }
});
