//! Tracks and hooks, beside the daemon's loop: a thread of its own, as it starts programs and waits for them, and an election must
//! never wait for that. What is counted how is [`crate::proto::track`]'s, who is told when [`crate::proto::notify`]'s; this begins
//! attempts and runs hooks, and passes on what they come to.

mod engine;
mod gates;
mod hooks;
mod late;
mod probe;

pub use gates::Answers;
pub use hooks::{Ask, State};

use crate::config::hook::When;
use crate::config::{Config, Hook, Track};
use crate::io::clock::Worst;
use crate::proto::event::Command;
use crate::proto::notify::{MOST, Notice};
use crate::proto::track::Finding;
use engine::Engine;
use gates::Questions;
use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// What the thread is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    node: String,
    tracks: Vec<Track>,
    hooks: Vec<Hook>,
}

/// How each virtual host is.
#[derive(Clone, Debug, Default)]
struct States {
    /// By its label.
    hosts: BTreeMap<String, Notice<State>>,
    /// Number of the newest.
    last: u64,
}

/// The running thread. Dropping it ends it, and all attempts; hooks are told of the last states before, as long as
/// [`engine::LAST`] allows.
#[derive(Debug)]
pub struct Health {
    wanted: watch::Sender<Wanted>,
    states: watch::Sender<States>,
    questions: watch::Sender<Questions>,
    /// What gates have answered.
    answers: watch::Receiver<Answers>,
    /// Numbers of the questions whose answers were given out, by virtual host or group.
    heard: BTreeMap<String, u64>,
    findings: watch::Receiver<Vec<Finding>>,
    /// The demotions that are in place, with what they add.
    placed: BTreeMap<String, u8>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Starts it, in the network namespace of the calling thread. `worst`: how late the daemon wakes.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(config: &Config, worst: Worst) -> io::Result<Self> {
        Self::begin(Wanted::of(config), worst)
    }

    fn begin(wanted: Wanted, worst: Worst) -> io::Result<Self> {
        let (wanted, told) = watch::channel(wanted);
        let (states, newest) = watch::channel(States::default());
        let (questions, asked) = watch::channel(Questions::new());
        let (answer, answers) = watch::channel(Answers::new());
        let (tell, findings) = watch::channel(Vec::new());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(Engine::new(told, newest, (asked, answer), (tell, worst)).run());
            // Who looks at a file that does not answer is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(run)?;
        let (heard, placed, thread) = (BTreeMap::new(), BTreeMap::new(), Some(thread));
        Ok(Self { wanted, states, questions, answers, heard, findings, placed, thread })
    }

    /// These are the tracks and hooks from now on.
    pub fn set(&self, config: &Config) {
        self.want(Wanted::of(config));
    }

    fn want(&self, new: Wanted) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != new;
            *wanted = new;
            differs
        });
    }

    /// Whether there is anybody to tell of virtual hosts.
    pub fn has_hooks(&self) -> bool {
        self.wanted.borrow().hooks.iter().any(|hook| hook.when == When::Notify)
    }

    /// Asks the gates whether this virtual host, or all of this group, may be taken over. At most [`MOST`] are kept: of the
    /// others the oldest go, which nobody waits for any more.
    pub fn ask(&self, name: &str, question: Ask) {
        self.questions.send_modify(|questions| {
            questions.insert(name.to_owned(), question);
            while questions.len() > MOST {
                let oldest = questions.iter().min_by_key(|(_, question)| question.number);
                let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { return };
                questions.remove(&oldest);
            }
        });
    }

    /// A virtual host is otherwise than it was. At most [`MOST`] are kept: those of the others that are in INIT go.
    pub fn tell(&self, label: &str, change: impl FnOnce(&mut State)) {
        self.states.send_if_modified(|states| {
            let known = states.hosts.get(label);
            let before = known.map(|notice| notice.state.clone()).unwrap_or_default();
            let mut state = before.clone();
            change(&mut state);
            if known.is_some() && (state.role, state.serving) == (before.role, before.serving) {
                return false;
            }
            if known.is_none() && states.hosts.len() >= MOST {
                states.hosts.retain(|_, notice| notice.state.role != "INIT");
            }
            states.last += 1;
            let number = states.last;
            states.hosts.insert(label.to_owned(), Notice { number, state });
            true
        });
    }

    /// What the gates have answered since this was asked last, by virtual host or group, with the number of the question.
    pub fn answers(&mut self) -> Answers {
        let mut answers = self.answers.borrow_and_update().clone();
        let numbers = answers.iter().map(|(name, (number, _))| (name.clone(), *number)).collect();
        let heard = std::mem::replace(&mut self.heard, numbers);
        answers.retain(|name, (number, _)| heard.get(name) != Some(number));
        answers
    }

    /// How it stands with them.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.borrow().clone()
    }

    /// What the node is to be told, so that each track that fails demotes it, and no other does.
    pub fn commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        // A thread that has ended finds nothing any more, and nothing stays that could not be lifted.
        let has_ended = self.findings.has_changed().is_err();
        let findings = if has_ended { Vec::new() } else { self.findings.borrow_and_update().clone() };
        let mut gone = std::mem::take(&mut self.placed);
        for Finding { name, amount, failing, .. } in findings {
            let (name, Some(reason)) = (demotion(&name), failing) else { continue };
            gone.remove(&name);
            self.placed.insert(name.clone(), amount);
            commands.push(Command::Demote { name, amount, reason, until: None });
        }
        commands.extend(gone.into_keys().map(|name| Command::Undemote { name }));
        commands
    }
}

/// Waits for other findings or answers, or for the end of the thread; for ever where nothing can follow from either.
pub async fn changed(health: Option<&mut Health>) {
    let Some(Health { findings, placed, answers, .. }) = health else { return std::future::pending().await };
    tokio::select! {
        Ok(()) = answers.changed() => {}
        found = findings.changed() => {
            if found.is_err() && placed.is_empty() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Name of the demotion of a track.
pub fn demotion(track: &str) -> String {
    format!("track {track}")
}

impl Wanted {
    fn of(config: &Config) -> Self {
        let (node, tracks, hooks) = (config.node.name.clone(), config.tracks.clone(), config.hooks.clone());
        Self { node, tracks, hooks }
    }
}

impl Drop for Health {
    /// Waits for its end, which it comes to at once, or when hooks have been told of the last states.
    fn drop(&mut self) {
        // The thread sees that nobody can want anything any more.
        let (gone, _) = watch::channel(Wanted::default());
        drop(std::mem::replace(&mut self.wanted, gone));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
