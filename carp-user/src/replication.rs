//! Replication of tracked connections, beside the daemon's loop: a thread of its own, as its work comes in floods and
//! waits for the kernel, and must never keep an advert waiting. What it decides is [`crate::proto::sync`]'s; this
//! passes on what happens and does what is said.

mod engine;
mod load;
mod shifts;
mod translation;

use crate::api::{FlowQuery, FlowStanding};
use crate::config::{Sync, SyncKeys};
use crate::io::conntrack::{self, Events, Injector, Listening};
use crate::io::peer::{Peer, Place};
use crate::proto::sync::filter::Filter;
use crate::proto::sync::session::{SessionStage, Status};
use anyhow::{Context, Result, anyhow};
use engine::Engine;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// What replication is told; levels, not orders.
#[derive(Clone, Debug)]
struct Wanted {
    /// The node serves virtual hosts.
    serving: bool,
    /// Grows when somebody asks for everything once more.
    full: u64,
    /// What is good for a session.
    keys: SyncKeys,
}

/// Questions about flows that wait for an answer: as many as the control socket has connections, so there is always room.
const QUESTIONS: usize = 32;

/// What somebody wants to know.
enum Question {
    /// How it stands with flows.
    Flows { flows: Vec<FlowQuery>, answer: Box<dyn FnOnce(Vec<FlowStanding>) + Send> },
    /// When the peer has all that has changed here by now.
    Told(oneshot::Sender<()>),
}

/// What it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running(Box<Status>),
    /// It has ended, and why.
    Ended(String),
}

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub struct Replication {
    wanted: watch::Sender<Wanted>,
    /// Why this node is to rank lower, while it is.
    pub demotion: watch::Receiver<Option<String>>,
    /// How far the session with the peer is.
    pub stage: watch::Receiver<SessionStage>,
    state: watch::Receiver<State>,
    questions: mpsc::Sender<Question>,
    thread: Option<JoinHandle<()>>,
}

/// What a start needs to know.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where the peer is.
    pub sync: Sync,
    /// Name of this node.
    pub node: String,
    /// Number of this start.
    pub epoch: u32,
}

impl Replication {
    /// Starts it, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel cannot track connections or tell of them, with the option that it lacks; when the sync link or its
    /// port is not to be had.
    pub fn start(start: Start) -> Result<Self> {
        let (wanted, told) =
            watch::channel(Wanted { serving: false, full: 0, keys: start.sync.keys.clone() });
        let (reports, outcome) = sync_channel(1);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async move {
                match Engine::open(&start, told, asked) {
                    Ok((engine, ends)) => {
                        let _ = reports.send(Ok(ends));
                        engine.run().await;
                    }
                    Err(error) => {
                        let _ = reports.send(Err(error));
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("replication".to_owned()).spawn(run)?;
        let (demotion, stage, state) =
            outcome.recv().map_err(|_| anyhow!("the thread of replication ended at its start"))??;
        Ok(Self { wanted, demotion, stage, state, questions, thread: Some(thread) })
    }

    /// The node serves virtual hosts, or no longer does.
    pub fn set_serving(&self, serving: bool) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.serving, serving) != serving);
    }

    /// These keys are good from now on. A session that was made with another one is begun anew.
    pub fn set_keys(&self, keys: SyncKeys) {
        self.wanted.send_modify(|wanted| wanted.keys = keys);
    }

    /// Has both nodes tell each other everything once more.
    pub fn full(&self) {
        self.wanted.send_modify(|wanted| wanted.full += 1);
    }

    /// Has `answer` called with how it stands with these flows, in their order; never, when replication has ended.
    pub fn ask(&self, flows: Vec<FlowQuery>, answer: impl FnOnce(Vec<FlowStanding>) + Send + 'static) {
        let _ended = self.questions.try_send(Question::Flows { flows, answer: Box::new(answer) });
    }

    /// Is told once the peer has confirmed all that has changed here by now; never, when replication has ended.
    pub fn drain(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let _ended = self.questions.try_send(Question::Told(tell));
        told
    }

    /// How it is, a second old at most.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }
}

/// Waits for another demotion or another stage of the session; for ever where nothing is replicated.
///
/// # Errors
/// The thread has ended.
pub async fn changed(replication: Option<&mut Replication>) -> Result<(), watch::error::RecvError> {
    match replication {
        Some(Replication { demotion, stage, .. }) => tokio::select! {
            changed = demotion.changed() => changed,
            changed = stage.changed() => changed,
        },
        None => std::future::pending().await,
    }
}

impl Drop for Replication {
    /// Waits for its end, which it comes to at once.
    fn drop(&mut self) {
        // The thread sees that nobody can want anything any more.
        let (gone, _) = watch::channel(self.wanted.borrow().clone());
        drop(std::mem::replace(&mut self.wanted, gone));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// What the engine works with.
struct Kernel {
    events: Events,
    injector: Injector,
}

/// Checks that the kernel can do it, and switches on what it has to tell.
fn open_kernel(filter: &Filter) -> Result<(Kernel, conntrack::Settings)> {
    let settings = conntrack::probe().context("replicating connections")?;
    if conntrack::switch_events_on()? {
        tracing::info!(
            was = settings.events,
            "net.netfilter.nf_conntrack_events is 1 now, so that no connection is missed"
        );
    }
    if !settings.tcp_loose {
        tracing::debug!("net.netfilter.nf_conntrack_tcp_loose is 0: only replicated connections live on");
    }
    let injector = Injector::open(true)?;
    let events = Events::open(&Listening {
        deaf_to: vec![injector.port()],
        filter: Some(filter.clone()),
        ..Listening::default()
    })?;
    Ok((Kernel { events, injector }, settings))
}

/// Its end of the session's connection.
fn open_peer(sync: &Sync) -> Peer {
    let place = Place {
        local: (sync.address, sync.port).into(),
        peer: (sync.peer, sync.port).into(),
        device: Some(sync.device.clone()),
    };
    Peer::open(place, sync.keys.clone())
}
