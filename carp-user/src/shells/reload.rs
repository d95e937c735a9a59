//! The shells of a daemon that goes on with other virtual hosts, on the same links.

use super::{Shells, join};
use crate::io::group::Membership;
use crate::proto::event::{Changes, HostId, HostSetup};
use anyhow::Result;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is ready for the other virtual hosts, and is put in place by [`Shells::settle`].
#[derive(Debug)]
pub struct Prepared {
    memberships: Vec<Membership>,
}

impl Shells {
    /// Adds what the virtual hosts need that are new or are changed; those that leave still have all that they need.
    ///
    /// # Errors
    /// The first thing that is not as it should be, in words. Everything is then as it was.
    pub fn prepare<'a>(
        &mut self,
        running: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
        changes: &Changes,
    ) -> Result<Prepared> {
        let hosts = changes.applied(running.clone());
        let vips = |hosts: &mut dyn Iterator<Item = &HostSetup>| -> BTreeSet<IpAddr> {
            hosts.flat_map(|host| host.vips.iter().copied()).collect()
        };
        self.links.set_vips(vips(&mut hosts.values()));
        let prepared =
            self.try_prepare(changes, &hosts.iter().map(|(id, host)| (*id, host)).collect::<Vec<_>>());
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

    /// The node has changed: takes away what its virtual hosts do not need any more.
    pub fn settle<'a>(
        &mut self,
        prepared: Prepared,
        running: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
    ) {
        self.memberships = prepared.memberships;
        self.retain(running);
    }

    fn try_prepare(&mut self, changes: &Changes, hosts: &[(HostId, &HostSetup)]) -> Result<Prepared> {
        for (_, host) in changes.changed.iter().chain(&changes.added) {
            host.vips.iter().try_for_each(|vip| self.links.admits(host.link, *vip))?;
        }
        let memberships = join(&self.links, hosts.iter().map(|(_, host)| *host))?;
        self.marks.add(hosts.iter().map(|(_, host)| *host))?;
        if let Some(shield) = &mut self.shield {
            let added: Vec<&HostSetup> = changes.added.iter().map(|(_, host)| host).collect();
            shield.receive(&added)?;
            shield.describe(&self.links, hosts.iter().copied())?;
        }
        Ok(Prepared { memberships })
    }

    /// These virtual hosts and no others.
    fn retain<'a>(&mut self, hosts: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone) {
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
