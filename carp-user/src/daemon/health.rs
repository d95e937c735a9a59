//! Tracks that fail demote the node, and hooks are told of its virtual hosts.

use super::Daemon;
use crate::api::{What, rank};
use crate::config::Config;
use crate::health::{Ask, Health, State};
use crate::io::clock::{self, Alarm};
use crate::proto::demote;
use crate::proto::event::{Answer, Command, Event, HostId, HostSetup, Question, Transition};
use crate::proto::status::HostStatus;
use crate::proto::sync::session::DEMOTION;
use crate::shells::Shells;
use anyhow::{Context, Result};

impl Daemon {
    /// A node that does not have the peer's connections yet ranks lower.
    pub(super) fn demote_for_replication(&mut self) {
        let Some(replication) = &mut self.shells.replication else { return };
        let (name, amount) = (DEMOTION.to_owned(), demote::FACTOR);
        let command = match replication.demotion.borrow_and_update().clone() {
            Some(reason) => Command::Demote { name, amount, reason, until: None },
            None => Command::Undemote { name },
        };
        self.tell(Event::Command(command));
    }

    /// Other findings: demotes the node by the name of each track that fails, and lifts the others.
    pub(super) fn demote_for_tracks(&mut self) {
        let commands = self.shells.health.as_mut().map(Health::commands).unwrap_or_default();
        commands.into_iter().for_each(|command| self.tell(Event::Command(command)));
    }

    /// What the gates have answered: the node knows which of it is new.
    pub(super) fn hear_gates(&mut self) {
        let answers = self.shells.health.as_mut().map(Health::answers).unwrap_or_default();
        for (name, (number, answer)) in answers {
            if let Answer::Veto(why) = &answer {
                self.note(What::Warning { text: format!("{name} is not taken over: {why}") });
            }
            self.tell(Event::Answered { number, answer });
        }
    }

    /// The node would take over.
    pub(super) fn ask_gates(&self, Question { number, host, reason }: &Question) {
        let (Some(health), Some(setup)) = (&self.shells.health, self.node.setup(*host)) else { return };
        let status = self.node.status(clock::now()).hosts.into_iter().find(|status| status.id == *host);
        let Some(HostStatus { role, effective, peer, .. }) = status else { return };
        let name = setup.grouped().map_or_else(|| setup.name(), |group| group.name.clone());
        tracing::info!(virtual_host = setup.name(), %reason, "the gate is asked");
        let state = State {
            interface: setup.interface.clone(),
            vhid: setup.vhid.get(),
            group: setup.group.as_ref().map(|group| group.name.clone()),
            role: role.name(),
            serving: false,
            reason: reason.text(),
            rank: rank(effective),
            master_rank: peer.map(|peer| rank(peer.pace)),
            wall_ms: clock::milliseconds_since_1970(),
        };
        health.ask(&name, Ask { number: *number, state });
    }

    /// A virtual host has another role.
    pub(super) fn tell_hooks_of_role(&self, transition: &Transition) {
        self.tell_hooks(transition.host, |state| {
            state.role = transition.to.name();
            state.reason = transition.reason.text();
            state.rank = rank(transition.rank);
            state.master_rank = transition.master.map(|(_, pace)| rank(pace));
        });
    }

    /// It begins or ends to serve one.
    pub(super) fn tell_hooks_of_serving(&self, host: HostId, serving: bool) {
        self.tell_hooks(host, |state| state.serving = serving);
    }

    /// Hooks that have just come learn how things are.
    pub(super) fn tell_hooks_of_all(&self) {
        for HostStatus { id, role, reason, effective, .. } in self.node.status(clock::now()).hosts {
            let serving = self.serving.contains(&id);
            self.tell_hooks(id, |state| {
                (state.role, state.serving, state.reason) = (role.name(), serving, reason.text());
                state.rank = rank(effective);
            });
        }
    }

    fn tell_hooks(&self, host: HostId, change: impl FnOnce(&mut State)) {
        let Some(health) = self.shells.health.as_ref().filter(|health| health.has_hooks()) else { return };
        let setup: Option<&HostSetup> = self.node.setup(host);
        let name = setup.map(HostSetup::name).or_else(|| self.leaving.get(&host).cloned());
        let Some(name) = name else { return };
        health.tell(&name, |state| {
            if let Some(setup) = setup {
                setup.interface.clone_into(&mut state.interface);
                state.vhid = setup.vhid.get();
                state.group = setup.group.as_ref().map(|group| group.name.clone());
            }
            state.wall_ms = clock::milliseconds_since_1970();
            change(state);
        });
    }
}

impl Shells {
    /// These tracks are looked at, and these hooks told, from now on.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn track(&mut self, config: &Config, alarm: &Alarm) -> Result<()> {
        match &self.health {
            Some(health) => health.set(config),
            None if config.tracks.is_empty() && config.hooks.is_empty() => {}
            None => {
                self.health = Some(
                    Health::start(config, alarm.worst())
                        .context("starting the thread of tracks and hooks")?,
                );
            }
        }
        Ok(())
    }
}
