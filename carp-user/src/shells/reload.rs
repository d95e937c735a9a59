//! The shells of a daemon that goes on with other virtual hosts, on other links too.

use super::{Shells, aside, join, mode_of};
use crate::config::Config;
use crate::io::bpf::{Port, Reach};
use crate::io::group::Membership;
use crate::io::link::LinkFacts;
use crate::proto::event::{Changes, HostId, HostSetup};
use anyhow::{Result, bail};
use carp_common::id::IfIndex;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is ready for the other virtual hosts, and is put in place by [`Shells::settle`].
#[derive(Debug)]
pub struct Prepared {
    memberships: Vec<Membership>,
    /// Links that are new, for the node.
    pub links: Vec<(IfIndex, LinkFacts)>,
}

impl Shells {
    /// What attaches the datapath to the links that these changes bring, to be run where it may block; none when there is
    /// nothing to do.
    pub fn reach(
        &mut self,
        config: &Config,
        changes: &Changes,
    ) -> Option<impl FnOnce() -> Result<Reach> + use<>> {
        let (shield, mode) = (self.shield.as_mut()?, mode_of(config.node.xdp)?);
        let mut ports = Vec::<Port>::new();
        for (_, host) in &changes.added {
            let is_there =
                shield.mode(host.link).is_some() || ports.iter().any(|port| port.link == host.link);
            if !is_there {
                ports.push(Port { link: host.link, name: host.interface.clone(), mode });
            }
        }
        let aside = aside(config, &self.links, mode);
        shield.set_aside(aside.as_ref().map(|port| port.link));
        ports.extend(aside.filter(|port| shield.mode(port.link).is_none()));
        if ports.is_empty() {
            return None;
        }
        let reach = shield.reach(&config.node.name, ports);
        Some(move || Ok(reach()?))
    }

    /// Adds what the virtual hosts need that are new or are changed; those that leave still have all that they need.
    ///
    /// # Errors
    /// The first thing that is not as it should be, in words. Everything is then as it was.
    pub fn prepare<'a>(
        &mut self,
        running: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
        changes: &Changes,
        reach: Option<Reach>,
    ) -> Result<Prepared> {
        let hosts = changes.applied(running.clone());
        let vips = |hosts: &mut dyn Iterator<Item = &HostSetup>| -> BTreeSet<IpAddr> {
            hosts.flat_map(|host| host.vips.iter().copied()).collect()
        };
        self.links.set_vips(vips(&mut hosts.values()));
        let all: Vec<_> = hosts.iter().map(|(id, host)| (*id, host)).collect();
        let prepared = self.try_prepare(changes, &all, reach);
        if prepared.is_err() {
            self.links.set_vips(vips(&mut running.clone().map(|(_, host)| host)));
            let described = self.shield.as_mut().map(|shield| shield.describe(&self.links, running.clone()));
            if let Some(Err(error)) = described {
                tracing::warn!(%error, "undoing a reload");
            }
            self.retain(running);
        }
        prepared
    }

    /// The node has changed, and the kernel holds what it shall hold now: takes away what its virtual hosts do not need any
    /// more.
    pub fn settle<'a>(
        &mut self,
        prepared: Prepared,
        running: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
    ) {
        self.memberships = prepared.memberships;
        self.retain(running);
    }

    fn try_prepare(
        &mut self,
        changes: &Changes,
        hosts: &[(HostId, &HostSetup)],
        reach: Option<Reach>,
    ) -> Result<Prepared> {
        let added: Vec<&HostSetup> = changes.added.iter().map(|(_, host)| host).collect();
        let links = self.links.watch(&added.iter().map(|host| host.interface.as_str()).collect())?;
        if added.iter().any(|host| self.links.name(host.link) != Some(&host.interface)) {
            bail!("the interfaces are just changing: try again");
        }
        for (_, host) in changes.changed.iter().chain(&changes.added) {
            host.vips.iter().try_for_each(|vip| self.links.admits(host.link, *vip))?;
        }
        let memberships = join(&self.links, hosts.iter().map(|(_, host)| *host))?;
        self.marks.add(&self.instance, hosts.iter().map(|(_, host)| *host))?;
        if let Some(shield) = &mut self.shield {
            let has =
                |link| shield.mode(link).is_some() || reach.as_ref().is_some_and(|reach| reach.has(link));
            if !added.iter().all(|host| has(host.link)) {
                bail!("the interfaces are just changing: try again");
            }
            shield.receive(&added)?;
            shield.describe(&self.links, hosts.iter().copied())?;
            reach.into_iter().for_each(|reach| shield.extend(reach));
        } else {
            links.iter().try_for_each(|(link, _)| self.ear.listen(*link))?;
        }
        Ok(Prepared { memberships, links })
    }

    /// These virtual hosts and no others.
    fn retain<'a>(&mut self, hosts: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone) {
        let links = hosts.clone().map(|(_, host)| host.link).collect();
        self.links.keep(&links);
        self.ear.keep(&links);
        if let Some(shield) = &mut self.shield {
            for error in shield.retain(hosts.clone()) {
                tracing::warn!(%error, "left behind");
            }
        }
        if let Err(error) = self.marks.set(hosts.map(|(_, host)| host)) {
            tracing::warn!(%error, "writing down what this daemon has");
        }
    }
}
