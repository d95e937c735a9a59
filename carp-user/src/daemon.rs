//! The loop: next event, `node.handle`, dispatch; nothing else.

mod announcing;
mod answering;
mod detecting;
mod following;
mod health;
mod journal;
mod keeping;
mod links;
mod looking;
mod movable;
mod moving;
mod pair;
mod reload;
mod takeover;

pub use journal::Journal;
pub use keeping::Pending;
pub use reload::Next;

use crate::api::What;
use crate::config::{Config, Files};
use crate::health::changed as health_changed;
use crate::io::clock::{self, Alarm};
use crate::io::ear::{HeardFrame, RefusedFrame};
use crate::io::link::LinkFacts;
use crate::io::prober::Told;
use crate::proto::event::{Action, Event, HostId, HostSetup};
use crate::proto::node::Node;
use crate::proto::sync::session::SessionStage;
use crate::replication;
use crate::shells::{Prepared, Shells, wanted};
use announcing::Announcing;
use anyhow::Result;
use carp_common::id::IfIndex;
use keeping::Unconfirmed;
use moving::{Done, Moving};
use reload::{Outcome, Reading, Ready, Wish};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use takeover::{Step, TakeOvers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

/// A running node.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    node: Node,
    shells: Shells,
    alarm: Alarm,
    serving: BTreeSet<HostId>,
    /// Whether the applier has yet to hear of a change of that.
    unpublished: bool,
    /// The configuration, while it is read again.
    reading: Option<Reading>,
    /// That has to be done once more: somebody wanted it meanwhile, or a configuration could not be kept.
    missed: bool,
    /// The configuration, while it waits to be confirmed.
    unconfirmed: Option<Unconfirmed>,
    /// The list of revisions, while one is added.
    recording: Option<JoinHandle<()>>,
    /// How it stands with the other node's configuration.
    pair: pair::Pair,
    /// Names of virtual hosts that are just leaving.
    leaving: BTreeMap<HostId, String>,
    /// What takes away what they had, once the kernel holds nothing of theirs.
    prepared: Option<Prepared>,
    /// What happened.
    journal: Journal,
    take_overs: TakeOvers,
    announcing: Announcing,
    /// How it stood with replication when that was looked at last.
    sync_stage: SessionStage,
    /// A move that somebody asked for.
    moving: Option<Moving>,
}

/// The signals that a daemon obeys. One that comes while nobody waits is kept for who does next.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What woke the loop.
enum Woken {
    Link(IfIndex, LinkFacts),
    Heard(HeardFrame),
    Refused(RefusedFrame),
    Call(crate::io::control::Call),
    Failures,
    Applied,
    Replication,
    Health,
    Detected(Told),
    Read(Box<Result<Ready>>),
    Expired,
    Moved(Done),
    Alarm,
    Idle,
    Terminate,
    Hangup,
}

impl Signals {
    /// From here on they do not end the process. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    /// Opens everything and tells the node of its links.
    ///
    /// # Errors
    /// What keeps it from starting; the machine is then as it was.
    pub fn start(config: Config, journal: Journal) -> Result<Self> {
        let alarm = Alarm::new()?;
        let (shells, setup) = Shells::open(&config, clock::seed()?)?;
        let node = Node::new(setup, clock::now());
        let pair = pair::Pair::of(&config);
        let mut daemon = Self {
            config,
            node,
            shells,
            alarm,
            serving: BTreeSet::new(),
            unpublished: false,
            reading: None,
            missed: false,
            unconfirmed: None,
            recording: None,
            pair,
            leaving: BTreeMap::new(),
            prepared: None,
            journal,
            take_overs: TakeOvers::default(),
            announcing: Announcing::default(),
            sync_stage: SessionStage::default(),
            moving: None,
        };
        daemon.note(What::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        // Who resumes a lease has lost no connection: its kernel has gone on.
        if daemon.node.setups().all(|(_, host)| host.resume_until.is_none()) {
            daemon.demote_for_replication();
        }
        daemon.resume_maintenance();
        daemon.shells.track(&daemon.config, &daemon.alarm)?;
        let links: Vec<_> = daemon.shells.links.snapshot().collect();
        let events: Vec<_> = links.into_iter().map(|(link, facts)| daemon.describe(link, facts)).collect();
        // All at one moment, so that virtual hosts that are alike are due together ever after.
        let now = clock::now();
        let actions = events.into_iter().flat_map(|event| daemon.node.handle(event, now)).collect();
        daemon.prepare_to_detect(detecting::lease(daemon.node.setups().map(|(_, host)| host)));
        daemon.perform(actions);
        if let Some(prober) = &daemon.shells.prober {
            prober.go_on(daemon.node.setups().any(|(_, host)| host.resume_until.is_some()));
        }
        // Also when it serves nothing: what an earlier daemon left has to go then.
        daemon.publish();
        tracing::info!(node = daemon.config.node.name, hosts = daemon.node.setups().count(), "started");
        Ok(daemon)
    }

    /// Runs until SIGTERM or SIGINT, or until it is to go on with a configuration that needs a new start, which is then
    /// returned. SIGHUP and `carpctl reload` have it read these files again. Leaves in order: fence, bow out, clean up.
    ///
    /// # Errors
    /// What the kernel says where that is not worth a new try.
    pub async fn run(mut self, signals: &mut Signals, files: &Files) -> Result<Option<Next>> {
        let outcome = self.serve(signals, files).await;
        self.note(What::Stopping);
        self.tell(Event::Stop);
        self.shells.close();
        outcome
    }

    async fn serve(&mut self, signals: &mut Signals, files: &Files) -> Result<Option<Next>> {
        loop {
            self.alarm.set(self.node.deadline())?;
            let woken = self.next(signals).await?;
            self.alarm.woke();
            let has_heard = matches!(woken, Woken::Heard(_));
            match woken {
                Woken::Link(link, facts) => self.link(link, facts),
                Woken::Heard(heard) => self.heard(&heard),
                Woken::Refused(RefusedFrame { refusal, heard: HeardFrame { link, bytes, .. } }) => {
                    self.tell(Event::Refused { link, refusal, frame: &bytes });
                }
                Woken::Call((request, answer)) => self.call(request, answer, files),
                Woken::Failures => self.report_failures(),
                Woken::Applied => {
                    self.note_addresses();
                    self.settle();
                }
                Woken::Replication => {
                    self.note_sync();
                    self.demote_for_replication();
                }
                Woken::Health => {
                    self.hear_gates();
                    self.demote_for_tracks();
                }
                Woken::Detected(told) => self.probed(told),
                Woken::Alarm | Woken::Idle => {}
                Woken::Terminate => {
                    if self.begin_stop() {
                        return Ok(None);
                    }
                }
                Woken::Moved(done) => {
                    if self.go_on(done) {
                        return Ok(None);
                    }
                }
                Woken::Hangup => self.read(files, Wish::reload(false, "SIGHUP"), None),
                Woken::Read(read) => {
                    if let Outcome::StartAnew(next) = self.reload(*read) {
                        return Ok(Some(*next));
                    }
                }
                Woken::Expired => self.take_back(files),
            }
            if self.reading.is_none() && std::mem::take(&mut self.missed) {
                self.read(files, Wish::reload(false, "SIGHUP"), None);
            }
            self.look(has_heard)?;
            if self.node.deadline().is_some_and(|deadline| deadline <= clock::now()) {
                self.tell(Event::Tick);
            }
            self.announce();
            self.check_move();
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Result<Woken> {
        let shells = &mut self.shells;
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => Ok(Woken::Terminate),
            _ = signals.interrupt.recv() => Ok(Woken::Terminate),
            _ = signals.hangup.recv() => Ok(Woken::Hangup),
            change = shells.links.changed() => change.map(|(link, facts)| Woken::Link(link, facts)).map_err(Into::into),
            told = detecting::told(shells.prober.as_mut()) => Ok(Woken::Detected(told)),
            fired = self.alarm.fired() => fired.map(|()| Woken::Alarm).map_err(Into::into),
            heard = shells.ear.heard() => heard.map(Woken::Heard).map_err(Into::into),
            Some(call) = shells.calls.recv() => Ok(Woken::Call(call)),
            Ok(()) = shells.applier.failures.changed() => Ok(Woken::Failures),
            Ok(()) = shells.applier.applied.changed() => Ok(Woken::Applied),
            () = keeping::expired(self.unconfirmed.as_ref()) => Ok(Woken::Expired),
            done = moving::due(&mut self.moving) => Ok(Woken::Moved(done)),
            read = reload::finished(&mut self.reading) => Ok(Woken::Read(Box::new(read))),
            Ok(()) = replication::changed(shells.replication.as_mut()) => Ok(Woken::Replication),
            () = health_changed(shells.health.as_mut()) => Ok(Woken::Health),
            refused = shells.refused.refused() => refused.map(Woken::Refused).map_err(Into::into),
            () = std::future::ready(()), if !self.announcing.is_empty() => Ok(Woken::Idle),
        }
    }

    fn heard(&mut self, heard: &HeardFrame) {
        self.tell(Event::Frame { link: heard.link, at: heard.at, frame: &heard.bytes });
    }

    fn report_failures(&mut self) {
        for failure in self.shells.applier.failures.borrow_and_update().iter() {
            tracing::warn!(what = failure.what, error = %failure.error, "VIP or route");
        }
    }

    /// Tells the node, and does what it says.
    fn tell(&mut self, event: Event<'_>) {
        let actions = self.node.handle(event, clock::now()).into();
        self.perform(actions);
    }

    /// Does all this, and what follows from it, until nothing is left to do. The applier hears once of what begins or
    /// ends to be served, not of each of thousands of virtual hosts, and begins while the rest is done here.
    fn perform(&mut self, mut actions: VecDeque<Action>) {
        self.set_windows(&mut actions);
        let mut changed = false;
        while let Some(action) = actions.pop_front() {
            if self.unpublished && !matches!(action, Action::Serving { .. }) {
                self.publish();
                changed = true;
            }
            if let Some(outcome) = self.dispatch(action) {
                actions.extend(self.node.handle(outcome, clock::now()));
            }
        }
        if self.unpublished {
            self.publish();
            changed = true;
        }
        if changed {
            self.note_announced();
        }
    }

    /// Takes the windows from the front, and changes them as one.
    fn set_windows(&mut self, actions: &mut VecDeque<Action>) {
        let mut changes = Vec::new();
        while let Some(Action::Window { host, window }) = actions.front() {
            changes.push((*host, *window));
            actions.pop_front();
        }
        if let Some(shield) = &mut self.shells.shield
            && let Err(error) = shield.set_windows(&changes)
        {
            tracing::warn!(%error, "the datapath does not take a window");
        }
        let now = clock::now();
        for (host, _) in changes.iter().filter(|(_, window)| window.is_leased(now)) {
            self.take_overs.done(*host, Step::Datapath, now);
        }
    }

    /// Does one thing, and returns what is to be told of it.
    fn dispatch(&mut self, action: Action) -> Option<Event<'static>> {
        match action {
            Action::Window { host, window } => {
                self.set_windows(&mut [Action::Window { host, window }].into());
            }
            Action::Advertise { host, link, errand, frame } => {
                let at = clock::now();
                let sent = self.shells.sender.send(link, &frame);
                match &sent {
                    Ok(()) => self.take_overs.done(host, Step::Advert, clock::now()),
                    Err(error) => tracing::debug!(%error, "an advert was not sent"),
                }
                return Some(Event::Sent { host, errand, at, ok: sent.is_ok() });
            }
            Action::Send { link, frame } => {
                if let Err(error) = self.shells.sender.send(link, &frame) {
                    tracing::debug!(%error, "a frame was not sent");
                }
            }
            Action::Announce { host, link, frame } => self.announce_later(host, link, frame),
            Action::Challenge { host, challenge } => {
                if let Some(shield) = &mut self.shells.shield
                    && let Err(error) = shield.set_challenge(host, challenge)
                {
                    tracing::warn!(%error, "the datapath does not take a challenge");
                }
            }
            Action::Watch { group, watched } => self.watch(group, watched),
            Action::Changed(transition) => self.changed(transition),
            Action::Tell { host, news } => self.tell_news(host, news),
            Action::Ask(question) => self.ask_gates(&question),
            Action::Demoted(demoted) => self.demoted(demoted),
            Action::Peer { host, address, heard } => self.peer(host, address, heard),
            Action::Serving { host, serving } => self.set_serving(host, serving),
            Action::Warn { host, warning } => self.warn(host, warning),
        }
        None
    }

    fn set_serving(&mut self, host: HostId, serving: bool) {
        if serving {
            self.serving.insert(host);
        } else {
            self.serving.remove(&host);
        }
        self.unpublished = true;
        tracing::info!(virtual_host = self.label(host), serving, "serving");
        self.note_serving(host, serving);
    }

    fn publish(&mut self) {
        self.unpublished = false;
        if let Some(replication) = &self.shells.replication {
            replication.set_serving(!self.serving.is_empty());
        }
        let serving = self.node.setups().filter(|(id, _)| self.serving.contains(id));
        let wanted = wanted(serving.map(|(_, host)| host), &self.config.routes);
        self.shells.wanted.send_replace(wanted);
    }

    fn label(&self, host: HostId) -> String {
        let name = self.node.setup(host).map(HostSetup::name);
        name.or_else(|| self.leaving.get(&host).cloned()).unwrap_or_default()
    }
}
