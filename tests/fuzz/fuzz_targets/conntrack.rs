//! Datagrams of ctnetlink: any bytes, and a message with any attributes. What is understood is a flow of one family.
#![no_main]

use arbitrary::Arbitrary;
use carp_user::io::conntrack::{News, messages};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Of flows or of expectations, new or gone.
    kind: u8,
    flags: u16,
    port: u32,
    /// Behind the family header.
    attributes: &'a [u8],
    /// Behind the message.
    rest: &'a [u8],
}

fuzz_target!(|input: Input| {
    check(input.rest);
    let len = u32::try_from(20 + input.attributes.len()).expect("short");
    let kind = [0x100u16, 0x102, 0x200, 0x202][usize::from(input.kind % 4)];
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(input.flags.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(input.port.to_ne_bytes());
    bytes.extend([2, 0, 0, 0]);
    bytes.extend(input.attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(input.rest);
    check(&bytes);
});

fn check(bytes: &[u8]) {
    let mut count = 0;
    for message in messages(bytes) {
        count += 1;
        let tuples = match message.news {
            News::Flow(_, flow) => [flow.key.original, flow.reply],
            News::Expectation(_, expectation) => [expectation.master.original, expectation.tuple],
        };
        assert!(tuples.iter().all(|tuple| tuple.is_of_one_family()));
    }
    assert!(count <= bytes.len() / 16);
}
