//! Whether a master's datapath still answers: one group's master, asked over every path at short intervals
//! (`docs/detection.md`). Answers need no daemon on the other side, so a busy master is not taken for dead; and one whose
//! daemon is frozen or gone stops answering with its lease, the end of which it has told.
//!
//! A path is silent after [`MISSES`] questions without an answer, the last of which has had an interval to be answered.
//! What is counted is questions, not time: who slept has asked nothing meanwhile, and begins to count anew.

use super::event::HostId;
use super::tenure::LATENCY;
use carp_common::id::{IfIndex, Vhid};
#[cfg(doc)]
use carp_common::map::MAX_GROUPS;
use carp_common::map::ProbeKeys;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// Questions in a row without an answer, after which a path is silent.
pub const MISSES: usize = 3;
/// A lease that has less left than this is not renewed any more: a hand's breadth more than the longest interval, so that it
/// is asked for while it has.
pub const GUARD: Span = Span::millis(20);
/// A master that is gone is told of again after so long, if nobody has acted upon it.
const AGAIN: Span = Span::millis(20);
/// That it lives is told so often.
const LIVES: Span = Span::millis(500);

/// How a group finds out that its master is gone: `detect` and `lease` of `[[group]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detect {
    /// From one question to the next.
    pub interval: Span,
    /// How long a master serves after its daemon has shown that it runs.
    pub lease: Span,
    /// The sync link, over which the one other node can be asked, too.
    pub aside: Option<Aside>,
}

/// The sync link as one more path, to a group of two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The number of the group on it, which both nodes give it: from 1 to [`MAX_GROUPS`].
    pub number: u8,
    /// This node's address.
    pub source: IpAddr,
    /// The other node's.
    pub peer: IpAddr,
    /// By which keys it is asked there.
    pub keys: ProbeKeys,
}

impl Default for Detect {
    /// Not at all.
    fn default() -> Self {
        Self { interval: Span::ZERO, lease: Span::millis(100), aside: None }
    }
}

/// A path to the master of a group: one for each interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Which one.
    pub by: By,
    /// This node's address.
    pub source: IpAddr,
    /// The master's, of the same family.
    pub master: IpAddr,
}

/// An interface by which a master is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// One of the group's.
    Host {
        /// The virtual host whose keys sign.
        host: HostId,
        /// Its link.
        link: IfIndex,
        /// Its number there.
        vhid: Vhid,
    },
    /// The sync link, and the number of the group on it.
    Sync(u8),
}

/// Whom to ask, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// From one question to the next.
    pub interval: Span,
    /// Over which paths.
    pub paths: Vec<Path>,
}

impl Watched {
    /// Whether the master is asked on every path that it was heard on, and not over the sync link alone.
    pub fn is_whole(&self) -> bool {
        self.paths.iter().any(|path| matches!(path.by, By::Host { .. }))
    }
}

/// What became of a master that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It serves.
    Lives,
    /// Its lease has just ended, and could not be renewed any more.
    Lapsed,
    /// It answers on no path.
    Silent,
}

/// The newest answer over a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// When the question was sent; zero: there is none.
    pub asked_at: Instant,
    /// When the master's lease ends at the latest, by this node's clock.
    pub until: Instant,
}

/// The watch over one master.
#[derive(Clone, Debug)]
pub struct Detector {
    interval: Span,
    paths: Vec<Asked>,
    /// When the next questions are due.
    ask_at: Instant,
    looked_at: Instant,
    told: Option<(Sign, Instant)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// The last questions, the newest first. Zero: not asked since it began to count.
    at: [Instant; MISSES],
    answered: Answered,
}

impl Detector {
    /// Nobody was asked yet.
    pub fn new(watched: &Watched, now: Instant) -> Self {
        Self {
            interval: watched.interval,
            paths: vec![Asked::default(); watched.paths.len()],
            ask_at: now,
            looked_at: now,
            told: None,
        }
    }

    /// When to come back: for the next questions, or as the lease ends.
    pub fn deadline(&self) -> Instant {
        let ends = self.newest().map(|answered| answered.until).filter(|until| self.looked_at < *until);
        ends.map_or(self.ask_at, |until| until.min(self.ask_at))
    }

    /// Looks at the newest answers, one for each path, before anything is asked again; what there is to tell.
    pub fn look(&mut self, answers: impl IntoIterator<Item = Answered>, now: Instant) -> Option<Sign> {
        for (path, answered) in self.paths.iter_mut().zip(answers) {
            path.answered = answered;
        }
        self.looked_at = now;
        if self.interval < now.since(self.ask_at) {
            // This process slept. Whatever was answered has been seen; what was not may only be late.
            self.paths.iter_mut().for_each(|path| path.at = [Instant::ZERO; MISSES]);
        }
        let newest = self.newest()?;
        let (sign, rests) = if newest.has_lapsed(now) {
            (Sign::Lapsed, AGAIN)
        } else if self.silent(now).all(|is_silent| is_silent) {
            (Sign::Silent, AGAIN)
        } else if now < newest.until {
            (Sign::Lives, LIVES)
        } else {
            return None;
        };
        let is_told = self.told.is_some_and(|(last, at)| last == sign && now.since(at) < rests);
        (!is_told).then(|| {
            self.told = Some((sign, now));
            sign
        })
    }

    /// Whether questions are due; then they are being asked.
    pub fn asks(&mut self, now: Instant) -> bool {
        if now < self.ask_at {
            return false;
        }
        let next = self.ask_at + self.interval;
        // No burst after a sleep.
        self.ask_at = if next <= now { now + self.interval } else { next };
        true
    }

    /// The question over this path was sent.
    pub fn asked(&mut self, path: usize, at: Instant) {
        if let Some(path) = self.paths.get_mut(path) {
            path.at.rotate_right(1);
            path.at[0] = at;
        }
    }

    /// Which paths are silent, in their order.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = bool> {
        self.paths.iter().map(move |path| path.is_silent(self.interval, now))
    }

    /// The answer to the latest question that was answered over any path; `None`: there is none.
    fn newest(&self) -> Option<Answered> {
        let answers = self.paths.iter().map(|path| path.answered);
        answers.filter(|answered| answered.asked_at != Instant::ZERO).max_by_key(|answered| answered.asked_at)
    }
}

impl Answered {
    /// Whether the lease is over, and has just ended. It had so little left that its master could not have had another one;
    /// as long as it has more, it may not have told of the next yet.
    fn has_lapsed(&self, now: Instant) -> bool {
        let is_last = self.until.since(self.asked_at) < GUARD;
        is_last && self.until <= now && now.since(self.until) <= LATENCY
    }
}

impl Asked {
    /// A question is as a rule answered long before the next is asked; a wake-up that comes a little early counts, too.
    fn is_silent(&self, interval: Span, now: Instant) -> bool {
        let [newest, .., oldest] = self.at;
        let patience = Span::nanos(interval.as_nanos() / 4 * 3);
        oldest != Instant::ZERO && self.answered.asked_at < oldest && patience <= now.since(newest)
    }
}

/// The pulse of a daemon: until when the datapath takes it to run. It is renewed while more than [`GUARD`] is left of it, so
/// that whoever hears of one with less knows when it ends. One that has ended begins anew only when every lease is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    until: Instant,
}

impl Pulse {
    /// One that lasts until then.
    pub const fn new(until: Instant) -> Self {
        Self { until }
    }

    /// The next one, if it can be renewed still. Whoever writes it down asks [`Pulse::is_late`] afterwards.
    pub fn renewed(self, lease: Span, now: Instant) -> Option<Self> {
        (!self.is_late(now)).then(|| Self { until: now + lease })
    }

    /// Whether it cannot be renewed any more.
    pub fn is_late(self, now: Instant) -> bool {
        self.until.since(now) <= GUARD
    }

    /// Its end.
    pub const fn until(self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests;
