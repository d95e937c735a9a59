//! The thread's loop: what is wanted and what has ended go in, attempts begin.

use super::gates::{Answers, Gates, Questions};
use super::hooks::{self, State};
use super::late::Late;
use super::probe::{self, Sample};
use super::{States, Wanted};
use crate::config::hook::When;
use crate::config::track::Probe;
use crate::config::{Hook, Track};
use crate::io::clock::{self, Worst};
use crate::proto::notify::{self, Notice, Notices, Run};
use crate::proto::track::{Action, Event, Finding, Outcome, Tracks};
use carp_common::time::Span;
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Longest that hooks have, at the end, to be told of the last states. Policy after it: they are ended.
pub(super) const LAST: Span = Span::secs(2);

/// Everything of the thread.
pub(super) struct Engine {
    wanted: watch::Receiver<Wanted>,
    states: watch::Receiver<States>,
    questions: watch::Receiver<Questions>,
    gates: Gates,
    tell: watch::Sender<Vec<Finding>>,
    late: Late,
    tracks: Tracks,
    probes: BTreeMap<String, Probe>,
    /// Attempts that have not ended, as many as tracks at most, and those that were told to end.
    attempts: JoinSet<Ended>,
    /// What the last attempt of a track has left for its next one.
    samples: BTreeMap<String, Sample>,
    /// Dropping one ends its attempt.
    ends: BTreeMap<u64, oneshot::Sender<()>>,
    node: String,
    hooks: BTreeMap<String, Hook>,
    notices: Notices<State>,
    /// Hooks that run, one for each virtual host at most; they give its label.
    runs: JoinSet<String>,
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
    States,
    Questions,
    Answered,
    Told(String),
    Ended(Ended),
    Tick,
    /// Nobody wants anything any more.
    Gone,
}

impl Engine {
    pub(super) fn new(
        wanted: watch::Receiver<Wanted>,
        states: watch::Receiver<States>,
        (questions, answer): (watch::Receiver<Questions>, watch::Sender<Answers>),
        (tell, worst): (watch::Sender<Vec<Finding>>, Worst),
    ) -> Self {
        Self {
            wanted,
            states,
            questions,
            gates: Gates::new(answer),
            tell,
            late: Late::of(worst),
            tracks: Tracks::default(),
            probes: BTreeMap::new(),
            attempts: JoinSet::new(),
            samples: BTreeMap::new(),
            ends: BTreeMap::new(),
            node: String::new(),
            hooks: BTreeMap::new(),
            notices: Notices::default(),
            runs: JoinSet::new(),
        }
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
                Woken::States => self.take_states(),
                Woken::Questions => self.gates.take(&self.questions.borrow_and_update(), &self.node),
                Woken::Answered => {}
                Woken::Told(host) => self.notify(notify::Event::Ended(host)),
                Woken::Tick => self.handle(Event::Tick),
                Woken::Gone => return self.tell_the_last().await,
            }
        }
    }

    async fn tell_the_last(&mut self) {
        self.take_states();
        let told = async {
            while !self.notices.is_done() {
                let Some(Ok(host)) = self.runs.join_next().await else { return };
                self.notify(notify::Event::Ended(host));
            }
        };
        if tokio::time::timeout(LAST.std(), told).await.is_err() {
            tracing::warn!("some hooks have not ended after {LAST}: they are ended now");
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
            Ok(()) = self.questions.changed() => Woken::Questions,
            () = self.gates.ended() => Woken::Answered,
            Some(ended) = self.attempts.join_next() => match ended {
                Ok(ended) => Woken::Ended(ended),
                Err(_panicked) => Woken::Tick,
            },
            () = due => Woken::Tick,
            Some(Ok(host)) = self.runs.join_next() => Woken::Told(host),
            Ok(()) = self.states.changed() => Woken::States,
        }
    }

    fn configure(&mut self) {
        let Wanted { node, tracks, hooks } = self.wanted.borrow_and_update().clone();
        self.node = node;
        let (hooks, gates): (Vec<Hook>, Vec<Hook>) =
            hooks.into_iter().partition(|hook| hook.when == When::Notify);
        self.gates.set(gates);
        let names = hooks.iter().map(|hook| hook.name.clone()).collect();
        self.hooks = hooks.into_iter().map(|hook| (hook.name.clone(), hook)).collect();
        self.notify(notify::Event::Hooks(names));
        let setups = tracks.iter().map(Track::setup).collect();
        self.probes = tracks.into_iter().map(|track| (track.name, track.probe)).collect();
        self.samples.retain(|track, _| self.probes.contains_key(track));
        self.late.keep(&self.probes);
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

    fn take_states(&mut self) {
        let hosts = self.states.borrow_and_update().hosts.clone();
        let mut states: Vec<(String, Notice<State>)> = hosts.into_iter().collect();
        states.sort_by_key(|(_, notice)| notice.number);
        for (host, notice) in states {
            self.notify(notify::Event::State(host, notice));
        }
    }

    fn notify(&mut self, event: notify::Event<State>) {
        for Run { hook, host, state, before } in self.notices.handle(event) {
            let Some(hook) = self.hooks.get(&hook).cloned() else { continue };
            let node = self.node.clone();
            self.runs.spawn(async move {
                hooks::run(&hook, &host, (before.as_ref(), &state), &node).await;
                host
            });
        }
    }

    fn begin(&mut self, track: &str, attempt: u64) {
        let Some(probe) = self.probes.get(track).cloned() else { return };
        let (end, ended) = oneshot::channel();
        self.ends.insert(attempt, end);
        let late = matches!(probe, Probe::WakeUps { .. }).then(|| self.late.since_last(track));
        let (track, before) = (track.to_owned(), self.samples.get(track).copied());
        self.attempts.spawn(async move {
            let (outcome, sample) =
                probe::look(&probe, attempt, (before, late.unwrap_or_default()), ended).await;
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
