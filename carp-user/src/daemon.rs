//! The loop: next event, `node.handle`, dispatch; nothing else.

use crate::api::{FlowQuery, Request, Response, Status, Sync};
use crate::config::Config;
use crate::io::address::Held;
use crate::io::bpf::Counters;
use crate::io::clock::{self, Alarm};
use crate::io::ear::{HeardFrame, RefusedFrame};
use crate::io::link::LinkFacts;
use crate::proto::demote;
use crate::proto::event::{Action, Command, Event, HostId, HostSetup, Transition};
use crate::proto::node::Node;
use crate::proto::sync::session::DEMOTION;
use crate::replication::Replication;
use crate::shells::Shells;
use anyhow::Result;
use carp_common::id::IfIndex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::sync::watch::error::RecvError;

/// Adverts read before time is looked at again: more than the ring holds, so a flood cannot keep
/// the node from its own deadlines.
const AT_ONCE: usize = 512;

/// A running node.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    hosts: Vec<HostSetup>,
    node: Node,
    shells: Shells,
    alarm: Alarm,
    serving: BTreeSet<HostId>,
    /// Whether the applier has yet to hear of a change of that.
    unpublished: bool,
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
    Replication,
    Alarm,
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
    pub fn start(config: Config) -> Result<Self> {
        let alarm = Alarm::new()?;
        let (shells, setup) = Shells::open(&config, clock::seed()?)?;
        let hosts = setup.hosts.clone();
        let node = Node::new(setup, clock::now());
        let mut daemon =
            Self { config, hosts, node, shells, alarm, serving: BTreeSet::new(), unpublished: false };
        // Who resumes a lease has lost no connection: its kernel has gone on.
        if daemon.hosts.iter().all(|host| host.resume_until.is_none()) {
            daemon.demote_for_replication();
        }
        let links: Vec<_> = daemon.shells.links.snapshot().collect();
        let events: Vec<_> = links.into_iter().map(|(link, facts)| daemon.describe(link, facts)).collect();
        // All at one moment, so that virtual hosts that are alike are due together ever after.
        let now = clock::now();
        let actions = events.into_iter().flat_map(|event| daemon.node.handle(event, now)).collect();
        daemon.perform(actions);
        // Also when it serves nothing: what an earlier daemon left has to go then.
        daemon.publish();
        tracing::info!(node = daemon.config.node.name, hosts = daemon.hosts.len(), "started");
        Ok(daemon)
    }

    /// Runs until SIGTERM or SIGINT, or until SIGHUP and `reread` gives another configuration,
    /// which is then returned. Leaves in order: fence, bow out, clean up.
    ///
    /// # Errors
    /// What the kernel says where that is not worth a new try.
    pub async fn run(
        mut self,
        signals: &mut Signals,
        reread: impl Fn() -> Option<Config>,
    ) -> Result<Option<Config>> {
        let outcome = self.serve(signals, reread).await;
        self.tell(Event::Stop);
        self.shells.close();
        outcome
    }

    async fn serve(
        &mut self,
        signals: &mut Signals,
        reread: impl Fn() -> Option<Config>,
    ) -> Result<Option<Config>> {
        loop {
            self.alarm.set(self.node.deadline())?;
            match self.next(signals).await? {
                Woken::Link(link, facts) => self.link(link, facts),
                Woken::Heard(heard) => self.heard(&heard),
                Woken::Refused(RefusedFrame { refusal, heard: HeardFrame { link, bytes, .. } }) => {
                    self.tell(Event::Refused { link, refusal, frame: &bytes });
                }
                Woken::Call((Request::Flows { flows }, answer)) => self.find(flows, answer),
                Woken::Call((request, answer)) => {
                    let _ = answer.send(self.answer(request));
                }
                Woken::Failures => self.report_failures(),
                Woken::Replication => self.demote_for_replication(),
                Woken::Alarm => {}
                Woken::Terminate => return Ok(None),
                Woken::Hangup => match reread() {
                    Some(config) if config == self.config => tracing::info!("the configuration is unchanged"),
                    Some(config) if config.is_but_for_sync_keys(&self.config) => self.change_keys(config),
                    Some(config) => return Ok(Some(config)),
                    None => {}
                },
            }
            // Look before you speak: whatever has arrived comes before what time asks for.
            for _ in 0..AT_ONCE {
                let Some(heard) = self.shells.ear.waiting()? else { break };
                self.heard(&heard);
            }
            if self.node.deadline().is_some_and(|deadline| deadline <= clock::now()) {
                self.tell(Event::Tick);
            }
        }
    }

    /// Nothing stops for it.
    fn change_keys(&mut self, config: Config) {
        if let (Some(replication), Some(sync)) = (&self.shells.replication, &config.sync) {
            replication.set_keys(sync.keys.clone());
        }
        self.config = config;
        tracing::info!("the keys of the sync link are those of the configuration now");
    }

    async fn next(&mut self, signals: &mut Signals) -> Result<Woken> {
        let shells = &mut self.shells;
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => Ok(Woken::Terminate),
            _ = signals.interrupt.recv() => Ok(Woken::Terminate),
            _ = signals.hangup.recv() => Ok(Woken::Hangup),
            change = shells.links.changed() => change.map(|(link, facts)| Woken::Link(link, facts)).map_err(Into::into),
            fired = self.alarm.fired() => fired.map(|()| Woken::Alarm).map_err(Into::into),
            heard = shells.ear.heard() => heard.map(Woken::Heard).map_err(Into::into),
            Some(call) = shells.calls.recv() => Ok(Woken::Call(call)),
            Ok(()) = shells.applier.failures.changed() => Ok(Woken::Failures),
            Ok(()) = demotion_changed(shells.replication.as_mut()) => Ok(Woken::Replication),
            refused = shells.refused.refused() => refused.map(Woken::Refused).map_err(Into::into),
        }
    }

    fn link(&mut self, link: IfIndex, facts: LinkFacts) {
        let event = self.describe(link, facts);
        self.tell(event);
    }

    /// Tells the datapath of a link; what to tell the node.
    fn describe(&mut self, link: IfIndex, facts: LinkFacts) -> Event<'static> {
        let name = self.shells.links.name(link).unwrap_or_default();
        tracing::debug!(interface = name, ?facts, "link");
        if facts.successor.is_some() {
            tracing::warn!(
                interface = name,
                "it was removed and made anew: reload carpd (SIGHUP) to use the new one"
            );
        }
        if let Some(shield) = &mut self.shells.shield
            && let Err(error) = shield.describe(&self.shells.links, &self.hosts)
        {
            tracing::warn!(%error, "telling the datapath of a link");
        }
        Event::Link { link, state: facts.state(self.shells.shield.is_some()) }
    }

    fn heard(&mut self, heard: &HeardFrame) {
        self.tell(Event::Frame { link: heard.link, at: heard.at, frame: &heard.bytes });
    }

    /// A node that does not have the peer's connections yet ranks lower.
    fn demote_for_replication(&mut self) {
        let Some(replication) = &mut self.shells.replication else { return };
        let (name, amount) = (DEMOTION.to_owned(), demote::FACTOR);
        let command = match replication.demotion.borrow_and_update().clone() {
            Some(reason) => Command::Demote { name, amount, reason },
            None => Command::Undemote { name },
        };
        self.tell(Event::Command(command));
    }

    fn report_failures(&mut self) {
        for failure in self.shells.applier.failures.borrow_and_update().iter() {
            tracing::warn!(address = %failure.held.address, error = %failure.error, "VIP");
        }
    }

    /// Tells the node, and does what it says.
    fn tell(&mut self, event: Event<'_>) {
        let actions = self.node.handle(event, clock::now()).into();
        self.perform(actions);
    }

    /// Does all this, and what follows from it, until nothing is left to do. The applier hears of it once at
    /// the end, not of each of thousands of virtual hosts: a change is all of the addresses.
    fn perform(&mut self, mut actions: VecDeque<Action>) {
        self.set_windows(&mut actions);
        while let Some(action) = actions.pop_front() {
            if let Some(outcome) = self.dispatch(action) {
                actions.extend(self.node.handle(outcome, clock::now()));
            }
        }
        if std::mem::take(&mut self.unpublished) {
            self.publish();
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
                if let Err(error) = &sent {
                    tracing::debug!(%error, "an advert was not sent");
                }
                return Some(Event::Sent { host, errand, at, ok: sent.is_ok() });
            }
            Action::Send { link, frame } => {
                if let Err(error) = self.shells.sender.send(link, &frame) {
                    tracing::debug!(%error, "a frame was not sent");
                }
            }
            Action::Challenge { host, challenge } => {
                if let Some(shield) = &mut self.shells.shield
                    && let Err(error) = shield.set_challenge(host, challenge)
                {
                    tracing::warn!(%error, "the datapath does not take a challenge");
                }
            }
            Action::Changed(transition) => self.log(&transition),
            Action::Tell { host, news } => tracing::info!(virtual_host = self.label(host), "{news}"),
            Action::Serving { host, serving } => self.set_serving(host, serving),
            Action::Warn { host, warning } => {
                tracing::warn!(virtual_host = self.label(host), "{warning}");
            }
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
    }

    fn publish(&self) {
        let held = |(index, host): (u32, &HostSetup)| {
            let link = host.link;
            let vips = if self.serving.contains(&HostId(index)) { host.vips.clone() } else { Vec::new() };
            vips.into_iter().map(move |address| Held { link, address })
        };
        if let Some(replication) = &self.shells.replication {
            replication.set_serving(!self.serving.is_empty());
        }
        let wanted: BTreeSet<Held> = (0..).zip(&self.hosts).flat_map(held).collect();
        self.shells.wanted.send_replace(wanted);
    }

    /// FreeBSD's form of the line, for those who search for it.
    fn log(&self, Transition { host, from, to, reason }: &Transition) {
        tracing::info!("carp: {}: {from} -> {to} ({reason})", self.label(*host));
    }

    fn label(&self, host: HostId) -> String {
        let setup = usize::try_from(host.0).ok().and_then(|index| self.hosts.get(index));
        setup.map(|setup| format!("{}@{}", setup.vhid, setup.interface)).unwrap_or_default()
    }

    /// Replication answers, when it comes to it.
    fn find(&self, flows: Vec<FlowQuery>, answer: oneshot::Sender<Response>) {
        if let Some(replication) = &self.shells.replication {
            replication.ask(flows, |standings| drop(answer.send(Response::Flows { standings })));
        } else {
            let _ = answer.send(no_replication());
        }
    }

    fn answer(&mut self, request: Request) -> Response {
        if request == Request::SyncFull {
            let Some(replication) = &self.shells.replication else { return no_replication() };
            replication.full();
            return Response::Done;
        }
        let find = |interface: &str, vhid: u8| {
            let wanted = |host: &HostSetup| host.interface == interface && host.vhid.get() == vhid;
            let index = self.hosts.iter().position(wanted)?;
            u32::try_from(index).ok().map(HostId)
        };
        match request.command(find) {
            Ok(None) => Response::Status(Box::new(self.status())),
            Ok(Some(command)) => {
                self.tell(Event::Command(command));
                Response::Done
            }
            Err(message) => Response::Error { message },
        }
    }

    fn status(&self) -> Status {
        let now = clock::now();
        let interface = |link| self.shells.links.name(link).unwrap_or_default().to_owned();
        let mut status =
            Status::of(&self.node.status(now), &self.config.node.name, |host| interface(host.link), now);
        let shield = self.shells.shield.as_ref();
        let modes = self.shells.links.snapshot().map(|(link, _)| {
            let mode = shield.map_or("off", |shield| shield.mode(link).unwrap_or("off"));
            (interface(link), mode.to_owned())
        });
        status.datapath = modes.collect::<BTreeMap<_, _>>();
        status.addresses_taken = *self.shells.applier.taken.borrow();
        let replication = self.shells.replication.as_ref();
        status.sync = replication.map(|replication| Sync::of(&replication.state(), now));
        let counters = shield.and_then(|shield| shield.counters().ok()).unwrap_or_default();
        for (slot, host) in (0..).zip(&mut status.hosts) {
            host.datapath = counters.get(&slot).map(Counters::by_name).unwrap_or_default();
            counters.get(&slot).into_iter().for_each(|counters| host.add_refused(counters));
        }
        if shield.is_some() {
            status.counters = Counters::sum(counters.values()).by_name();
        }
        status
    }
}

fn no_replication() -> Response {
    Response::Error { message: "this node replicates nothing: see [sync] in the configuration".to_owned() }
}

/// Never, where nothing is replicated.
async fn demotion_changed(replication: Option<&mut Replication>) -> Result<(), RecvError> {
    match replication {
        Some(replication) => replication.demotion.changed().await,
        None => std::future::pending().await,
    }
}
