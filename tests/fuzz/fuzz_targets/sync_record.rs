//! Any bytes as the records of a batch. What is read is written as what is read again.
#![no_main]

use carp_user::proto::sync::record::{MAX_RECORD, Record, Records};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    for record in Records::new(bytes).flatten() {
        out.clear();
        record.encode(&mut out);
        assert!(out.len() <= MAX_RECORD);
        let again: Vec<Result<Record, _>> = Records::new(&out).collect();
        assert_eq!(again, [Ok(record)]);
    }
});
