//! The configuration is read again. What it changes is changed while everything else goes on; only what a running
//! daemon cannot follow makes it hand over and start anew.

use super::Daemon;
use crate::api::Response;
use crate::config::{Config, Files, NoSuchInterface};
use crate::io::clock;
use crate::io::error::chain;
use crate::proto::event::{Changes, Event};
use crate::proto::keyring;
use anyhow::{Result, anyhow, bail};
use std::collections::BTreeSet;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Files that are read, on another thread: the election does not wait for a disk.
#[derive(Debug)]
pub(super) struct Reading {
    task: JoinHandle<Result<Config, String>>,
    dry_run: bool,
    /// Who asked for it, unless it was a signal.
    answer: Option<oneshot::Sender<Response>>,
}

/// What becomes of the daemon.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Stays,
    /// It stops in order, and another starts with this configuration.
    StartAnew(Box<Config>),
}

/// What a configuration would change.
struct Plan {
    changes: Changes,
    /// In words.
    lines: Vec<String>,
    /// Why that needs a new start, if it does.
    new_start: Option<&'static str>,
}

/// Waits until the files are read; for ever when they are not. Dropping the future loses nothing.
pub(super) async fn finished(reading: &mut Option<Reading>) -> Result<Config, String> {
    match reading {
        Some(Reading { task, .. }) => task.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Begins to read the files.
    pub(super) fn read(&mut self, files: &Files, dry_run: bool, answer: Option<oneshot::Sender<Response>>) {
        if self.reading.is_some() {
            let message = "the configuration is just being read: try again";
            tracing::warn!("{message}");
            answer.map(|answer| answer.send(Response::Error { message: message.to_owned() }));
            return;
        }
        let files = files.clone();
        let read = move || files.load().map_err(|mistakes| mistakes.to_string());
        self.reading = Some(Reading { task: tokio::task::spawn_blocking(read), dry_run, answer });
    }

    /// Goes on with what was read. On an error everything stays as it is.
    pub(super) fn reload(&mut self, read: Result<Config, String>) -> Outcome {
        let Some(Reading { dry_run, answer, .. }) = self.reading.take() else { return Outcome::Stays };
        let planned = read.map_err(|mistakes| anyhow!("{mistakes}")).and_then(|config| {
            let plan = self.plan(&config)?;
            Ok((config, plan))
        });
        let (response, outcome) = match planned {
            Err(error) => (failed(&error), Outcome::Stays),
            Ok((config, Plan { changes, lines, new_start })) => {
                let done = Response::Reloaded { changes: lines, new_start: new_start.map(str::to_owned) };
                match (dry_run, new_start) {
                    (true, _) => (done, Outcome::Stays),
                    (false, Some(why)) => {
                        tracing::info!("the new configuration needs a new start: {why}");
                        (done, Outcome::StartAnew(Box::new(config)))
                    }
                    (false, None) => match self.apply(config, changes) {
                        Ok(()) => {
                            tell(&done);
                            (done, Outcome::Stays)
                        }
                        Err(error) => (failed(&error), Outcome::Stays),
                    },
                }
            }
        };
        if let (Response::Error { message }, false) = (&response, dry_run) {
            tracing::error!("the old configuration stays:\n{message}");
        }
        answer.map(|answer| answer.send(response));
        outcome
    }

    fn plan(&self, config: &Config) -> Result<Plan> {
        if *config == self.config {
            return Ok(Plan { changes: Changes::default(), lines: Vec::new(), new_start: None });
        }
        let missing =
            config.hosts.iter().map(|host| &host.device).filter(|device| !self.shells.links.exists(device));
        let missing: BTreeSet<String> = missing.cloned().collect();
        if !missing.is_empty() {
            bail!(NoSuchInterface(missing.into_iter().collect()));
        }
        let mut lines = config.difference_beside_hosts(&self.config);
        if let Some(why) = config.cannot_follow(&self.config) {
            lines.push(why.to_owned());
            return Ok(Plan { changes: Changes::default(), lines, new_start: Some(why) });
        }
        let wanted = config.setup(|name| self.shells.links.index(name), 0)?.hosts;
        let Ok(changes) = Changes::between(self.node.setups(), wanted) else {
            let why = "there is no room for so many new virtual hosts beside the old ones";
            return Ok(Plan { changes: Changes::default(), lines, new_start: Some(why) });
        };
        for (_, host) in &changes.changed {
            if keyring::is_too_much(host) {
                bail!(
                    "{}: VIPs and passwords cannot change at the same time: reload without next_password_file first, \
                     or with the VIPs of before",
                    host.name()
                );
            }
        }
        lines.extend(changes.lines(self.node.setups()));
        Ok(Plan { changes, lines, new_start: None })
    }

    /// Everything that can fail comes first, and changes nothing that is served.
    fn apply(&mut self, config: Config, changes: Changes) -> Result<()> {
        let prepared = self.shells.prepare(self.node.setups(), &changes)?;
        let leaving = changes.removed.iter().filter_map(|id| Some((*id, self.node.setup(*id)?.name())));
        self.leaving = leaving.collect();
        let actions = self.node.handle(Event::Configure(changes), clock::now());
        self.unpublished = true;
        self.perform(actions.into());
        self.leaving.clear();
        self.shells.settle(prepared, self.node.setups());
        if let (Some(replication), Some(sync)) = (&self.shells.replication, &config.sync) {
            replication.set_keys(sync.keys.clone());
        }
        self.config = config;
        Ok(())
    }
}

fn failed(error: &anyhow::Error) -> Response {
    Response::Error { message: chain(error.as_ref()) }
}

fn tell(done: &Response) {
    match done {
        Response::Reloaded { changes, .. } if changes.is_empty() => {
            tracing::info!("the configuration is unchanged");
        }
        Response::Reloaded { changes, .. } => {
            tracing::info!("reloaded: {}", changes.join("; "));
        }
        Response::Status(_) | Response::Flows { .. } | Response::Done | Response::Error { .. } => {}
    }
}
