//! Another configuration, while the daemon runs. What it changes is changed while everything else goes on; only what a
//! running daemon cannot follow makes it hand over and start anew.
//!
//! Three steps wait for others and are done on another thread, as the election does not: files are read and rules of
//! nftables are checked; then, once it is known what is to change, the datapath is attached to new links, and the rules are
//! loaded.

use super::journal::Journal;
use super::{Daemon, Pending};
use crate::api::{Authority, Response, What};
use crate::config::sections::{self, Section};
use crate::config::{Config, Files, Loaded, NoSuchInterface};
use crate::io::bpf::Reach;
use crate::io::clock;
use crate::io::disk::Staged;
use crate::io::error::chain;
use crate::io::nft;
use crate::proto::event::{Changes, HostSetup};
use crate::proto::keyring;
use crate::ruleset::Ruleset;
use anyhow::{Context, Result, anyhow, bail};
use carp_common::time::Span;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

/// What somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Another file in place of the shared one.
    pub file: Option<PathBuf>,
    /// Only to know what it would change.
    pub dry_run: bool,
    /// It is taken back unless somebody confirms it within this time.
    pub confirm: Option<Span>,
    /// For the list of revisions.
    pub origin: String,
    /// In whose name.
    pub by: Authority,
}

/// A wish that is worked on elsewhere.
#[derive(Debug)]
pub(super) struct Reading {
    task: JoinHandle<Result<Ready>>,
    wish: Wish,
    /// Who asked for it, unless it was a signal.
    answer: Option<oneshot::Sender<Response>>,
}

/// What has been prepared.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) config: Config,
    pub(super) ruleset: Option<Ruleset>,
    pub(super) are_rules_loaded: bool,
    /// The links that it brings, where the datapath is now.
    pub(super) reach: Option<Reach>,
    pub(super) text: String,
    pub(super) staged: Option<Staged>,
    /// Of the sections that are pushed.
    pub(super) hash: String,
    /// What it changes on the node that follows, once that has agreed.
    pub(super) agreed: Option<Vec<String>>,
    /// That has had time to get ready to be handed what this node serves.
    pub(super) is_spared: bool,
}

/// What becomes of the daemon.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Stays,
    /// It stops in order, and another starts.
    StartAnew(Box<Next>),
}

/// What the next daemon of this process starts with.
#[derive(Debug)]
pub struct Next {
    /// Its configuration.
    pub config: Config,
    /// That of the one before, should it not start.
    pub running: Config,
    /// What becomes of that once it has started.
    pub pending: Pending,
    /// What happened so far.
    pub journal: Journal,
}

/// What a configuration would change.
struct Plan {
    changes: Changes,
    /// In words.
    lines: Vec<String>,
    /// Why that needs a new start, if it does.
    new_start: Option<&'static str>,
}

impl Wish {
    /// The files as they are.
    pub fn reload(dry_run: bool, origin: &str) -> Self {
        Self { file: None, dry_run, confirm: None, origin: origin.to_owned(), by: Authority::Here }
    }
}

/// Waits until that is done; for ever when nothing is. Dropping the future loses nothing.
pub(super) async fn finished(reading: &mut Option<Reading>) -> Result<Ready> {
    match reading {
        Some(Reading { task, .. }) => task.await?,
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Begins to read the files.
    pub(super) fn read(&mut self, files: &Files, wish: Wish, answer: Option<oneshot::Sender<Response>>) {
        // Two that are to be confirmed would wait for one place.
        let waits = wish.file.is_some() && !wish.dry_run && self.unconfirmed.is_some();
        if self.reading.is_some() || waits {
            let Some(answer) = answer else {
                // A signal must not get lost: what it is about may have been read already.
                self.missed = true;
                return;
            };
            let message = if waits {
                "another configuration waits to be confirmed: confirm it, or take it back (carpctl reload), first"
            } else {
                "another configuration is just being read: try again"
            };
            let _ = answer.send(Response::Error { message: message.to_owned() });
            return;
        }
        let (files, wanted) = (files.clone(), wish.clone());
        let sections = self.sections();
        let task = spawn_blocking(move || prepare(&files, &wanted, &sections));
        self.reading = Some(Reading { task, wish, answer });
    }

    /// Goes on with what has been prepared. On an error everything stays as it is.
    pub(super) fn reload(&mut self, ready: Result<Ready>) -> Outcome {
        let Some(Reading { wish, answer, .. }) = self.reading.take() else { return Outcome::Stays };
        let agreed = ready.as_ref().is_ok_and(|ready| ready.agreed.is_some());
        self.pair.is_awaited |= agreed && !wish.dry_run;
        let are_rules_loaded = ready.as_ref().is_ok_and(|ready| ready.are_rules_loaded);
        let planned = ready.and_then(|ready| {
            self.admit(&ready, &wish)?;
            let plan = self.plan(&ready.config)?;
            if plan.new_start.is_some() && wish.confirm.is_some() && self.needs_agreement(&ready, &wish) {
                bail!("{NO_TRIAL}");
            }
            Ok((ready, plan))
        });
        let (response, outcome) = match planned {
            Err(error) => (failed(&error), Outcome::Stays),
            Ok((ready, plan)) => match self.elsewhere(ready, &plan, &wish) {
                Ok(task) => {
                    self.reading = Some(Reading { task, wish, answer });
                    return Outcome::Stays;
                }
                Err(ready) => self.carry_out(*ready, plan, wish.clone()),
            },
        };
        if are_rules_loaded && matches!(response, Response::Error { .. }) {
            self.restore_rules();
        }
        if let (Response::Error { message }, false) = (&response, wish.dry_run) {
            tracing::error!("reload: {message}");
            self.note(What::ConfigurationRefused { origin: wish.origin, message: message.clone() });
        }
        self.report(response, answer, &outcome);
        outcome
    }

    /// What has to be done where it may wait, before that can be carried out; or nothing has.
    fn elsewhere(
        &mut self,
        ready: Ready,
        plan: &Plan,
        wish: &Wish,
    ) -> std::result::Result<JoinHandle<Result<Ready>>, Box<Ready>> {
        if self.needs_agreement(&ready, wish) {
            return Ok(self.agree(ready, wish));
        }
        if plan.new_start.is_some() && self.is_to_be_spared(&ready, wish) {
            return Ok(self.spare(ready));
        }
        if wish.dry_run || plan.new_start.is_some() || ready.are_rules_loaded {
            return Err(Box::new(ready));
        }
        let reach =
            if ready.reach.is_none() { self.shells.reach(&ready.config, &plan.changes) } else { None };
        if let Some(reach) = reach {
            return Ok(spawn_blocking(move || Ok(Ready { reach: Some(reach()?), ..ready })));
        }
        if ready.ruleset != Ruleset::of(&self.config) {
            return Ok(self.load_rules(ready));
        }
        Err(Box::new(ready))
    }

    fn carry_out(&mut self, ready: Ready, plan: Plan, wish: Wish) -> (Response, Outcome) {
        let Plan { changes, mut lines, new_start } = plan;
        lines.extend(ready.agreed.clone().unwrap_or_default());
        let done = Response::Reloaded { changes: lines, new_start: new_start.map(str::to_owned) };
        match new_start {
            _ if wish.dry_run => (done, Outcome::Stays),
            Some(why) => {
                tracing::info!("the new configuration needs a new start: {why}");
                let (config, pending, _) = ready.split(wish);
                let (running, journal) = (self.config.clone(), std::mem::take(&mut self.journal));
                (done, Outcome::StartAnew(Box::new(Next { config, running, pending, journal })))
            }
            None => (self.follow(ready, changes, wish, done), Outcome::Stays),
        }
    }

    /// What is done, or why everything stays as it is.
    fn follow(&mut self, ready: Ready, changes: Changes, wish: Wish, done: Response) -> Response {
        let (config, pending, reach) = ready.split(wish);
        if let Err(error) = self.apply(config, changes, reach) {
            return failed(&error);
        }
        tell(&done);
        if let Response::Reloaded { changes, .. } = &done {
            self.note(What::Configured { origin: pending.origin.clone(), changes: changes.clone() });
        }
        self.keep(pending).map_or_else(|error| failed(&error), |()| done)
    }

    fn plan(&self, config: &Config) -> Result<Plan> {
        let links = &self.shells.links;
        let is_another = |host: &HostSetup| links.find(&host.interface).is_some_and(|now| now != host.link);
        if *config == self.config && !self.node.setups().any(|(_, host)| is_another(host)) {
            return Ok(Plan { changes: Changes::default(), lines: Vec::new(), new_start: None });
        }
        let devices = config.hosts.iter().map(|host| &host.device);
        let missing: BTreeSet<String> = devices.filter(|name| links.find(name).is_none()).cloned().collect();
        if !missing.is_empty() {
            bail!(NoSuchInterface(missing.into_iter().collect()));
        }
        let mut lines = config.difference_beside_hosts(&self.config);
        if let Some(why) = config.cannot_follow(&self.config) {
            lines.push(why.to_owned());
            return Ok(Plan { changes: Changes::default(), lines, new_start: Some(why) });
        }
        let wanted = config.setup(|name| links.find(name), 0)?.hosts;
        let Ok(changes) = Changes::between(self.node.setups(), wanted, clock::now()) else {
            let why = "there is no room for so many new virtual hosts beside the old ones";
            return Ok(Plan { changes: Changes::default(), lines, new_start: Some(why) });
        };
        for (_, host) in &changes.changed {
            if keyring::is_too_much(host) {
                bail!(
                    "{}: other nodes may sign in more ways than can be accepted: let them know the VIPs of now first \
                     (reload them, and wait a minute), or finish to change the password (without next_password_file)",
                    host.name()
                );
            }
        }
        lines.extend(changes.lines(self.node.setups()));
        Ok(Plan { changes, lines, new_start: None })
    }
}

impl Ready {
    /// The node that follows has agreed, and this is what it changes there.
    pub(super) fn agreed(self, changes: Vec<String>) -> Self {
        Self { agreed: Some(changes), ..self }
    }

    fn split(self, wish: Wish) -> (Config, Pending, Option<Reach>) {
        let Self { config, text, staged, reach, .. } = self;
        let pushed = match wish.by {
            Authority::Pushed(pushed) => Some(*pushed),
            Authority::Here | Authority::Local | Authority::Agreed => None,
        };
        (config, Pending { staged, text, origin: wish.origin, confirm: wish.confirm, pushed }, reach)
    }
}

/// Reads and checks all that can be checked beside the running daemon, and puts a new file on the disk.
fn prepare(files: &Files, wish: &Wish, sections: &[&Section]) -> Result<Ready> {
    let read = match &wish.file {
        Some(file) => files.load_in_place(file),
        None => files.load(),
    };
    let Loaded { config, text } = read.map_err(|mistakes| anyhow!("{mistakes}"))?;
    let ruleset = Ruleset::of(&config);
    if let Some(ruleset) = &ruleset {
        nft::check(ruleset)?;
    }
    let stage = || {
        let mode = fs::metadata(&files.shared).map_or(0o644, |about| about.permissions().mode() & 0o777);
        Staged::write(&files.shared, &text, mode)
            .with_context(|| format!("{} cannot be written", files.shared.display()))
    };
    let staged = (wish.file.is_some() && !wish.dry_run).then(stage).transpose()?;
    let hash = sections::hash(&config, sections);
    let (are_rules_loaded, is_spared) = (false, false);
    Ok(Ready { config, ruleset, are_rules_loaded, reach: None, text, staged, hash, agreed: None, is_spared })
}

fn failed(error: &anyhow::Error) -> Response {
    Response::Error { message: chain(error.as_ref()) }
}

fn tell(done: &Response) {
    let Response::Reloaded { changes, .. } = done else { return };
    if changes.is_empty() {
        tracing::info!("the configuration is unchanged");
    } else {
        tracing::info!("reloaded: {}", changes.join("; "));
    }
}

const NO_TRIAL: &str =
    "a node starts anew for it, and what two nodes try does not outlive that: apply it without --confirm";
