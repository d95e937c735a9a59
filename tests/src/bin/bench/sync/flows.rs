//! How many flows a kernel has, and when all are there.

use anyhow::{Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use carp_user::io::conntrack::count;

/// Longest that a table may take to come over.
pub const PATIENCE: Span = Span::secs(120);
/// A table that does not grow for so long has all that it will get.
const STILL: Span = Span::secs(3);

/// How many a kernel has.
pub fn held(namespace: &Namespace) -> Result<u32> {
    namespace.enter(|| Ok(count()?))
}

/// When all are there, counted from `begun`, and how many never come.
pub fn settled(namespace: &Namespace, wanted: u32, begun: Instant) -> Result<(Span, u32)> {
    let (mut last, mut changed) = (0, clock::now());
    loop {
        let (held, now) = (held(namespace)?, clock::now());
        if held >= wanted {
            return Ok((now.since(begun), 0));
        }
        if held != last {
            (last, changed) = (held, now);
        }
        if now.since(changed) > STILL {
            return Ok((changed.since(begun), wanted - held));
        }
        ensure!(now.since(begun) < PATIENCE, "{held} of {wanted} flows after {PATIENCE}");
        clock::sleep(Span::millis(2));
    }
}

/// Thousandths of a thousand a second.
pub fn rate(flows: u64, span: Span) -> u64 {
    flows * 1_000_000 / span.as_micros().max(1)
}
