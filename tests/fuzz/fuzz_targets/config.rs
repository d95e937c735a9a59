//! Any text as configuration, and the example of the reference with any part replaced. Mistakes
//! have places, and can be printed. What is right is the same after it is written and read again.
#![no_main]

use arbitrary::Arbitrary;
use carp_user::config::reference::EXAMPLE;
use carp_user::config::render::{Form, render};
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
    // A key of the sync link is too long for a password.
    let secret = |file: &std::path::Path| {
        let digits = if file.to_string_lossy().contains("password") { 4 } else { 32 };
        Ok("01".repeat(digits).into_bytes().into())
    };
    match parse(source("carp.toml", &text), node, secret) {
        Ok(config) => {
            assert!(!config.hosts.is_empty() && config.hosts.iter().all(|host| !host.addresses.is_empty()));
            let written = render(&config, Form::Effective);
            assert_eq!(parse(source("carp.toml", &written), None, secret).ok(), Some(config), "{written}");
        }
        Err(mistakes) => {
            assert!(!mistakes.list().is_empty());
            assert!(mistakes.list().iter().all(|mistake| mistakes.position(mistake).is_some()));
            assert!(!mistakes.render(false).is_empty() && !mistakes.render(true).is_empty());
        }
    }
});
