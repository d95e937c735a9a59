//! The thread's loop: what is wanted and what has ended go in, attempts begin.

use super::probe::{self, Sample};
use crate::config::Track;
use crate::config::track::Probe;
use crate::io::clock;
use crate::proto::track::{Action, Event, Finding, Outcome, Tracks};
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Everything of the thread.
pub(super) struct Engine {
    wanted: watch::Receiver<Vec<Track>>,
    tell: watch::Sender<Vec<Finding>>,
    tracks: Tracks,
    probes: BTreeMap<String, Probe>,
    /// Attempts that have not ended, as many as tracks at most, and those that were told to end.
    attempts: JoinSet<Ended>,
    /// What the last attempt of a track has left for its next one.
    samples: BTreeMap<String, Sample>,
    /// Dropping one ends its attempt.
    ends: BTreeMap<u64, oneshot::Sender<()>>,
}

/// An attempt that has ended.
struct Ended {
    track: String,
    attempt: u64,
    outcome: Outcome,
    sample: Option<Sample>,
}

enum Woken {
    Wanted,
    Ended(Ended),
    Tick,
    /// Nobody wants anything any more.
    Gone,
}

impl Engine {
    pub(super) fn new(wanted: watch::Receiver<Vec<Track>>, tell: watch::Sender<Vec<Finding>>) -> Self {
        let (attempts, ends) = (JoinSet::new(), BTreeMap::new());
        let (tracks, probes, samples) = (Tracks::default(), BTreeMap::new(), BTreeMap::new());
        Self { wanted, tell, tracks, probes, attempts, samples, ends }
    }

    pub(super) async fn run(mut self) {
        self.configure();
        loop {
            match self.next().await {
                Woken::Wanted => self.configure(),
                Woken::Ended(Ended { track, attempt, outcome, sample }) => {
                    self.ends.remove(&attempt);
                    if let Some(sample) = sample.filter(|_| self.probes.contains_key(&track)) {
                        self.samples.insert(track, sample);
                    }
                    self.handle(Event::Ended { attempt, outcome });
                }
                Woken::Tick => self.handle(Event::Tick),
                Woken::Gone => return,
            }
        }
    }

    /// Outcomes before time: one that is late does not take for overdue what has ended.
    async fn next(&mut self) -> Woken {
        let deadline = self.tracks.deadline();
        let due = async move {
            match deadline {
                Some(at) => tokio::time::sleep(at.since(clock::now()).std()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            wanted = self.wanted.changed() => wanted.map_or(Woken::Gone, |()| Woken::Wanted),
            Some(ended) = self.attempts.join_next() => match ended {
                Ok(ended) => Woken::Ended(ended),
                Err(_panicked) => Woken::Tick,
            },
            () = due => Woken::Tick,
        }
    }

    fn configure(&mut self) {
        let tracks = self.wanted.borrow_and_update().clone();
        let setups = tracks.iter().map(Track::setup).collect();
        self.probes = tracks.into_iter().map(|track| (track.name, track.probe)).collect();
        self.samples.retain(|track, _| self.probes.contains_key(track));
        self.handle(Event::Configure(setups));
    }

    fn handle(&mut self, event: Event) {
        for action in self.tracks.handle(event, clock::now()) {
            match action {
                Action::Begin { track, attempt } => self.begin(&track, attempt),
                Action::End { attempt } => drop(self.ends.remove(&attempt)),
            }
        }
        let findings = self.tracks.findings();
        self.tell.send_if_modified(|told| {
            let differs = is_news(told, &findings);
            *told = findings;
            differs
        });
    }

    fn begin(&mut self, track: &str, attempt: u64) {
        let Some(probe) = self.probes.get(track).cloned() else { return };
        let (end, ended) = oneshot::channel();
        self.ends.insert(attempt, end);
        let (track, before) = (track.to_owned(), self.samples.get(track).copied());
        self.attempts.spawn(async move {
            let (outcome, sample) = probe::look(&probe, attempt, before, ended).await;
            Ended { track, attempt, outcome, sample }
        });
    }
}

/// Whether the daemon has to do something because of it.
fn is_news(told: &[Finding], now: &[Finding]) -> bool {
    let counts = |findings: &[Finding]| -> Vec<(String, u8, Option<String>)> {
        let counts = |one: &Finding| (one.name.clone(), one.amount, one.failing.clone());
        findings.iter().map(counts).collect()
    };
    counts(told) != counts(now)
}
