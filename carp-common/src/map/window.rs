//! When a slot is served, and by whose clock: a master's lease, or an armed backup's moment.

#[cfg(doc)]
use super::{HEARD, PULSE, VipKey};
use crate::time::{Instant, Span};
use crate::wire::ip::mapped;
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// When the datapath may serve: from one moment until another, which is a master's lease; or for
/// [`ARMED_FOR`] once the master has been silent for so long, which is an armed backup's window. XDP
/// moves that one with every advert ([`HEARD`]), so it opens with nobody's help. All zero is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Window {
    /// First moment of the lease, nanoseconds of `CLOCK_MONOTONIC`.
    pub serve_from: u64,
    /// First moment no longer.
    pub serve_until: u64,
    /// Nanoseconds of silence after which an armed backup serves; 0 when it is not armed.
    pub dead: u64,
    /// First moment at which it is not armed any more, whatever its daemon does.
    pub armed_until: u64,
    /// Address of the master that it is armed for: the bytes of a [`VipKey::address`], in words, which
    /// are what the datapath can read at once.
    pub master: [u64; 2],
    /// For one of a group: one more than the slot whose entry in [`HEARD`] counts the silence of all of it. The
    /// master of a group is silent when it is in every family. 0: it is alone, and counts by its own entry.
    pub group: u32,
    /// 1: its lease counts only while the daemon's pulse lasts ([`PULSE`]).
    pub pulsed: u32,
}

/// How long an armed backup serves without its daemon: long enough to wake one, short enough that
/// any other node can wait for its end.
pub const ARMED_FOR: Span = Span::millis(100);

/// How old the time may be by which a window is found to be closed for sure: two ticks of the kernel
/// whose clock ticks slowest.
pub const LATELY: Span = Span::millis(20);

/// The bytes of an address in words.
#[inline(always)]
pub(super) const fn in_words(address: [u8; 16]) -> [u64; 2] {
    zerocopy::transmute!(address)
}

#[inline(always)]
const fn is_mapped([high, low]: [u64; 2]) -> bool {
    high == 0 && u64::from_be(low) >> 32 == 0xffff
}

impl Window {
    /// Never.
    pub const CLOSED: Self =
        Self { serve_from: 0, serve_until: 0, dead: 0, armed_until: 0, master: [0; 2], group: 0, pulsed: 0 };

    /// From one moment until another.
    pub const fn new(from: Instant, until: Instant) -> Self {
        Self { serve_from: from.nanos(), serve_until: until.nanos(), ..Self::CLOSED }
    }

    /// Once this master has been silent for so long, if that is before `until`.
    pub fn armed(dead: Span, until: Instant, master: IpAddr) -> Self {
        let (dead, armed_until) = (dead.as_nanos(), until.nanos());
        Self { dead, armed_until, master: in_words(mapped(master)), ..Self::CLOSED }
    }

    /// As one of a group, whose silence is counted by this slot's entry in [`HEARD`].
    #[must_use]
    pub const fn of_group(self, slot: u32) -> Self {
        Self { group: slot + 1, ..self }
    }

    /// With a lease that counts only while the daemon's pulse lasts.
    #[must_use]
    pub const fn pulsed(self) -> Self {
        Self { pulsed: 1, ..self }
    }

    /// What is left of it when the daemon's pulse lasts until then: the lease ends with it.
    #[inline(always)]
    #[must_use]
    pub const fn under(self, pulse: Instant) -> Self {
        let ends_early = self.pulsed != 0 && pulse.nanos() < self.serve_until;
        Self { serve_until: if ends_early { pulse.nanos() } else { self.serve_until }, ..self }
    }

    /// The slot whose entry in [`HEARD`] counts for this one's window.
    #[inline(always)]
    pub const fn clock(&self, slot: u32) -> u32 {
        match self.group.checked_sub(1) {
            Some(clock) => clock,
            None => slot,
        }
    }

    /// Whether it is armed in another way than that one was: its silence counts from now on.
    pub fn is_armed_anew(&self, before: &Self) -> bool {
        let kind = |window: &Self| (window.dead, window.master, window.group);
        self.dead != 0 && kind(self) != kind(before)
    }

    /// Without its lease.
    #[must_use]
    pub const fn without_lease(self) -> Self {
        Self { serve_from: 0, serve_until: 0, ..self }
    }

    /// Without being armed.
    #[must_use]
    pub const fn disarmed(self) -> Self {
        Self { serve_from: self.serve_from, serve_until: self.serve_until, ..Self::CLOSED }
    }

    /// What an authenticated advert of a master, not one of its words, makes of its clock's entry in
    /// [`HEARD`]. It moves with the master that the slot is armed for. With another's, or when that
    /// one returns after `patience`, the longest lease, it is over: zero, until the daemon arms anew.
    #[inline(always)]
    pub fn hear(&self, heard: Instant, source: [u8; 16], patience: Span, now: Instant) -> Instant {
        let source = in_words(source);
        if self.dead == 0 {
            return heard;
        }
        if is_mapped(source) != is_mapped(self.master) {
            // Whose it is cannot be told here. Later is the safe side.
            return if self.group != 0 && heard != Instant::ZERO { now } else { heard };
        }
        let is_over = heard == Instant::ZERO || source != self.master || patience <= now.since(heard);
        if is_over { Instant::ZERO } else { now }
    }

    /// What word of the one other node of the group makes of it, that says over another link that it serves.
    #[inline(always)]
    pub const fn hear_of(&self, heard: Instant, now: Instant) -> Instant {
        if self.dead == 0 || heard.nanos() == 0 { heard } else { now }
    }

    /// Whether the datapath serves at `now`; `heard` is the entry of its clock in [`HEARD`].
    #[inline(always)]
    pub const fn is_open(&self, heard: Instant, now: Instant) -> bool {
        self.is_leased(now) || self.is_taken_over(heard, now)
    }

    /// How much of its lease is left.
    #[inline(always)]
    pub const fn left(&self, now: Instant) -> Span {
        if self.is_leased(now) { Span::nanos(self.serve_until - now.nanos()) } else { Span::ZERO }
    }

    /// Whether it serves as a master.
    #[inline(always)]
    pub const fn is_leased(&self, now: Instant) -> bool {
        self.serve_from <= now.nanos() && now.nanos() < self.serve_until
    }

    /// Whether a silent master may be replaced at all.
    #[inline(always)]
    pub const fn is_armed(&self, now: Instant) -> bool {
        self.dead != 0 && now.nanos() < self.armed_until
    }

    /// When it opens by itself if the master stays silent, if it is armed until then.
    pub const fn opening(&self, heard: Instant) -> Option<Instant> {
        let at = heard.nanos().saturating_add(self.dead);
        if self.dead != 0 && heard.nanos() != 0 && at < self.armed_until {
            Some(Instant::from_nanos(at))
        } else {
            None
        }
    }

    /// Whether it is sure to be closed from `lately` on for [`LATELY`]: it has no lease or one that is over,
    /// and is not armed, or the master was heard not long ago. Of a closed window it may not be sure, of
    /// an open one it never is.
    #[inline(always)]
    pub const fn is_surely_closed(&self, heard: Instant, lately: Instant) -> bool {
        let silence = lately.since(heard).as_nanos();
        let is_waiting =
            self.dead == 0 || heard.nanos() == 0 || silence.saturating_add(LATELY.as_nanos()) < self.dead;
        self.serve_until <= lately.nanos() && is_waiting
    }

    /// Whether it serves as an armed backup.
    #[inline(always)]
    const fn is_taken_over(&self, heard: Instant, now: Instant) -> bool {
        if !self.is_armed(now) || heard.nanos() == 0 {
            return false;
        }
        let silence = now.since(heard).as_nanos();
        self.dead <= silence && silence - self.dead < ARMED_FOR.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of [`LATELY`]: no moment that matters lies between two.
    const STEP: u64 = LATELY.as_nanos() / 2;

    /// Every combination of some moments, and when the master was heard.
    fn windows() -> impl Iterator<Item = (Window, Instant)> {
        const STEPS: [u64; 8] = [0, 1, 2, 3, 5, 8, 13, 18];
        (0..STEPS.len().pow(5)).map(|index| {
            let pick = |digit| STEPS[index / STEPS.len().pow(digit) % STEPS.len()] * STEP;
            let (serve_from, serve_until, dead, armed_until) = (pick(0), pick(1), pick(2), pick(3));
            let window = Window { serve_from, serve_until, dead, armed_until, ..Window::CLOSED };
            (window, Instant::from_nanos(pick(4)))
        })
    }

    #[test]
    fn the_silence_of_a_group_is_broken_by_its_master_in_any_family_and_ended_by_another() {
        let (master, other) = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3]));
        let v6: IpAddr = "fe80::2".parse().expect("an address");
        let at = |seconds| Instant::ZERO + Span::secs(seconds);
        let alone = Window::armed(Span::secs(3), at(90), master);
        let grouped = alone.of_group(7);
        assert_eq!((alone.clock(9), grouped.clock(9)), (9, 7));
        assert!(grouped.is_armed_anew(&alone) && !grouped.is_armed_anew(&grouped));
        let hear = |window: &Window, heard, who| window.hear(heard, mapped(who), Span::secs(9), at(12));
        for (window, in_v6) in [(&alone, at(10)), (&grouped, at(12))] {
            assert_eq!(hear(window, at(10), master), at(12));
            assert_eq!(hear(window, at(10), other), Instant::ZERO);
            assert_eq!(hear(window, at(10), v6), in_v6);
            assert_eq!(hear(window, Instant::ZERO, v6), Instant::ZERO, "what is over stays so");
        }
    }

    #[test]
    fn what_is_surely_closed_is_open_at_no_moment_of_the_time_that_it_is_sure_for() {
        let mut seen = [0; 2];
        for (window, heard) in windows() {
            for lately in 0..20 {
                let is_closed = window.is_surely_closed(heard, Instant::from_nanos(lately * STEP));
                let mut moments = (0..5).map(|half| Instant::from_nanos(lately * STEP + half * STEP / 2));
                let is_open = moments.any(|now| window.is_open(heard, now));
                assert!(!(is_closed && is_open), "{window:?} {heard:?} {lately}");
                seen[usize::from(is_closed)] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 10_000), "{seen:?}");
    }
}
