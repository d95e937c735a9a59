//! Tracks: what is looked at again and again, and has the node rank lower while it fails. Counted with hysteresis: a track fails
//! after `fall` bad outcomes in a row, and is good again after `rise` good ones. It begins good: a node is not demoted before
//! something was seen to be wrong.
//!
//! A value with one door: [`Tracks::handle`]. It knows nothing of what an attempt does.

use carp_common::time::{Instant, Span};
use std::collections::BTreeMap;

/// Most tracks of a node. Policy: more are a mistake in the configuration.
pub const MOST: usize = 64;

/// Most attempts at a time, without those whose time is over and that have not ended yet; there is at most one of each track.
/// Policy when full: the one that has been due the longest begins when another ends.
pub const AT_ONCE: usize = 16;

/// A track as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its name.
    pub name: String,
    /// What it looks at, in words. One that looks at something else begins anew.
    pub what: String,
    /// Added to every skew while it fails; at least 1.
    pub amount: u8,
    /// From the beginning of one attempt to that of the next.
    pub interval: Span,
    /// After so long without an outcome an attempt is bad.
    pub timeout: Span,
    /// So many good outcomes in a row end a failure.
    pub rise: u8,
    /// So many bad ones begin one.
    pub fall: u8,
}

/// What an attempt came to, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good(String),
    /// Not.
    Bad(String),
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// These are the tracks from now on. Behind [`MOST`], the rest is left out.
    Configure(Vec<Setup>),
    /// An attempt has ended. Each one that began does so once, also after [`Action::End`].
    Ended {
        /// Which.
        attempt: u64,
        /// What it came to.
        outcome: Outcome,
    },
    /// The deadline has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin an attempt, and tell what it comes to.
    Begin {
        /// Of which track.
        track: String,
        /// Its number.
        attempt: u64,
    },
    /// End an attempt: nobody waits for its outcome any more.
    End {
        /// Which.
        attempt: u64,
    },
}

/// How it stands with a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// What it looks at.
    pub what: String,
    /// Added to every skew while it fails.
    pub amount: u8,
    /// Why it fails, if it does.
    pub failing: Option<String>,
    /// Since when it does, or does not.
    pub since: Instant,
    /// What the last attempt came to; none before the first has.
    pub last: Option<Outcome>,
    /// Outcomes in a row that speak against `failing`, and how many turn it.
    pub turning: (u8, u8),
}

/// All tracks of a node.
#[derive(Debug, Default)]
pub struct Tracks {
    tracks: BTreeMap<String, Track>,
    /// Number of the last attempt.
    last: u64,
}

#[derive(Debug)]
struct Track {
    setup: Setup,
    /// When the next attempt, or what counts as one, is due.
    due: Instant,
    running: Option<Attempt>,
    failing: Option<String>,
    since: Instant,
    last: Option<Outcome>,
    streak: u8,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    /// When its time is over, or, if it is overdue, when it is bad once more.
    until: Instant,
    /// Its time is over, and it was told to end.
    overdue: bool,
}

impl Tracks {
    /// The one door: something happened, this is to be done. Outcomes come before [`Event::Tick`], so that who wakes late
    /// does not take for overdue what has ended in time.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Configure(setups) => self.configure(setups, now, &mut actions),
            Event::Ended { attempt, outcome } => self.ended(attempt, outcome, now),
            Event::Tick => {}
        }
        self.tracks.values_mut().for_each(|track| track.tick(now, &mut actions));
        self.begin(now, &mut actions);
        actions
    }

    /// When to come back with [`Event::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
        let may_begin = self.under_way() < AT_ONCE;
        let deadline = |track: &Track| match &track.running {
            Some(attempt) => Some(attempt.until),
            None => may_begin.then_some(track.due),
        };
        self.tracks.values().filter_map(deadline).min()
    }

    /// How it stands with all of them, by name.
    pub fn findings(&self) -> Vec<Finding> {
        self.tracks.values().map(Track::finding).collect()
    }

    fn configure(&mut self, setups: Vec<Setup>, now: Instant, actions: &mut Vec<Action>) {
        let mut before = std::mem::take(&mut self.tracks);
        for setup in setups.into_iter().take(MOST) {
            let known = before.remove(&setup.name);
            let (same, other) = match known {
                Some(track) if track.setup.what == setup.what => (Some(track), None),
                other => (None, other),
            };
            leave(other, actions);
            let track = match same {
                Some(track) => {
                    Track { due: track.due.min(now + setup.interval), setup: setup.clone(), ..track }
                }
                None => Track::new(setup.clone(), now),
            };
            self.tracks.insert(setup.name, track);
        }
        before.into_values().for_each(|track| leave(Some(track), actions));
    }

    fn ended(&mut self, attempt: u64, outcome: Outcome, now: Instant) {
        let is_its = |track: &&mut Track| track.running.as_ref().is_some_and(|it| it.number == attempt);
        let Some(track) = self.tracks.values_mut().find(is_its) else { return };
        if track.running.take().is_some_and(|attempt| !attempt.overdue) {
            track.count(outcome, now);
        }
    }

    fn under_way(&self) -> usize {
        let is_timed = |track: &&Track| track.running.as_ref().is_some_and(|attempt| !attempt.overdue);
        self.tracks.values().filter(is_timed).count()
    }

    /// Those that have been due the longest go first.
    fn begin(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let room = AT_ONCE.saturating_sub(self.under_way());
        let mut due: Vec<&mut Track> =
            self.tracks.values_mut().filter(|track| track.running.is_none() && track.due <= now).collect();
        due.sort_by_key(|track| track.due);
        for track in due.into_iter().take(room) {
            self.last += 1;
            let (attempt, name) = (self.last, track.setup.name.clone());
            track.due = now + track.setup.interval;
            track.running =
                Some(Attempt { number: attempt, until: now + track.setup.timeout, overdue: false });
            actions.push(Action::Begin { track: name, attempt });
        }
    }
}

impl Track {
    fn new(setup: Setup, now: Instant) -> Self {
        Self { setup, due: now, running: None, failing: None, since: now, last: None, streak: 0 }
    }

    /// One whose time is over is bad, and bad again whenever another one would be due while it does not end.
    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(attempt) = self.running.as_mut().filter(|attempt| attempt.until <= now) else { return };
        if !std::mem::replace(&mut attempt.overdue, true) {
            actions.push(Action::End { attempt: attempt.number });
        }
        attempt.until = now + self.setup.interval;
        let text = format!("no outcome after {}", self.setup.timeout);
        self.count(Outcome::Bad(text), now);
    }

    fn count(&mut self, outcome: Outcome, now: Instant) {
        let bad = match &outcome {
            Outcome::Good(_) => None,
            Outcome::Bad(why) => Some(why.clone()),
        };
        self.last = Some(outcome);
        if bad.is_some() == self.failing.is_some() {
            self.streak = 0;
            self.failing = bad;
            return;
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak >= self.turns_after() {
            (self.streak, self.since, self.failing) = (0, now, bad);
        }
    }

    const fn turns_after(&self) -> u8 {
        if self.failing.is_some() { self.setup.rise } else { self.setup.fall }
    }

    fn finding(&self) -> Finding {
        Finding {
            name: self.setup.name.clone(),
            what: self.setup.what.clone(),
            amount: self.setup.amount,
            failing: self.failing.clone(),
            since: self.since,
            last: self.last.clone(),
            turning: (self.streak, self.turns_after()),
        }
    }
}

/// Of a track that goes.
fn leave(track: Option<Track>, actions: &mut Vec<Action>) {
    if let Some(Attempt { number, overdue: false, .. }) = track.and_then(|track| track.running) {
        actions.push(Action::End { attempt: number });
    }
}

#[cfg(test)]
mod tests;
