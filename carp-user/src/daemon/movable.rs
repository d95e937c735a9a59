//! What can be moved, and what is against it, in words.

use super::Daemon;
use crate::api::VirtualHost;
use crate::io::clock;
use crate::proto::event::{Group, HostId, HostSetup, Role};
use crate::proto::standing::Standing;
use crate::proto::sync::session::SessionStage;
use crate::replication::State;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// An heir of ours asks its master once in a lease: one that missed two is not there any more.
const MISSED: u64 = 2;

/// One move at a time.
pub(super) const BUSY: &str = "another move is under way: try again";

/// What somebody wants to move.
#[derive(Clone, Debug, Default)]
pub(super) struct Move {
    /// This virtual host, or all of the node.
    pub host: Option<VirtualHost>,
    /// This group, or all of the node.
    pub group: Option<String>,
    /// To the node of this name or address.
    pub to: Option<String>,
    /// Although the peer lacks connections.
    pub force: bool,
}

impl Daemon {
    /// Those that this is about and that can move, or why not.
    pub(super) fn movable(&self, wanted: &Move) -> Result<Vec<HostId>, String> {
        if self.moving.is_some() {
            return Err(BUSY.to_owned());
        }
        let (now, chosen) = (clock::now(), self.chosen(wanted)?);
        let serves = |id: &HostId| self.node.standing(*id, now).is_some_and(|host| host.serves);
        let hosts: Vec<HostId> = chosen.iter().copied().filter(serves).collect();
        if hosts.is_empty() {
            return Err(format!(
                "this node does not serve {}: run it on the node that does",
                self.names(&chosen)
            ));
        }
        let heirs = self.heirs(&hosts, now)?;
        if let Some(to) = &wanted.to {
            self.is_meant(to, &heirs)?;
        }
        if !wanted.force {
            self.replication_is_fit().map_err(|why| format!("{why}; --force moves all the same"))?;
        }
        Ok(hosts)
    }

    /// What this node has to hand over to go into maintenance, or what is against that.
    pub(super) fn may_be_spared(&self, force: bool, now: Instant) -> Result<Vec<HostId>, String> {
        if self.moving.is_some() {
            return Err(BUSY.to_owned());
        }
        let all = self.node.setups().filter_map(|(id, _)| Some((id, self.node.standing(id, now)?)));
        let all: Vec<(HostId, Standing)> = all.collect();
        let serving: Vec<HostId> = all.iter().filter(|(_, host)| host.serves).map(|(id, _)| *id).collect();
        if force {
            // One that has nobody to take over would only be away for a while.
            return Ok(serving.into_iter().filter(|id| self.heirs(&[*id], now).is_ok()).collect());
        }
        self.heirs(&serving, now)?;
        let alone = |(id, host): &&(HostId, Standing)| {
            let dead = self.node.setup(*id).map_or(Span::ZERO, |host| host.pace.dead());
            host.role == Role::Backup && host.master.is_none_or(|(_, age)| age > dead)
        };
        if let Some((id, _)) = all.iter().find(alone) {
            return Err(format!("{}: no master is heard", self.names(&[*id])));
        }
        if all.iter().any(|(_, host)| host.role == Role::Master && !host.serves) {
            return Err("this node is just taking over: try again".to_owned());
        }
        self.replication_is_fit()?;
        Ok(serving)
    }

    /// Who would take these over, or the first of them that nobody would.
    fn heirs(&self, hosts: &[HostId], now: Instant) -> Result<Vec<IpAddr>, String> {
        let heir = |id: &HostId| {
            let name = || self.names(&[*id]);
            let lease = self.node.setup(*id).map_or(Span::ZERO, |host| host.pace.longest_lease());
            match self.node.standing(*id, now).and_then(|host| host.heir) {
                None => Err(format!(
                    "{}: no node is heard that can be handed the role without a gap (one of ours, which has asked for it)",
                    name()
                )),
                Some((heir, age)) if age > lease.times(MISSED) => {
                    Err(format!("{}: {heir} has said nothing for {age}: does carpd run there?", name()))
                }
                Some((heir, _)) => Ok(heir),
            }
        };
        hosts.iter().map(heir).collect()
    }

    /// Whether these heirs are the node that is meant by this name or address.
    fn is_meant(&self, to: &str, heirs: &[IpAddr]) -> Result<(), String> {
        let state = self.shells.replication.as_ref().map(|replication| replication.state());
        let is_name = match &state {
            Some(State::Running(status)) => status.link.peer() == Some(to),
            Some(State::Ended(_)) | None => false,
        };
        let is_link = self.config.sync.as_ref().is_some_and(|sync| sync.peer.to_string() == to);
        let is_heir = |heir: &IpAddr| heir.to_string() == to;
        if is_name || is_link || heirs.iter().any(is_heir) {
            return Ok(());
        }
        let heirs: Vec<String> = heirs.iter().map(ToString::to_string).collect();
        Err(format!(
            "{to} is not the node that can take over without a gap, which is {}: demote that one first (carpctl demote \
             there), and wait until {to} is the heir (carpctl explain)",
            heirs.join(", ")
        ))
    }

    /// Whether the peer has all connections, as far as it is to have them.
    fn replication_is_fit(&self) -> Result<(), String> {
        match &self.shells.replication {
            Some(replication) if !self.is_in_step() => Err(format!(
                "the other node does not have all connections (sync is {}): see carpctl sync",
                replication.stage.borrow().name()
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn is_in_step(&self) -> bool {
        let replication = self.shells.replication.as_ref();
        replication.is_some_and(|replication| *replication.stage.borrow() == SessionStage::InStep)
    }

    /// With all that moves as one with them.
    pub(super) fn chosen(&self, Move { host, group, .. }: &Move) -> Result<Vec<HostId>, String> {
        let is_named = |it: &HostSetup| {
            host.as_ref().is_none_or(|host| it.interface == host.interface && it.vhid.get() == host.vhid)
                && group
                    .as_ref()
                    .is_none_or(|name| it.group.as_ref().is_some_and(|group| group.name == *name))
        };
        let named = self.node.setups().filter(|(_, host)| is_named(host));
        let as_one: Vec<&Group> = named.filter_map(|(_, host)| host.grouped()).collect();
        let is_meant =
            |it: &HostSetup| is_named(it) || it.grouped().is_some_and(|group| as_one.contains(&group));
        let hosts: Vec<HostId> =
            self.node.setups().filter(|(_, host)| is_meant(host)).map(|(id, _)| id).collect();
        match (host, group) {
            (Some(VirtualHost { interface, vhid }), _) if hosts.is_empty() => {
                Err(format!("no virtual host {interface}@{vhid}: see `carpctl status`"))
            }
            (None, Some(group)) if hosts.is_empty() => Err(format!("no group {group}: see `carpctl status`")),
            (Some(_) | None, Some(_) | None) => Ok(hosts),
        }
    }

    /// For people.
    pub(super) fn names(&self, hosts: &[HostId]) -> String {
        let name = |id: &HostId| self.node.setup(*id).map(|host| format!("{}@{}", host.interface, host.vhid));
        hosts.iter().filter_map(name).collect::<Vec<_>>().join(", ")
    }
}
