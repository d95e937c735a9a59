//! Links: what the kernel says of the configured ones, and every change of it.
//!
//! Nothing here waits for the kernel's lock for links once it is open: events are read as they
//! come, and the new look after a lost event happens on another thread.

mod table;

use super::error::{CAP_NET_ADMIN, Error};
use super::netlink::{AF_INET6, DATAGRAM, Requests, events, replies};
use super::raw::Ready;
use crate::proto::event::LinkState;
use carp_common::id::{IfIndex, Mac};
use rustix::net::RecvFlags;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use table::Table;
use tokio::task::JoinHandle;

/// A link as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Switched on, with a carrier; an operational state of "unknown" counts as up. `false` for a
    /// link that is gone or has another name now.
    pub up: bool,
    /// Its own MAC; the last known one of a link that is gone.
    pub mac: Mac,
    /// Its first primary IPv4 address that is no VIP.
    pub source_v4: Option<Ipv4Addr>,
    /// Its IPv6 address that is no VIP: the link-local one if it has one.
    pub source_v6: Option<Ipv6Addr>,
    /// The node forwards IPv6 here.
    pub router: bool,
    /// The configured name belongs to this other link now: the link was removed and made anew.
    /// The configuration must be loaded again to follow it; until then the link counts as down.
    pub successor: Option<IfIndex>,
}

impl LinkFacts {
    /// For the node; `shielded` is what the datapath says of the link.
    pub const fn state(&self, shielded: bool) -> LinkState {
        LinkState {
            up: self.up,
            mac: self.mac,
            source_v4: self.source_v4,
            source_v6: self.source_v6,
            shielded,
            router: self.router,
        }
    }
}

/// The configured links.
#[derive(Debug)]
pub struct Links {
    table: Table,
    watched: Vec<Watched>,
    vips: BTreeSet<IpAddr>,
    events: Ready,
    datagram: Box<[u8]>,
    /// An event was lost, and the others are not thrown away yet.
    lost: bool,
    /// A new look at everything, under way.
    look: Option<JoinHandle<io::Result<Table>>>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    link: IfIndex,
    told: LinkFacts,
}

impl Links {
    /// Finds the links of these names in the network namespace of the calling thread. `vips` are
    /// the VIPs of all virtual hosts: none of them is ever a source address. Call it inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`], [`Error::NotEthernet`], or what the kernel says.
    pub fn open(names: &[String], vips: BTreeSet<IpAddr>) -> Result<Self, Error> {
        let failed = |source| Error::kernel("reading the network interfaces", CAP_NET_ADMIN, source);
        // Events first: what happens during the first look is in them.
        let events = events(GROUPS).map_err(failed)?;
        let table = look().map_err(failed)?;
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| table.find(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(Error::NoSuchLink { names: missing.join(", "), existing: table.names() });
        }
        let watched =
            names.iter().map(|name| Watched::find(name, &table, &vips)).collect::<Result<_, _>>()?;
        let datagram = vec![0; DATAGRAM].into_boxed_slice();
        Ok(Self { table, watched, vips, events, datagram, lost: false, look: None })
    }

    /// The number of a configured link.
    pub fn index(&self, name: &str) -> Option<IfIndex> {
        self.watched.iter().find_map(|watched| (watched.name == name).then_some(watched.link))
    }

    /// The name of a configured link.
    pub fn name(&self, link: IfIndex) -> Option<&str> {
        self.watched.iter().find_map(|watched| (watched.link == link).then_some(watched.name.as_str()))
    }

    /// The number of the link that has this name now, configured or not.
    pub fn find(&self, name: &str) -> Option<IfIndex> {
        self.table.find(name).map(IfIndex)
    }

    /// The links that have these names now are configured too. Gives those that are new, as they are known now.
    ///
    /// # Errors
    /// As [`Links::open`]; nothing has changed then.
    pub fn watch(&mut self, names: &BTreeSet<&str>) -> Result<Vec<(IfIndex, LinkFacts)>, Error> {
        let found = names.iter().map(|name| Watched::find(name, &self.table, &self.vips));
        let found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
        let is_known = |link| self.watched.iter().any(|watched| watched.link == link);
        let new: Vec<_> = found.filter(|watched| !is_known(watched.link)).collect();
        let told = new.iter().map(|watched| (watched.link, watched.told)).collect();
        self.watched.extend(new);
        Ok(told)
    }

    /// These links are configured, and no others any more.
    pub fn keep(&mut self, links: &BTreeSet<IfIndex>) {
        self.watched.retain(|watched| links.contains(&watched.link));
    }

    /// The MTU of the link of this name, configured or not.
    pub fn mtu(&self, name: &str) -> Option<u32> {
        self.table.device(self.table.find(name)?)?.mtu
    }

    /// The configured links as they are known now, in the order of the names.
    pub fn snapshot(&self) -> impl Iterator<Item = (IfIndex, LinkFacts)> {
        self.watched.iter().map(|watched| (watched.link, watched.told))
    }

    /// The VIPs of all virtual hosts are these: the sources that change by that are told as changes.
    pub fn set_vips(&mut self, vips: BTreeSet<IpAddr>) {
        self.vips = vips;
    }

    /// Whether a VIP can work on a link: its family is switched on there and, once the link is up,
    /// has an address. A link that is down may still get one.
    ///
    /// # Errors
    /// [`Error::Ipv6Disabled`] or [`Error::NoAddress`].
    pub fn admits(&self, link: IfIndex, vip: IpAddr) -> Result<(), Error> {
        let name = self.name(link).unwrap_or_default().to_owned();
        if vip.is_ipv6() && ipv6_is_off(&name) {
            return Err(Error::Ipv6Disabled { name, vip });
        }
        let up = self.table.device(link.0).is_some_and(table::Device::up);
        if up && !self.table.has_family_of(link.0, vip, &self.vips) {
            let family = if vip.is_ipv6() { "IPv6" } else { "IPv4" };
            return Err(Error::NoAddress { name, vip, family });
        }
        Ok(())
    }

    /// Waits until one of the links is not as it was told last, and tells. Changes that undo each
    /// other are told unless the kernel told them in one breath. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the kernel says; it is not worth a new try.
    pub async fn changed(&mut self) -> io::Result<(IfIndex, LinkFacts)> {
        loop {
            if let Some(change) = self.difference() {
                return Ok(change);
            }
            if self.lost {
                self.throw_away().await?;
            } else if let Some(look) = &mut self.look {
                let table = look.await.map_err(io::Error::other);
                self.look = None;
                self.table = table??;
            } else {
                self.read_event().await?;
            }
        }
    }

    /// Until something has happened that can make a difference: a thousand VIPs that come or go make none.
    async fn read_event(&mut self) -> io::Result<()> {
        let mut matters = false;
        while !matters {
            let datagram = &mut self.datagram;
            match self.events.read(|fd| receive(fd, datagram)).await {
                Ok(len) => {
                    for reply in replies(self.datagram.get(..len).unwrap_or(&[])) {
                        self.table.apply(&reply);
                        matters |= !table::address_of(&reply).is_some_and(|ip| self.vips.contains(&ip));
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.lost = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the socket empty, which makes the kernel deliver again, and starts a new look.
    async fn throw_away(&mut self) -> io::Result<()> {
        /// Events at a time, about a millisecond; then the rest of the daemon has its turn.
        const PORTION: usize = 1024;
        for _event in 0..PORTION {
            match receive(self.events.as_fd(), &mut self.datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lost = false;
                    self.look = Some(tokio::task::spawn_blocking(look));
                    return Ok(());
                }
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return Err(error),
                _ => {}
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn difference(&mut self) -> Option<(IfIndex, LinkFacts)> {
        let (table, vips) = (&self.table, &self.vips);
        self.watched.iter_mut().find_map(|watched| {
            let facts = watched.facts(table, vips);
            (facts != watched.told).then(|| {
                watched.told = facts;
                (watched.link, facts)
            })
        })
    }
}

impl Watched {
    fn find(name: &str, table: &Table, vips: &BTreeSet<IpAddr>) -> Result<Self, Error> {
        let name = name.to_owned();
        let Some(index) = table.find(&name) else {
            return Err(Error::NoSuchLink { names: name, existing: table.names() });
        };
        let Some(mac) = table.device(index).and_then(|device| device.mac) else {
            return Err(Error::NotEthernet { name });
        };
        let unknown =
            LinkFacts { up: false, mac, source_v4: None, source_v6: None, router: false, successor: None };
        let mut watched = Self { name, link: IfIndex(index), told: unknown };
        watched.told = watched.facts(table, vips);
        Ok(watched)
    }

    fn facts(&self, table: &Table, vips: &BTreeSet<IpAddr>) -> LinkFacts {
        let index = self.link.0;
        let gone = LinkFacts {
            up: false,
            source_v4: None,
            source_v6: None,
            router: false,
            successor: table.find(&self.name).map(IfIndex),
            ..self.told
        };
        let Some(device) = table.device(index).filter(|device| device.name == self.name) else {
            return gone;
        };
        LinkFacts {
            up: device.up(),
            mac: device.mac.unwrap_or(self.told.mac),
            source_v4: table.source_v4(index, vips),
            source_v6: table.source_v6(index, vips),
            router: table.is_router(index),
            successor: None,
        }
    }
}

fn receive(fd: BorrowedFd<'_>, datagram: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd, &mut *datagram, RecvFlags::DONTWAIT)?.0)
}

/// Bits of `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV6_IFADDR` and `_IPV6_NETCONF`; the last tells when
/// forwarding is switched on or off.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 24;

/// The names of the links here that CARP can run on; may wait for the kernel's lock for links.
///
/// # Errors
/// What the kernel says.
pub fn ethernets() -> Result<Vec<String>, Error> {
    let table = look();
    let failed = |source| Error::kernel("reading the network interfaces", CAP_NET_ADMIN, source);
    Ok(table.map_err(failed)?.ethernets())
}

/// Everything, from the kernel; may wait for its lock for links.
fn look() -> io::Result<Table> {
    let mut requests = Requests::open()?;
    // struct ifinfomsg and struct ifaddrmsg of any family, struct netconfmsg of IPv6.
    let links = requests.dump(libc::RTM_GETLINK, &[0; 16])?;
    let addresses = requests.dump(libc::RTM_GETADDR, &[0; 8])?;
    // A kernel without IPv6 has none of these.
    let settings = requests.dump(libc::RTM_GETNETCONF, &[AF_INET6, 0, 0, 0]).unwrap_or_default();
    let mut table = Table::default();
    for list in [links, addresses, settings] {
        replies(&list).for_each(|reply| table.apply(&reply));
    }
    Ok(table)
}

/// The kernel has no IPv6, or it is switched off on this link.
fn ipv6_is_off(name: &str) -> bool {
    let setting = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
    setting.map_or(true, |value| value.trim() != "0")
}
