//! From the configuration to what the node is told.

use super::{Config, Hook, HostConfig, NoSuchInterface, Sync};
use crate::proto::detect::{Aside, Detect};
use crate::proto::event::{Former, Group, HostSetup, Setup};
use carp_common::id::IfIndex;
use carp_common::map::MAX_GROUPS;

impl Config {
    /// What the node is told. `seed` starts its counters and must differ from run to run.
    ///
    /// # Errors
    /// The devices that `ifindex_of` does not know.
    pub fn setup(
        &self,
        ifindex_of: impl Fn(&str) -> Option<IfIndex>,
        seed: u64,
    ) -> Result<Setup, NoSuchInterface> {
        let mut missing = Vec::new();
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for host in &self.hosts {
            match ifindex_of(&host.device) {
                Some(link) => {
                    let (group, gate) = (self.group_of(host), Hook::gate_of(&self.hooks));
                    hosts.push(HostSetup { group, gate, ..host.setup(link) });
                }
                None if missing.contains(&host.device) => {}
                None => missing.push(host.device.clone()),
            }
        }
        if missing.is_empty() { Ok(Setup { hosts, seed, epoch: 0 }) } else { Err(NoSuchInterface(missing)) }
    }

    fn group_of(&self, host: &HostConfig) -> Option<Group> {
        let group = self.groups.iter().find(|group| Some(&group.name) == host.group.as_ref())?;
        let detect = group.detect.map(|detect| Detect { aside: self.aside(group), ..detect });
        Some(Group { detect, ..group.clone() })
    }

    /// The sync link as a path to the master of this group, if there is one beside the group's own.
    fn aside(&self, group: &Group) -> Option<Aside> {
        let sync = self.sync.as_ref().filter(|_| group.nodes == 2)?;
        let mut hosts = self.hosts.iter().filter(|host| host.group.as_ref() == Some(&group.name));
        if hosts.any(|host| host.device == sync.device) {
            return None;
        }
        // Both nodes have the same groups.
        let earlier = self.groups.iter().filter(|other| other.detect.is_some() && other.name < group.name);
        let number = u32::try_from(earlier.count()).ok().filter(|before| *before < MAX_GROUPS)? + 1;
        Some(Aside {
            number: u8::try_from(number).ok()?,
            source: sync.address,
            peer: sync.peer,
            keys: sync.keys.probe_keys(&group.name),
        })
    }

    /// The sync link, if masters are asked over it, too.
    pub fn asks_aside(&self) -> Option<&Sync> {
        let asks = self.groups.iter().any(|group| group.detect.is_some() && self.aside(group).is_some());
        self.sync.as_ref().filter(|_| asks)
    }
}

impl HostConfig {
    fn setup(&self, link: IfIndex) -> HostSetup {
        HostSetup {
            interface: self.device.clone(),
            link,
            group: None,
            vhid: self.vhid,
            vips: self.addresses.iter().map(|vip| vip.ip).collect(),
            pace: self.pace,
            preempt: self.preempt,
            gate: None,
            preempt_delay: carp_common::time::Span::secs(self.preempt_delay.into()),
            flavour: self.flavour,
            mode: self.auth,
            key: self.secret.key().clone(),
            next_key: self.next_secret.as_ref().map(|secret| secret.key().clone()),
            digest: self.digest,
            accept: self.accept.clone(),
            tos: self.tos,
            answer_ping: self.answer_ping,
            former: Former::default(),
            resume_until: None,
        }
    }
}
