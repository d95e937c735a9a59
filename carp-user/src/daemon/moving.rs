//! A move that somebody asked for: what is to be replicated is, the role is handed over, and the new master has said that it
//! serves. The loop goes on meanwhile.

use super::Daemon;
use super::movable::{BUSY, Move};
use crate::api::{Response, What, has_control};
use crate::io::clock;
use crate::io::maintenance::{self, Maintenance};
use crate::proto::demote::{self, MAINTENANCE};
use crate::proto::event::{Command, Event, HostId};
use crate::proto::standing::Standing;
use carp_common::time::{Instant, Span};
use std::io;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

/// Longest that a move waits for the peer to have all connections. Policy after it: it goes on, and says so.
const DRAIN: Span = Span::millis(500);
/// Longest that it waits for the new master to say that it serves. Policy after it: an error, with what is known.
const SERVE: Span = Span::secs(5);

/// A move that is under way; one at a time.
#[derive(Debug)]
pub(super) struct Moving {
    purpose: Purpose,
    stage: Stage,
    since: Instant,
    /// Whether everything was replicated before, where there is replication.
    drained: Option<bool>,
    /// The virtual hosts that move.
    hosts: Vec<HostId>,
    /// What the node is told then.
    command: Option<Command>,
    answer: Option<oneshot::Sender<Response>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// `carpctl failover`.
    Failover,
    /// `carpctl failover --back`, on the node that handed over.
    Return,
    /// `carpctl maintenance on`.
    Maintenance,
    /// `carpctl maintenance off`.
    EndOfMaintenance,
    /// The daemon stops.
    Stop,
}

#[derive(Debug)]
enum Stage {
    /// Its file is written or removed.
    Saving(JoinHandle<io::Result<()>>),
    /// The peer is being told of what it does not know yet.
    Draining { told: oneshot::Receiver<()>, until: Instant },
    /// The role is given away, or claimed back.
    Handing { until: Instant },
}

/// Something that a move waited for.
pub(super) enum Done {
    Saved(Result<io::Result<()>, JoinError>),
    Drained(bool),
    TooLate,
}

/// Waits for what a move waits for, but for what the node is told; for ever when there is none. Dropping the future loses
/// nothing.
pub(super) async fn due(moving: &mut Option<Moving>) -> Done {
    match moving.as_mut().map(|moving| &mut moving.stage) {
        Some(Stage::Saving(task)) => Done::Saved(task.await),
        Some(Stage::Draining { told, until }) => {
            let left = until.since(clock::now()).std();
            Done::Drained(tokio::time::timeout(left, told).await.is_ok_and(|told| told.is_ok()))
        }
        Some(Stage::Handing { until }) => {
            tokio::time::sleep(until.since(clock::now()).std()).await;
            Done::TooLate
        }
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// `carpctl failover`.
    pub(super) fn fail_over(&mut self, wanted: &Move, answer: oneshot::Sender<Response>) {
        match self.movable(wanted) {
            Err(message) => drop(answer.send(Response::Error { message })),
            Ok(hosts) => {
                self.note(What::Asked { text: format!("failover of {}", self.names(&hosts)) });
                let moving = Moving::new(Purpose::Failover, hosts, Some(answer));
                self.begin(moving);
            }
        }
    }

    /// `carpctl failover --back`.
    pub(super) fn take_back_role(&mut self, wanted: &Move, answer: oneshot::Sender<Response>) {
        let now = clock::now();
        let found = self.chosen(wanted).and_then(|hosts| {
            let held = |host: &HostId| self.node.standing(*host, now).is_some_and(|host| host.held.is_some());
            let hosts: Vec<HostId> = hosts.into_iter().filter(held).collect();
            if self.moving.is_some() {
                Err(BUSY.to_owned())
            } else if hosts.is_empty() {
                Err("nothing is held back here: run carpctl failover on the node that is master now"
                    .to_owned())
            } else {
                Ok(hosts)
            }
        });
        match found {
            Err(message) => drop(answer.send(Response::Error { message })),
            Ok(hosts) => {
                self.note(What::Asked { text: format!("failover --back of {}", self.names(&hosts)) });
                let command = Command::Reclaim { hosts: hosts.clone() };
                self.moving = Some(Moving::new(Purpose::Return, hosts, Some(answer)));
                self.tell(Event::Command(command));
            }
        }
    }

    /// `carpctl maintenance on`.
    pub(super) fn begin_maintenance(
        &mut self,
        (reason, seconds): (String, Option<u32>),
        force: bool,
        answer: oneshot::Sender<Response>,
    ) {
        if has_control(&reason) {
            let message = "a reason with control characters: write it without them, in one line".to_owned();
            return drop(answer.send(Response::Error { message }));
        }
        let now = clock::now();
        let hosts = match self.may_be_spared(force, now) {
            Ok(hosts) => hosts,
            Err(why) => {
                let message = format!("{why}; --force does it all the same");
                return drop(answer.send(Response::Error { message }));
            }
        };
        self.note(What::Asked { text: format!("maintenance: {reason}") });
        let (name, kept) = (self.config.node.name.clone(), Maintenance::begin(reason, seconds));
        let command = Some(demotion(&kept));
        let stage = Stage::Saving(tokio::task::spawn_blocking(move || kept.write(&name)));
        let moving = Moving::new(Purpose::Maintenance, hosts, Some(answer));
        self.moving = Some(Moving { stage, command, ..moving });
    }

    /// `carpctl maintenance off`.
    pub(super) fn end_maintenance(&mut self, answer: oneshot::Sender<Response>) {
        if self.moving.is_some() {
            return drop(answer.send(Response::Error { message: BUSY.to_owned() }));
        }
        self.note(What::Asked { text: "maintenance off".to_owned() });
        let name = self.config.node.name.clone();
        let stage = Stage::Saving(tokio::task::spawn_blocking(move || maintenance::remove(&name)));
        let command = Some(Command::Undemote { name: MAINTENANCE.to_owned() });
        let moving = Moving::new(Purpose::EndOfMaintenance, Vec::new(), Some(answer));
        self.moving = Some(Moving { stage, command, ..moving });
    }

    /// Has the daemon stop once the peer has all connections. Whether it may stop at once.
    pub(super) fn begin_stop(&mut self) -> bool {
        let now = clock::now();
        let serves = |id: &HostId| self.node.standing(*id, now).is_some_and(|host| host.heir.is_some());
        let hosts: Vec<HostId> = self.node.setups().map(|(id, _)| id).filter(serves).collect();
        // The second signal is for now.
        let again = self.moving.as_ref().is_some_and(|moving| moving.purpose == Purpose::Stop);
        if again || hosts.is_empty() || !self.is_in_step() {
            return true;
        }
        self.finish_move(Response::Error { message: "the daemon is stopping".to_owned() });
        self.begin(Moving::new(Purpose::Stop, hosts, None));
        false
    }

    /// Goes on with a move; whether the daemon is to stop now.
    pub(super) fn go_on(&mut self, done: Done) -> bool {
        let Some(mut moving) = self.moving.take() else { return false };
        match done {
            // A backup need not hand over; who has nobody to hand over to only ranks lower.
            Done::Saved(Ok(Ok(()))) if moving.hosts.is_empty() => {
                self.tell_command(moving.command.take());
                self.finish(moving, Response::Done);
            }
            Done::Saved(Ok(Ok(()))) => self.begin(moving),
            Done::Saved(Ok(Err(error))) => {
                let message =
                    format!("{error}: /var/lib/carp has to be writable, as maintenance outlives a boot");
                self.finish(moving, Response::Error { message });
            }
            Done::Saved(Err(error)) => self.finish(moving, Response::Error { message: error.to_string() }),
            Done::Drained(drained) => {
                moving.drained = Some(drained);
                if !drained {
                    tracing::warn!(
                        "the peer has not confirmed all connections after {DRAIN}: moving all the same"
                    );
                }
                if moving.purpose == Purpose::Stop {
                    return true;
                }
                self.hand_over(moving);
            }
            Done::TooLate => {
                let message = self.what_is_missing(&moving);
                self.finish(moving, Response::Error { message });
            }
        }
        false
    }

    /// Looks whether a move has come to its end.
    pub(super) fn check_move(&mut self) {
        let Some(Moving { stage: Stage::Handing { .. }, purpose, hosts, .. }) = &self.moving else { return };
        let now = clock::now();
        let standings: Vec<(HostId, Standing)> =
            hosts.iter().filter_map(|id| Some((*id, self.node.standing(*id, now)?))).collect();
        let is_return = *purpose == Purpose::Return;
        let back = |(_, host): &&(HostId, Standing)| host.serves;
        if !is_return && let Some((id, _)) = standings.iter().find(back) {
            let message = format!(
                "{} is served here again: the other node is demoted, or cannot take over; see carpctl events on both",
                self.names(&[*id])
            );
            return self.finish_move(Response::Error { message });
        }
        let is_done =
            |(_, host): &(HostId, Standing)| if is_return { host.serves } else { host.served_by.is_some() };
        if standings.iter().all(is_done) {
            let masters = standings.iter().map(|(id, host)| {
                let to = host.served_by.map_or_else(|| "this node".to_owned(), |master| master.to_string());
                (self.names(&[*id]), to)
            });
            let moved = masters.collect();
            let (drained, since) =
                self.moving.as_ref().map_or((None, now), |moving| (moving.drained, moving.since));
            self.finish_move(Response::Moved { moved, drained, us: now.since(since).as_micros() });
        }
    }

    /// What maintenance that began before this start does to the node.
    pub(super) fn resume_maintenance(&mut self) {
        if let Some(kept) = Maintenance::read(&self.config.node.name) {
            tracing::warn!(
                reason = kept.reason,
                "this node is in maintenance (carpctl maintenance off ends it)"
            );
            self.tell(Event::Command(demotion(&kept)));
        }
    }

    /// It is over by itself.
    pub(super) fn forget_maintenance(&self) {
        let name = self.config.node.name.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = maintenance::remove_if_over(&name) {
                tracing::warn!(%error, "removing the file of a maintenance that is over");
            }
        });
    }

    fn begin(&mut self, mut moving: Moving) {
        match self.shells.replication.as_ref().filter(|_| self.is_in_step()) {
            Some(replication) => {
                moving.stage = Stage::Draining { told: replication.drain(), until: clock::now() + DRAIN };
                self.moving = Some(moving);
            }
            None => self.hand_over(moving),
        }
    }

    /// First the role, then the demotion: a master that is demoted would tell of that.
    fn hand_over(&mut self, mut moving: Moving) {
        moving.stage = Stage::Handing { until: clock::now() + SERVE };
        let (hosts, spare) = (moving.hosts.clone(), moving.purpose == Purpose::Failover);
        let command = moving.command.take();
        self.moving = Some(moving);
        self.tell(Event::Command(Command::Cede { hosts, spare }));
        self.tell_command(command);
    }

    fn tell_command(&mut self, command: Option<Command>) {
        if let Some(command) = command {
            self.tell(Event::Command(command));
        }
    }

    fn finish_move(&mut self, response: Response) {
        if let Some(moving) = self.moving.take() {
            self.finish(moving, response);
        }
    }

    fn finish(&mut self, moving: Moving, response: Response) {
        let text = match &response {
            Response::Error { message } => message.clone(),
            Response::Moved { moved, us, .. } => {
                let moved: Vec<String> =
                    moved.iter().map(|(host, to)| format!("{host}: {to} serves")).collect();
                format!("{}, after {us} µs", moved.join("; "))
            }
            Response::Status(_)
            | Response::Flows { .. }
            | Response::Events { .. }
            | Response::Shared(_)
            | Response::Text { .. }
            | Response::Reloaded { .. }
            | Response::Done => "done".to_owned(),
        };
        self.note(What::Answered { text });
        moving.answer.map(|answer| answer.send(response));
    }

    fn what_is_missing(&self, moving: &Moving) -> String {
        let now = clock::now();
        let left = |id: &&HostId| {
            self.node.standing(**id, now).is_some_and(|host| host.served_by.is_none() && !host.serves)
        };
        let left: Vec<HostId> = moving.hosts.iter().filter(left).copied().collect();
        match moving.purpose {
            Purpose::Return => format!(
                "{} is not served here after {SERVE}: it ranks no higher than the other node, or preempt is false; \
                 see carpctl explain",
                self.names(&left)
            ),
            Purpose::Failover | Purpose::Maintenance | Purpose::EndOfMaintenance | Purpose::Stop => format!(
                "{} was handed over, and nobody has said within {SERVE} that it serves: see carpctl events on both nodes",
                self.names(&left)
            ),
        }
    }
}

impl Moving {
    fn new(purpose: Purpose, hosts: Vec<HostId>, answer: Option<oneshot::Sender<Response>>) -> Self {
        let since = clock::now();
        let stage = Stage::Handing { until: since + SERVE };
        Self { purpose, stage, since, drained: None, hosts, command: None, answer }
    }
}

fn demotion(kept: &Maintenance) -> Command {
    let left = kept.left().map(|seconds| clock::now() + Span::secs(seconds));
    let (name, reason) = (MAINTENANCE.to_owned(), kept.reason.clone());
    Command::Demote { name, amount: demote::FACTOR, reason, until: left }
}
