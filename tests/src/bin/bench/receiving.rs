//! Frames without an skb from the source to the gateway, and what the gateway spends on them: the time of
//! the one kernel thread that takes them in.

use crate::cpu;
use crate::programs;
use crate::report::ratio;
use crate::road::{FAR, LAN, Road};
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;

/// Where the source sends from, and where the gateway receives: apart, where there are two CPUs.
pub const SENDER: usize = 0;
pub const RECEIVER: usize = 1;
/// The most of a frame that is made anew each time.
const HEADERS: usize = 128;
/// Until the frames on their way are taken in.
const REST: Span = Span::millis(20);
const PATIENCE: Span = Span::secs(5);

/// The source's end of the LAN and the thread at the gateway's.
pub struct Receiving<'a> {
    pub road: &'a Road,
    from: u32,
    thread: u32,
}

/// What a burst came to.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// Frames that the gateway took in; the rest did not fit into the cable.
    pub frames: u64,
    /// What its thread spent on them.
    pub spent: Span,
}

impl Burst {
    /// A second of the receiving CPU, in thousandths of a million frames.
    pub fn rate(&self) -> u64 {
        ratio(self.frames * 1000, self.spent.as_nanos())
    }
}

impl<'a> Receiving<'a> {
    /// Has the gateway receive on a thread of its own from here on.
    pub fn new(road: &'a Road) -> Result<Self> {
        let thread = road.gateway.receive_on_thread(LAN)?;
        cpu::keep_on(Some(thread), RECEIVER)?;
        let from = road.source.ifindex(FAR)?;
        Ok(Self { road, from, thread })
    }

    /// So many frames at once.
    pub fn burst(&self, frame: &[u8], frames: u32) -> Result<Burst> {
        let (begin, spent) = (received(&self.road.gateway, LAN)?, cpu::of_thread(self.thread)?);
        // What is behind the headers nobody changes.
        let (send, from) = (programs::send(frame.get(..HEADERS).unwrap_or(frame))?, self.from);
        self.road.source.enter(|| {
            cpu::keep_on(None, SENDER)?;
            send.run_live(frame, from, frames)
        })?;
        let end = settled(&self.road.gateway, LAN)?;
        let burst = Burst { frames: end - begin, spent: cpu::of_thread(self.thread)?.less(spent) };
        ensure!(burst.frames > 0, "no frame arrived at {LAN}");
        Ok(burst)
    }
}

/// A counter of IPv4 in a namespace, by its name in `/proc/net/snmp`.
pub fn ip_counter(host: &Namespace, name: &str) -> Result<u64> {
    let text = host.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut counters = names.split(' ').zip(values.split(' '));
    let value = counters.find(|(known, _)| *known == name).and_then(|(_, value)| value.parse().ok());
    value.with_context(|| format!("the kernel has no counter {name}"))
}

/// Frames that came in by a link so far.
pub fn received(host: &Namespace, link: &str) -> Result<u64> {
    let text = host.ip(&format!("-json -statistics link show dev {link}"))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let packets = links.pointer("/0/stats64/rx/packets").and_then(serde_json::Value::as_u64);
    packets.with_context(|| format!("no statistics of {link}"))
}

/// As [`received`], once that does not grow any more.
pub fn settled(host: &Namespace, link: &str) -> Result<u64> {
    let end: Instant = clock::now() + PATIENCE;
    let mut last = received(host, link)?;
    loop {
        clock::sleep(REST);
        let now = received(host, link)?;
        if now == last {
            return Ok(now);
        }
        ensure!(clock::now() < end, "frames keep coming in by {link}");
        last = now;
    }
}
