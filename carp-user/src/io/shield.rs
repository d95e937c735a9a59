//! XDP, or tc in its place, and what belongs to it: the programs and maps, and the virtual MACs that the links receive.

use super::bpf::{Attached, Beat, Counters, Datapath, Port, Reach, Rings};
use super::clock;
use super::fdb::VirtualMacs;
use super::instance;
use super::link::Links;
use crate::proto::event::{HostId, HostSetup};
use crate::proto::keyring;
use carp_common::id::{IfIndex, virtual_mac};
use carp_common::map::{Host, HostKey, Vip, VipKey, Window};
use carp_common::sender::Challenge;
use carp_common::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// The datapath of one daemon, filled with its virtual hosts. Dropping it leaves it at work, as a
/// killed daemon does; [`Shield::close`] takes it down.
#[derive(Debug)]
pub struct Shield {
    datapath: Datapath,
    /// Number of this start.
    epoch: u32,
    macs: VirtualMacs,
    /// The sync link, where masters of groups are asked, too.
    aside: Option<IfIndex>,
}

/// Why there is no shield.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs or maps.
    #[error(transparent)]
    Bpf(#[from] super::bpf::Error),
    /// The links.
    #[error(transparent)]
    Link(#[from] super::error::Error),
    /// Another carpd has an interface, or had it.
    #[error(transparent)]
    Taken(#[from] instance::Error),
}

impl Shield {
    /// Attaches to the ports and tells the datapath of the virtual hosts. Windows that a killed daemon of this instance left open run on.
    ///
    /// # Errors
    /// The first one; what was done by then is undone.
    pub fn open<'a>(
        instance: &str,
        ports: &[Port],
        links: &Links,
        (hosts, epoch): (impl Iterator<Item = (HostId, &'a HostSetup)> + Clone, u32),
    ) -> Result<(Self, Rings), Error> {
        let macs = VirtualMacs::open()?;
        let opened = Datapath::open(instance, ports, |datapath| {
            retain(datapath, hosts.clone())?;
            describe(datapath, links, (hosts.clone(), epoch))
        });
        let (datapath, rings) = opened.map_err(name_rival)?;
        let mut shield = Self { datapath, epoch, macs, aside: None };
        match shield.receive(&hosts.map(|(_, host)| host).collect::<Vec<_>>()) {
            Ok(()) => Ok((shield, rings)),
            Err(error) => {
                drop(rings);
                shield.close().iter().for_each(|error| tracing::warn!(%error, "undoing the start"));
                Err(error.into())
            }
        }
    }

    /// Writes the windows of these virtual hosts, as one change.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_windows(&mut self, changes: &[(HostId, Window)]) -> Result<(), super::bpf::Error> {
        let changes: Vec<_> = changes.iter().map(|(host, window)| (host.0, *window)).collect();
        self.datapath.set_windows(&changes)
    }

    /// Says whose answers count for a virtual host.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_challenge(&mut self, host: HostId, challenge: Challenge) -> Result<(), super::bpf::Error> {
        self.datapath.set_challenge(host.0, challenge)
    }

    /// What a prober shares with the datapath.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn beat(&self) -> Result<Beat, super::bpf::Error> {
        self.datapath.beat()
    }

    /// Leases of an earlier daemon that still run, by slot. What cannot be read has none.
    pub fn leases(&self) -> BTreeMap<u32, Instant> {
        let now = clock::now();
        let windows = self.datapath.windows().unwrap_or_else(|error| {
            tracing::warn!(%error, "reading the windows of an earlier daemon");
            BTreeMap::new()
        });
        let running = windows.into_iter().filter(|(_, standing)| standing.window.is_leased(now));
        running.map(|(slot, standing)| (slot, Instant::from_nanos(standing.window.serve_until))).collect()
    }

    /// How it is attached to a link: `native`, `generic` or `tcx`.
    pub fn mode(&self, link: IfIndex) -> Option<&'static str> {
        self.datapath.mode_of(link).map(Attached::name)
    }

    /// What it did for each virtual host, by slot.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self) -> Result<BTreeMap<u32, Counters>, super::bpf::Error> {
        self.datapath.counters()
    }

    /// The link's MAC, addresses or forwarding changed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn describe<'a>(
        &mut self,
        links: &Links,
        hosts: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
    ) -> Result<(), super::bpf::Error> {
        describe(&mut self.datapath, links, (hosts, self.epoch))
    }

    /// Has the programs attached to more links, wherever it is run: it blocks. Nothing is served there until
    /// [`Shield::extend`].
    pub fn reach(
        &mut self,
        instance: &str,
        ports: Vec<Port>,
    ) -> impl FnOnce() -> Result<Reach, Error> + use<> {
        let (instance, leaving) = (instance.to_owned(), self.datapath.leaving());
        move || Reach::of(&instance, &ports, leaving).map_err(name_rival)
    }

    /// Goes on with more links.
    pub fn extend(&mut self, reach: Reach) {
        self.datapath.extend(reach);
    }

    /// This link is the sync link: the datapath stays on it while masters are asked there.
    pub const fn set_aside(&mut self, link: Option<IfIndex>) {
        self.aside = link;
    }

    /// The sync link.
    pub const fn aside(&self) -> Option<IfIndex> {
        self.aside
    }

    /// Leaves these virtual hosts and no others, and returns what could not be taken away. From links that have none the
    /// programs are taken off, a little later.
    pub fn retain<'a>(&mut self, hosts: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone) -> Vec<Error> {
        let kept: BTreeSet<_> = hosts.clone().map(|(_, host)| (host.link, virtual_mac(host.vhid))).collect();
        let asks_aside = hosts.clone().any(|(_, host)| host.aside().is_some());
        let retained = retain(&mut self.datapath, hosts);
        let macs = self.macs.retain(&kept).into_iter().map(Error::from);
        let links = kept.iter().map(|(link, _)| *link);
        self.datapath.leave_others(&links.chain(self.aside.filter(|_| asks_aside)).collect());
        retained.err().map(Error::from).into_iter().chain(macs).collect()
    }

    /// Has the links receive the virtual MACs of these.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&mut self, hosts: &[&HostSetup]) -> Result<(), super::error::Error> {
        hosts.iter().try_for_each(|host| self.macs.add(host.link, &host.interface, virtual_mac(host.vhid)))
    }

    /// Takes everything down, and returns what could not be.
    pub fn close(self) -> Vec<Error> {
        let mut errors: Vec<Error> = self.macs.close().into_iter().map(Error::from).collect();
        errors.extend(self.datapath.close().err().map(Error::from));
        errors
    }
}

fn retain<'a>(
    datapath: &mut Datapath,
    hosts: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
) -> Result<(), super::bpf::Error> {
    let keys = hosts.clone().map(|(_, host)| HostKey::new(host.link, host.vhid)).collect();
    let vips = hosts.flat_map(|(_, host)| host.vips.iter().map(|vip| VipKey::new(host.link, *vip)));
    datapath.retain(&keys, &vips.collect::<Vec<_>>())
}

fn describe<'a>(
    datapath: &mut Datapath,
    links: &Links,
    (hosts, epoch): (impl Iterator<Item = (HostId, &'a HostSetup)> + Clone, u32),
) -> Result<(), super::bpf::Error> {
    let by_slot = hosts.clone().map(|(HostId(slot), host)| (slot, host));
    datapath.set_group_probes(&keyring::group_probes(by_slot))?;
    let facts: BTreeMap<_, _> = links.snapshot().collect();
    for (HostId(slot), host) in hosts {
        let Some(facts) = facts.get(&host.link) else { continue };
        let auth = keyring::auth(host).at(facts.source_v4, facts.source_v6);
        datapath.set_auth(slot, &auth)?;
        datapath.set_probe_keys(slot, keyring::probe_keys(host, epoch))?;
        let router = if facts.router { Host::ROUTER } else { 0 };
        let ping = if host.answer_ping { Host::ANSWER_PING } else { 0 };
        let flags = router | ping;
        let key = HostKey::new(host.link, host.vhid);
        datapath.set_host(key, Host { slot, link_mac: facts.mac.0, flags })?;
        for vip in &host.vips {
            let entry = Vip { slot, vhid: u16::from(host.vhid.get()), flags };
            datapath.set_vip(VipKey::new(host.link, *vip), entry)?;
        }
    }
    Ok(())
}

/// An occupied interface is most often another carpd's: then its name helps more than a program's id.
fn name_rival(error: super::bpf::Error) -> Error {
    let Some((interface, instance)) = rival(&error) else { return error.into() };
    match instance::Other::running(&instance) {
        Some(other) => other.of(&interface).into(),
        None => instance::Error::Orphan { interface, instance }.into(),
    }
}

/// The interface, and the instance that has it.
fn rival(error: &super::bpf::Error) -> Option<(String, String)> {
    if let super::bpf::Error::Rival { name, instance } = error {
        return Some((name.clone(), instance.clone()));
    }
    let super::bpf::Error::Occupied { name, program, .. } = error else { return None };
    Some((name.clone(), super::bpf::instance_of(program.id)?))
}
