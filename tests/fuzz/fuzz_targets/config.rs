//! Any text as configuration, and the example of the reference with any part replaced. Mistakes
//! have places, and can be printed.
#![no_main]

use arbitrary::Arbitrary;
use carp_user::config::reference::EXAMPLE;
use carp_user::config::{Source, parse};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Replaces what stands from `from` on, `length` bytes of the example; all of it when 0.
    text: &'a str,
    from: u16,
    length: u8,
    node: Option<&'a str>,
}

fuzz_target!(|input: Input| {
    let text = match input.length {
        0 => input.text.to_owned(),
        length => {
            let from = usize::from(input.from) % EXAMPLE.len();
            let to = EXAMPLE.len().min(from + usize::from(length));
            [&EXAMPLE[..from], input.text, &EXAMPLE[to..]].concat()
        }
    };
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let node = input.node.map(|text| source("node.toml", text));
    let secret = |_: &std::path::Path| Ok("01".repeat(32).into_bytes().into());
    match parse(source("carp.toml", &text), node, secret) {
        Ok(config) => {
            assert!(!config.hosts.is_empty() && config.hosts.iter().all(|host| !host.addresses.is_empty()))
        }
        Err(mistakes) => {
            assert!(!mistakes.list().is_empty());
            assert!(mistakes.list().iter().all(|mistake| mistakes.position(mistake).is_some()));
            assert!(!mistakes.render(false).is_empty() && !mistakes.render(true).is_empty());
        }
    }
});
