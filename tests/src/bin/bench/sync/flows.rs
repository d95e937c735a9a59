//! Flows that are made and counted by ctnetlink: no packet passes.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use carp_user::io::conntrack::{Dump, Injector, Order, count};
use carp_user::proto::flow::{Flow, Ids, ProtocolState, Tcp, Tuple, status};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// Flows that are handed to the kernel at a time.
pub const CHUNK: u32 = 1024;
/// Longest that a table may take to come over.
pub const PATIENCE: Span = Span::secs(120);
/// A table that does not grow for so long has all that it will get.
const STILL: Span = Span::secs(3);

/// Makes these flows in a namespace.
pub fn make(namespace: &Namespace, numbers: Range<u32>) -> Result<()> {
    make_by(&mut injector(namespace)?, numbers)
}

/// Puts flows into a namespace, whoever uses it.
pub fn injector(namespace: &Namespace) -> Result<Injector> {
    namespace.enter(|| Ok(Injector::open(false)?))
}

/// The same through an injector.
pub fn make_by(injector: &mut Injector, numbers: Range<u32>) -> Result<()> {
    let mut refused = None;
    for first in numbers.clone().step_by(usize::try_from(CHUNK)?) {
        let flows = (first..numbers.end.min(first + CHUNK)).map(flow).collect::<Result<Vec<_>>>()?;
        let orders: Vec<Order<'_>> = flows.iter().map(Order::Make).collect();
        injector.carry_out(&orders, &mut |_, refusal| refused = Some(refusal))?;
    }
    ensure!(refused.is_none(), "the kernel refused a flow: {refused:?}");
    Ok(())
}

/// Ends all flows of a namespace: whoever removes it with many in it keeps a CPU busy long after.
pub fn clear(namespace: &Namespace) -> Result<()> {
    let mut injector = injector(namespace)?;
    namespace.enter(move || {
        let (mut dump, mut part, mut keys) = (Dump::start(None)?, Vec::new(), Vec::new());
        while dump.part(&mut part)? {
            keys.extend(part.iter().map(|flow| flow.key));
        }
        let orders: Vec<Order<'_>> = keys.iter().map(Order::Delete).collect();
        // What has ended by itself meanwhile is no matter.
        Ok(injector.carry_out(&orders, &mut |_, _| {})?)
    })
}

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

/// TCP with its source translated, as a gateway has most of.
fn flow(number: u32) -> Result<Flow> {
    let address = |net: u32| IpAddr::V4(Ipv4Addr::from_bits(net + number / 50_000));
    let port = u16::try_from(1024 + number % 50_000)?;
    let original = Tuple {
        source: address(0x0a00_0000),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        ids: Ids::Ports { source: port, destination: 443 },
    };
    let plain = Flow::untranslated(original).context("nothing answers this")?;
    Ok(Flow {
        reply: Tuple { destination: address(0xc000_0200), ..plain.reply },
        status: status::CONFIRMED | status::SEEN_REPLY | status::ASSURED,
        timeout: 3600,
        state: ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [0, 0] }),
        ..plain
    })
}

/// Thousandths of a thousand a second.
pub fn rate(flows: u64, span: Span) -> u64 {
    flows * 1_000_000 / span.as_micros().max(1)
}
