//! The clock, the alarm and the seed: the only place that reads time or draws randomness.

use super::error::Error;
use super::raw::Ready;
use crate::proto::lateness::Lateness;
use carp_common::time::{Instant, Span};
use rustix::rand::GetRandomFlags;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `CLOCK_MONOTONIC`, which is what `bpf_ktime_get_ns()` reads too.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn now() -> Instant {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::Monotonic);
    // Neither is ever negative for this clock.
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanos = u64::try_from(tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
}

/// By the calendar, which jumps: for people to read, never to measure a time with.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn seconds_since_1970() -> u64 {
    // It is negative before that only.
    u64::try_from(rustix::time::clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// The same in milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn milliseconds_since_1970() -> u64 {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::Realtime);
    let (seconds, nanos) = (u64::try_from(tv_sec).unwrap_or(0), u64::try_from(tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Blocks the calling thread: what comes for it meanwhile waits, and wakes nobody. Only for a flood, or a burst, that is better
/// met in portions; whoever waits for something has it wake him.
#[expect(clippy::disallowed_methods, reason = "a thread that waits for events is woken by each of them")]
pub fn rest(span: Span) {
    std::thread::sleep(span.std());
}

/// Sixty-four random bits from the kernel, for [`Setup::seed`](crate::proto::event::Setup::seed).
///
/// # Errors
/// The kernel's; it has none once the machine is up.
pub fn seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    draw(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

/// Fills it with what nobody can guess; at most 256 bytes, which the kernel hands out in one piece.
///
/// # Errors
/// As [`seed`].
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
pub fn draw(bytes: &mut [u8]) -> Result<(), Error> {
    match rustix::rand::getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(len) if len == bytes.len() => Ok(()),
        Ok(_) => Err(no_seed(io::ErrorKind::UnexpectedEof.into())),
        Err(errno) => Err(no_seed(errno.into())),
    }
}

/// An alarm clock on `CLOCK_MONOTONIC`, exact to the kernel's high-resolution timers; tokio's own
/// timers are exact to a millisecond only.
#[derive(Debug)]
pub struct Alarm {
    timer: Ready,
    /// When it is to go off, if that was yet to come when it was set.
    due: Option<Instant>,
    lateness: Lateness,
    worst: Worst,
}

/// The latest wake-up since it was taken, to be had on another thread.
#[derive(Clone, Debug, Default)]
pub struct Worst(Arc<AtomicU64>);

impl Worst {
    /// One came so late.
    fn note(&self, late: Span) {
        self.0.fetch_max(late.as_nanos(), Ordering::Relaxed);
    }

    /// The latest one; from here on those that come count.
    pub fn take(&self) -> Span {
        Span::nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Alarm {
    /// An alarm that is not set. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel's, such as too many open files.
    pub fn new() -> Result<Self, Error> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        match fd.map_err(io::Error::from).and_then(Ready::new) {
            Ok(timer) => {
                let (lateness, worst) = (Lateness::default(), Worst::default());
                Ok(Self { timer, due: None, lateness, worst })
            }
            Err(source) => Err(Error::Kernel { doing: "making a timer".to_owned(), source }),
        }
    }

    /// Lets it go off once, at `at`; at once when that is past; never for `None`. The last call
    /// counts.
    ///
    /// # Errors
    /// The kernel's; it has none for a timer of ours.
    pub fn set(&mut self, at: Option<Instant>) -> io::Result<()> {
        // Zero would disarm it: the first nanosecond after boot is as past as any.
        let nanos = at.map_or(0, |at| at.nanos().max(1));
        let timer = Itimerspec { it_interval: timespec(0)?, it_value: timespec(nanos)? };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        self.due = at.filter(|at| *at > now());
        Ok(())
    }

    /// Whoever set it goes on, woken by it or not: how late, if it was due by now, is counted once.
    pub fn woke(&mut self) {
        let woken_at = now();
        if let Some(due) = self.due.take_if(|due| *due <= woken_at) {
            let late = woken_at.since(due);
            self.lateness.note(late);
            self.worst.note(late);
        }
    }

    /// How late it was so far.
    pub const fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// How late it was at worst, since somebody asked.
    pub fn worst(&self) -> Worst {
        self.worst.clone()
    }

    /// Waits until it goes off. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The kernel's; it has none for a timer of ours.
    pub async fn fired(&mut self) -> io::Result<()> {
        let expirations = |fd: std::os::fd::BorrowedFd<'_>| Ok(rustix::io::read(fd, &mut [0_u8; 8])?);
        self.timer.read(expirations).await.map(|_count| ())
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

fn timespec(nanos: u64) -> io::Result<Timespec> {
    Ok(Timespec {
        tv_sec: i64::try_from(nanos / NANOS_PER_SECOND).map_err(io::Error::other)?,
        tv_nsec: i64::try_from(nanos % NANOS_PER_SECOND).map_err(io::Error::other)?,
    })
}

fn no_seed(source: io::Error) -> Error {
    Error::Kernel { doing: "drawing a random seed".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::time::Span;
    use std::future::poll_fn;
    use std::task::Poll;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(work)
    }

    #[test]
    fn time_goes_forward() {
        let before = now();
        assert!(now() >= before);
        assert_ne!(before, Instant::ZERO);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }

    #[test]
    fn the_alarm_goes_off_not_before_its_time_and_once() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            let at = now() + Span::micros(1_500);
            alarm.set(Some(at)).unwrap();
            alarm.fired().await.unwrap();
            assert!(now() >= at);
            assert!(is_quiet(&mut alarm).await);
        });
    }

    #[test]
    fn how_late_it_was_seen_is_counted_once_and_not_of_one_that_was_past_before() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            let worst = alarm.worst();
            alarm.set(Some(now() + Span::micros(100))).unwrap();
            rest(Span::millis(3));
            alarm.woke();
            alarm.woke();
            let late = alarm.lateness().worst();
            assert!(late >= Span::micros(2_800), "{late}");
            assert_eq!((alarm.lateness().count(), worst.take(), worst.take()), (1, late, Span::ZERO));
            for at in [Some(Instant::ZERO), Some(Instant::MAX), None] {
                alarm.set(at).unwrap();
                alarm.woke();
            }
            assert_eq!(alarm.lateness().count(), 1);
        });
    }

    #[test]
    fn an_alarm_in_the_past_goes_off_at_once_and_one_at_the_end_of_time_never() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            alarm.set(Some(Instant::ZERO)).unwrap();
            alarm.fired().await.unwrap();
            alarm.set(Some(Instant::MAX)).unwrap();
            assert!(is_quiet(&mut alarm).await);
        });
    }

    #[test]
    fn an_alarm_that_went_off_unseen_is_forgotten_when_it_is_set_anew() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            alarm.set(Some(Instant::ZERO)).unwrap();
            tokio::task::yield_now().await;
            alarm.set(None).unwrap();
            assert!(is_quiet(&mut alarm).await);
        });
    }

    /// Polls it a few times, giving the reactor its turn in between.
    async fn is_quiet(alarm: &mut Alarm) -> bool {
        for _ in 0..16 {
            let mut fired = std::pin::pin!(alarm.fired());
            if poll_fn(|context| Poll::Ready(fired.as_mut().poll(context).is_ready())).await {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }
}
