//! What the daemon says to whoever asks it by the control socket.

use super::Daemon;
use super::movable::Move;
use super::reload::Wish;
use crate::api::{FlowQuery, Probed, Request, Response, Status, Sync, Track, WakeUps};
use crate::config::Files;
use crate::io::bpf::Counters;
use crate::io::clock;
use crate::io::prober::Prober;
use crate::proto::detect::By;
use crate::proto::event::{Event, HostSetup};
use carp_common::time::Span;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

impl Daemon {
    /// Answers, at once or when there is an answer.
    pub(super) fn call(&mut self, request: Request, answer: oneshot::Sender<Response>, files: &Files) {
        match request {
            Request::Flows { flows } => self.find(flows, answer),
            Request::Failover { host, group, to, back, force } => {
                let wanted = Move { host, group, to, force };
                if back {
                    self.take_back_role(&wanted, answer);
                } else {
                    self.fail_over(&wanted, answer);
                }
            }
            Request::Maintenance { on: true, reason, for_s, force } => {
                let reason = reason.unwrap_or_else(|| "asked for by carpctl".to_owned());
                self.begin_maintenance((reason, for_s), force, answer);
            }
            Request::Maintenance { on: false, .. } => self.end_maintenance(answer),
            Request::Events { after, count } => drop(answer.send(self.journal.read(after, count))),
            Request::Reload { dry_run, by } => {
                let wish = Wish { by, ..Wish::reload(dry_run, "carpctl reload") };
                self.read(files, wish, Some(answer));
            }
            Request::Apply { file, dry_run, confirm_s, origin, by } => {
                let confirm = confirm_s.map(|seconds| Span::secs(seconds.into()));
                self.read(files, Wish { file: Some(file), dry_run, confirm, origin, by }, Some(answer));
            }
            Request::Confirm => self.confirm_both(answer),
            Request::Push => self.push(answer),
            Request::PeerText => self.peer_text(answer),
            Request::Status
            | Request::Demote { .. }
            | Request::Undemote { .. }
            | Request::Force { .. }
            | Request::Keep
            | Request::Shared { .. }
            | Request::Met { .. }
            | Request::SyncFull => {
                let _ = answer.send(self.answer(request));
            }
        }
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
        if request == Request::Keep {
            return self.confirm();
        }
        if let Request::Shared { sections } = &request {
            return Response::Shared(Box::new(self.shared(sections)));
        }
        if let Request::Met { peer } = request {
            self.pair.editor = Some((*peer, clock::now()));
            return Response::Done;
        }
        if request == Request::SyncFull {
            let Some(replication) = &self.shells.replication else { return no_replication() };
            replication.full();
            return Response::Done;
        }
        let find = |interface: &str, vhid: u8| {
            let wanted = |host: &HostSetup| host.interface == interface && host.vhid.get() == vhid;
            self.node.setups().find(|(_, host)| wanted(host)).map(|(id, _)| id)
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
        let node = self.node.status(now);
        let interface = |link| self.shells.links.name(link).unwrap_or_default().to_owned();
        let mut status = Status::of(&node, &self.config.node.name, |host| interface(host.link), now);
        let shield = self.shells.shield.as_ref();
        let modes = self.shells.links.snapshot().map(|(link, _)| {
            let mode = shield.map_or("off", |shield| shield.mode(link).unwrap_or("off"));
            (interface(link), mode.to_owned())
        });
        status.datapath = modes.collect::<BTreeMap<_, _>>();
        status.addresses_taken = *self.shells.applier.taken.borrow();
        let replication = self.shells.replication.as_ref();
        status.sync = replication.map(|replication| Sync::of(&replication.state(), now));
        let findings = self.shells.health.iter().flat_map(|health| health.findings());
        status.tracks = findings.map(|finding| Track::of(&finding, now)).collect();
        status.wakeups = Some(WakeUps::of(self.alarm.lateness()));
        let asked = self.shells.prober.iter().flat_map(Prober::asked);
        status.probed = asked
            .map(|asked| Probed {
                interface: match asked.path.by {
                    By::Host { link, .. } => interface(link),
                    By::Sync(_) => self.config.sync.iter().map(|sync| sync.device.clone()).collect(),
                },
                master: asked.path.master.to_string(),
                interval_ms: asked.interval.as_millis(),
                silent: asked.is_silent,
                group: asked.group,
            })
            .collect();
        status.config = self.config_state(now);
        status.unconfirmed_ms = self.time_to_confirm(now).map(Span::as_millis);
        let counters = shield.and_then(|shield| shield.counters().ok()).unwrap_or_default();
        for (known, host) in node.hosts.iter().zip(&mut status.hosts) {
            let counters = counters.get(&known.id.0);
            host.datapath = counters.map(Counters::by_name).unwrap_or_default();
            counters.into_iter().for_each(|counters| host.add_refused(counters));
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
