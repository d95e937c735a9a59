//! The virtual MACs that a link receives besides its own: static "self" forwarding entries, which
//! are the driver's unicast filter (`bridge fdb add MAC dev LINK self permanent`).

use super::error::{CAP_NET_ADMIN, Error};
use super::netlink::{AF_BRIDGE, CREATE, Request, Requests, attributes, replies, u32_at};
use carp_common::id::{IfIndex, Mac};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The entries that we hold; removed by [`VirtualMacs::close`]. They outlive a killed daemon.
#[derive(Debug)]
pub struct VirtualMacs {
    requests: Requests,
    /// By link and MAC, the link's name.
    held: BTreeMap<(IfIndex, Mac), String>,
}

impl VirtualMacs {
    /// Without entries yet, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Self, Error> {
        let failed = |source| Error::kernel("talking to the kernel about links", CAP_NET_ADMIN, source);
        Ok(Self { requests: Requests::open().map_err(failed)?, held: BTreeMap::new() })
    }

    /// Has a link receive a virtual MAC. An entry that is there already is taken over: it is left
    /// from a killed daemon, since a virtual MAC of our vhid is nobody else's on this link. Waits for
    /// the kernel's lock for links: for start and reload only.
    ///
    /// # Errors
    /// [`Error::NoUnicastFilter`], or what else the kernel says.
    pub fn add(&mut self, link: IfIndex, name: &str, mac: Mac) -> Result<(), Error> {
        match self.requests.ask(request(libc::RTM_NEWNEIGH, CREATE, link, mac)) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(explain(name, mac, error)),
            _ => {
                self.held.insert((link, mac), name.to_owned());
                Ok(())
            }
        }
    }

    /// Takes one back. An entry or a link that is gone is fine, and so is one that we do not hold.
    ///
    /// # Errors
    /// What the kernel says; the entry then still counts as held.
    pub fn remove(&mut self, link: IfIndex, mac: Mac) -> Result<(), Error> {
        let Some(name) = self.held.get(&(link, mac)) else { return Ok(()) };
        match self.requests.ask(request(libc::RTM_DELNEIGH, 0, link, mac)) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                let doing = format!("removing the virtual MAC {mac} from {name}");
                Err(Error::kernel(doing, CAP_NET_ADMIN, error))
            }
            _ => {
                self.held.remove(&(link, mac));
                Ok(())
            }
        }
    }

    /// Takes back all but these, and returns what could not be.
    pub fn retain(&mut self, kept: &BTreeSet<(IfIndex, Mac)>) -> Vec<Error> {
        let others: Vec<_> = self.held.keys().filter(|held| !kept.contains(held)).copied().collect();
        others.into_iter().filter_map(|(link, mac)| self.remove(link, mac).err()).collect()
    }

    /// Takes over an entry that a killed daemon may have left, to be removed with the others.
    pub fn adopt(&mut self, link: IfIndex, mac: Mac) {
        self.held.entry((link, mac)).or_insert_with(|| format!("interface number {link}"));
    }

    /// Takes all of them back, and returns what could not be.
    pub fn close(mut self) -> Vec<Error> {
        self.retain(&BTreeSet::new())
    }
}

/// Every entry of every link here that is as ours are.
///
/// # Errors
/// What the kernel says.
pub fn present() -> Result<BTreeSet<(IfIndex, Mac)>, Error> {
    let failed = |source| Error::kernel("reading the forwarding entries", CAP_NET_ADMIN, source);
    let entries =
        Requests::open().and_then(|mut requests| requests.dump(libc::RTM_GETNEIGH, &header(IfIndex(0))));
    let entries = entries.map_err(failed)?;
    let entry = |body: &[u8]| {
        let (_, mac) = attributes(body.get(NDMSG..)?).find(|(kind, _)| *kind == libc::NDA_LLADDR)?;
        let is_ours = body.get(10)? & libc::NTF_SELF != 0;
        is_ours.then_some((IfIndex(u32_at(body, 4)?), Mac(*mac.first_chunk()?)))
    };
    Ok(replies(&entries).filter_map(|reply| entry(reply.body)).collect())
}

/// Bytes in `struct ndmsg`.
const NDMSG: usize = 12;

fn request(kind: u16, flags: u16, link: IfIndex, mac: Mac) -> Request {
    Request::new(kind, flags, &header(link)).with(libc::NDA_LLADDR, &mac.0)
}

/// `struct ndmsg`: family and padding, link, state (NUD_PERMANENT), flags, type.
fn header(link: IfIndex) -> Vec<u8> {
    let mut header = vec![AF_BRIDGE, 0, 0, 0];
    header.extend(link.0.to_ne_bytes());
    header.extend(libc::NUD_PERMANENT.to_ne_bytes());
    header.extend([libc::NTF_SELF, 0]);
    header
}

fn explain(name: &str, mac: Mac, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => Error::NoUnicastFilter { name: name.to_owned(), mac },
        _ => Error::kernel(format!("adding the virtual MAC {mac} to {name}"), CAP_NET_ADMIN, error),
    }
}
