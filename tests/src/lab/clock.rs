//! The lab's clock and its waiting: the only place here that reads a clock or sleeps.
#![expect(clippy::disallowed_methods, reason = "real processes take real time")]

use anyhow::{Result, bail};
use carp_common::time::{Instant, Span};
use rustix::time::ClockId;

/// `CLOCK_MONOTONIC`, the clock of the daemon and of the datapath.
pub fn now() -> Instant {
    Instant::from_nanos(u64::try_from(nanos(ClockId::Monotonic)).unwrap_or(0))
}

/// A moment of `CLOCK_REALTIME`, in nanoseconds, on the monotonic clock.
pub fn from_wall(wall: i128) -> Instant {
    // Between two looks at one clock the other is read; the closest of a few tells their distance.
    let looks = (0..5).map(|_| {
        let (before, real, after) =
            (nanos(ClockId::Monotonic), nanos(ClockId::Realtime), nanos(ClockId::Monotonic));
        (after - before, before - real)
    });
    let distance = looks.min().map_or(0, |(_, distance)| distance);
    Instant::from_nanos(u64::try_from(wall + distance).unwrap_or(0))
}

/// Sleeps. Only for the pace of probes and of polling.
pub fn sleep(span: Span) {
    std::thread::sleep(span.std());
}

/// Sleeps until `moment`; not at all when that is past.
pub fn sleep_until(moment: Instant) {
    sleep(moment.since(now()));
}

/// Waits until `condition` gives a value, looking every millisecond.
///
/// # Errors
/// When it has given none after `limit`; `what` says in words what was waited for.
pub fn wait_for<T>(what: &str, limit: Span, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let end = now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if now() > end {
            bail!("waited {limit} in vain for: {what}");
        }
        sleep(Span::millis(1));
    }
}

fn nanos(clock: ClockId) -> i128 {
    let time = rustix::time::clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
