//! Detection at work, on a thread of its own that does nothing else, first in line for a CPU where that is allowed: it shows
//! the datapath that the daemon runs ([`Pulse`]), asks the masters that the node wants asked, and tells what becomes of them.
//! What counts is [`crate::proto::detect`]'s; answers are read where XDP writes them, so that none wakes anybody.

mod asking;

use super::bpf::Beat;
use super::{clock, privilege};
use crate::proto::detect::{Path, Pulse, Sign, Watched};
use asking::Asking;
use carp_common::auth::ProbeKey;
use carp_common::id::IfIndex;
use carp_common::map::MAX_PATHS;
use carp_common::time::{Instant, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};

/// Orders that wait. Policy when full: the daemon waits; the thread takes them at once.
const ORDERS: usize = 64;
/// Signs that wait. Policy when full: one is left out, and told again soon.
const SIGNS: usize = 64;
/// In so many parts of a lease the pulse is renewed once.
const BEATS: u64 = 8;

/// The running thread. Dropping it ends it, and the pulse with the last lease.
#[derive(Debug)]
pub struct Prober {
    orders: Option<SyncSender<Order>>,
    told: mpsc::Receiver<Told>,
    asked: watch::Receiver<Vec<Asked>>,
    thread: Option<JoinHandle<()>>,
}

/// What the daemon is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What became of the master of a group.
    Sign {
        /// Name of the group.
        group: String,
        /// What.
        sign: Sign,
        /// When it was so.
        at: Instant,
    },
    /// The pulse was not renewed in time. It begins anew after [`Prober::go_on`].
    PulseLost,
}

/// With what is asked over a path.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// By which link.
    pub link: IfIndex,
    /// What questions are signed with.
    pub key: ProbeKey,
}

/// A path that is asked, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Name of the group.
    pub group: String,
    /// The path.
    pub path: Path,
    /// From one question to the next.
    pub interval: Span,
    /// Nothing is answered there.
    pub is_silent: bool,
}

enum Order {
    Watch { group: String, watched: Option<(Watched, Vec<Means>)> },
    Lease(Span),
    GoOn { resumes: bool },
}

impl Prober {
    /// Starts it, in the network namespace of the calling thread. There is no pulse before [`Prober::go_on`].
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(beat: Beat, lease: Span) -> io::Result<Self> {
        let (orders, wanted) = sync_channel(ORDERS);
        let (tell, told) = mpsc::channel(SIGNS);
        let (show, asked) = watch::channel(Vec::new());
        let thread = Thread { beat, lease, beating: Beating::Waiting, asking: BTreeMap::new(), tell, show };
        let run = move || {
            if let Err(error) = privilege::come_first() {
                tracing::info!(%error, "detection runs at the usual priority; grant CAP_SYS_NICE if it is late under load");
            }
            thread.run(&wanted);
        };
        let thread = std::thread::Builder::new().name("detection".to_owned()).spawn(run)?;
        Ok(Self { orders: Some(orders), told, asked, thread: Some(thread) })
    }

    /// Asks this master from now on, each path with its means, or nobody for this group.
    pub fn watch(&self, group: String, watched: Option<(Watched, Vec<Means>)>) {
        self.order(Order::Watch { group, watched });
    }

    /// A pulse lasts so long from now on.
    pub fn set_lease(&self, lease: Span) {
        self.order(Order::Lease(lease));
    }

    /// The pulse begins, or begins anew: no lease is open that is not to be. `resumes`: one of the daemon before is, as far
    /// as its pulse lasts.
    pub fn go_on(&self, resumes: bool) {
        self.order(Order::GoOn { resumes });
    }

    /// What there is to tell. Dropping the future loses nothing.
    pub async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// Who is asked, where.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    fn order(&self, order: Order) {
        // It only ends when this value does.
        if let Some(orders) = &self.orders {
            let _taken = orders.send(order);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// How it stands with the pulse.
enum Beating {
    /// There is none yet.
    Waiting,
    /// It is renewed next then.
    Running { pulse: Pulse, next: Instant },
    /// It was not renewed in time; the daemon is told, or has to be.
    Lost { is_told: bool },
}

struct Thread {
    beat: Beat,
    lease: Span,
    beating: Beating,
    /// By group.
    asking: BTreeMap<String, Asking>,
    tell: mpsc::Sender<Told>,
    show: watch::Sender<Vec<Asked>>,
}

impl Thread {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let next = self.step();
            let wait = next.map(|next| next.since(clock::now()).std());
            let order = match wait {
                Some(wait) => orders.recv_timeout(wait),
                None => orders.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What is due; when something is next.
    fn step(&mut self) -> Option<Instant> {
        self.beat();
        let mut changed = false;
        for (group, asking) in &mut self.asking {
            let now = clock::now();
            if let Some(sign) = asking.look(&self.beat, now) {
                let told = Told::Sign { group: group.clone(), sign, at: now };
                let _repeated = self.tell.try_send(told);
            }
            asking.ask(now);
            changed |= asking.has_changed(now);
        }
        if changed {
            self.show_all();
        }
        let beat = match self.beating {
            Beating::Waiting | Beating::Lost { is_told: true } => None,
            Beating::Running { next, .. } => Some(next),
            Beating::Lost { is_told: false } => Some(clock::now() + Span::millis(1)),
        };
        self.asking.values().map(Asking::deadline).chain(beat).min()
    }

    fn beat(&mut self) {
        let now = clock::now();
        match self.beating {
            Beating::Running { pulse, next } if next <= now => self.renew(pulse, now),
            Beating::Lost { is_told: false } => {
                let is_told = self.tell.try_send(Told::PulseLost).is_ok();
                self.beating = Beating::Lost { is_told };
            }
            Beating::Waiting | Beating::Running { .. } | Beating::Lost { is_told: true } => {}
        }
    }

    fn renew(&mut self, pulse: Pulse, now: Instant) {
        let renewed = pulse.renewed(self.lease, now);
        if let Some(renewed) = renewed {
            self.beat.pulse(renewed.until());
        }
        // This thread may have slept since it asked for the time.
        match renewed.filter(|_| !pulse.is_late(clock::now())) {
            Some(pulse) => self.beating = Beating::Running { pulse, next: self.next(now) },
            None => {
                self.beat.pulse(Instant::ZERO);
                self.beating = Beating::Lost { is_told: false };
                self.beat();
            }
        }
    }

    fn next(&self, now: Instant) -> Instant {
        now + Span::nanos(self.lease.as_nanos() / BEATS)
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Watch { group, watched } => {
                self.asking.remove(&group);
                if let Some((watched, means)) = watched
                    && let Some(asking) = self.begin(&group, &watched, &means)
                {
                    self.asking.insert(group, asking);
                }
                self.show_all();
            }
            Order::Lease(lease) => self.lease = lease,
            Order::GoOn { resumes } => self.go_on(resumes),
        }
    }

    fn go_on(&mut self, resumes: bool) {
        if let Beating::Running { .. } = self.beating {
            return;
        }
        let now = clock::now();
        if resumes {
            return self.renew(Pulse::new(self.beat.pulse_until()), now);
        }
        let pulse = Pulse::new(now + self.lease);
        self.beat.pulse(pulse.until());
        self.beating = Beating::Running { pulse, next: self.next(now) };
    }

    /// Over all of these paths, or not at all: a master is not gone while one that is not asked may answer.
    fn begin(&self, group: &str, watched: &Watched, means: &[Means]) -> Option<Asking> {
        let taken: BTreeSet<u16> = self.asking.values().flat_map(Asking::numbers).collect();
        let most = u16::try_from(MAX_PATHS).unwrap_or(u16::MAX);
        let free: Vec<u16> = (0..most).filter(|number| !taken.contains(number)).collect();
        if means.len() < watched.paths.len() {
            tracing::warn!(group, "its master cannot be asked whether it serves: a link is not there");
            return None;
        }
        let begun = Asking::begin(watched, (means, &free), &self.beat, clock::now());
        begun
            .inspect_err(
                |error| tracing::warn!(group, %error, "its master cannot be asked whether it serves"),
            )
            .ok()
    }

    fn show_all(&mut self) {
        let asked = self.asking.iter().flat_map(|(group, asking)| {
            let paths = asking.paths();
            paths.map(|(path, is_silent)| Asked {
                group: group.clone(),
                path,
                interval: asking.interval(),
                is_silent,
            })
        });
        self.show.send_replace(asked.collect());
    }
}
