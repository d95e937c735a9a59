//! Tracks, beside the daemon's loop: a thread of its own, as it starts programs and waits for them, and an election must never
//! wait for that. What is counted how is [`crate::proto::track`]'s; this begins attempts and passes on what they come to.

mod engine;
mod probe;

use crate::config::Track;
use crate::proto::event::Command;
use crate::proto::track::Finding;
use engine::Engine;
use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// The running thread. Dropping it ends it, and all attempts.
#[derive(Debug)]
pub struct Health {
    wanted: watch::Sender<Vec<Track>>,
    findings: watch::Receiver<Vec<Finding>>,
    /// The demotions that are in place, with what they add.
    placed: BTreeMap<String, u8>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Starts it, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(tracks: Vec<Track>) -> io::Result<Self> {
        let (wanted, told) = watch::channel(tracks);
        let (tell, findings) = watch::channel(Vec::new());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(Engine::new(told, tell).run());
            // Who looks at a file that does not answer is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(run)?;
        Ok(Self { wanted, findings, placed: BTreeMap::new(), thread: Some(thread) })
    }

    /// These are the tracks from now on.
    pub fn set(&self, tracks: &[Track]) {
        self.wanted.send_if_modified(|wanted| {
            let differs = *wanted != tracks;
            if differs {
                tracks.clone_into(wanted);
            }
            differs
        });
    }

    /// How it stands with them.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.borrow().clone()
    }

    /// What the node is to be told, so that each track that fails demotes it, and no other does.
    pub fn commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let findings = self.findings.borrow_and_update().clone();
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

/// Waits for other findings; for ever where there are no tracks, and after the thread has ended.
pub async fn changed(health: Option<&mut Health>) {
    let changed = match health {
        Some(Health { findings, .. }) => findings.changed().await,
        None => std::future::pending().await,
    };
    if changed.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Name of the demotion of a track.
pub fn demotion(track: &str) -> String {
    format!("track {track}")
}

impl Drop for Health {
    /// Waits for its end, which it comes to at once.
    fn drop(&mut self) {
        // The thread sees that nobody can want anything any more.
        let (gone, _) = watch::channel(Vec::new());
        drop(std::mem::replace(&mut self.wanted, gone));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
