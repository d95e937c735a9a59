//! The addresses that this node should hold now.
//!
//! A VIP is added as a /32 or /128 without a prefix route and without duplicate address detection;
//! for IPv6 as a deprecated address, so that the kernel does not choose it as a source (RFC 6724
//! rule 3; as the longest prefix it would win rule 8). It carries [`PROTOCOL`] as its origin, so that the
//! next start knows what a killed daemon left behind; kernels before 5.18 do not keep that, there
//! every configured VIP without a prefix route counts as ours.

use super::error::{CAP_NET_ADMIN, Error};
use super::netlink::{AF_INET, AF_INET6, CREATE, Reply, Request, Requests};
use super::netlink::{attributes, ip, replies, u32_at};
use crate::proto::sync::rule::Prefix;
use carp_common::id::IfIndex;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// Origin of our addresses and routes (`ip address show` prints `proto 112`); CARP's protocol number.
pub const PROTOCOL: u8 = 112;

/// A VIP on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The link that carries it.
    pub link: IfIndex,
    /// The VIP.
    pub address: IpAddr,
}

/// An address that the kernel did not add or remove.
#[derive(Debug)]
pub struct Failure {
    /// Which one.
    pub held: Held,
    /// It should be there, or else be gone.
    pub wanted: bool,
    /// What the kernel said, and what to do.
    pub error: Error,
}

/// Makes the kernel agree with a set of addresses. Blocks.
#[derive(Debug)]
pub struct Addresses {
    requests: Requests,
    /// Added by us, now or before a crash, and not known to be gone.
    ours: BTreeSet<Held>,
    strangers: BTreeSet<Held>,
    /// How many of ours somebody else has taken away while they were wanted.
    taken: u64,
}

impl Addresses {
    /// Takes over those of the `configured` VIPs that a killed daemon left behind; the next
    /// [`Addresses::apply`] removes the ones that are not wanted any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(configured: &BTreeSet<Held>) -> Result<Self, Error> {
        let failed = |source| Error::kernel("reading the addresses", CAP_NET_ADMIN, source);
        let mut requests = Requests::open().map_err(failed)?;
        let found = present(&mut requests).map_err(failed)?;
        let of = |ours: bool| {
            let those = found.iter().filter(move |found| found.ours() == ours).map(|found| found.held);
            those.filter(|held| configured.contains(held)).collect()
        };
        Ok(Self { ours: of(true), strangers: of(false), requests, taken: 0 })
    }

    /// Those that a daemon of ours has put there, this one or a killed one.
    pub const fn ours(&self) -> &BTreeSet<Held> {
        &self.ours
    }

    /// Configured VIPs that somebody else had put on their link before this daemon started. Both
    /// nodes then answer for them at all times: worth a warning.
    pub const fn strangers(&self) -> &BTreeSet<Held> {
        &self.strangers
    }

    /// Adds what is wanted and missing, removes what is ours and not wanted, leaves everything else.
    /// Some may fail; the same call again tries only what is left to do.
    pub fn apply(&mut self, wanted: &BTreeSet<Held>) -> Vec<Failure> {
        // Others take addresses away too, and a link that goes down loses its IPv6 ones. Without this
        // look, everything is asked for.
        let found = present(&mut self.requests);
        let is_seen = found.is_ok();
        let found = found.unwrap_or_default();
        let there = found.iter().filter(|found| found.is_whole()).map(|found| found.held);
        let there = there.collect::<BTreeSet<_>>();
        if is_seen {
            self.miss(wanted, &there);
        }
        let gone = self.ours.difference(wanted).copied().collect::<Vec<_>>();
        let mut failures = self.ask(&gone, false);
        self.ours.extend(wanted.intersection(&there));
        let missing = wanted.difference(&there).copied().collect::<Vec<_>>();
        failures.extend(self.ask(&missing, true));
        failures
    }

    /// How many of ours somebody else has taken away so far.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Counts and names those that were there and are not: the next lines put them back.
    fn miss(&mut self, wanted: &BTreeSet<Held>, there: &BTreeSet<Held>) {
        let missed = self.ours.intersection(wanted).copied().filter(|held| !there.contains(held));
        for held in missed.collect::<Vec<_>>() {
            self.ours.remove(&held);
            // A link that is switched off loses its IPv6 addresses by itself, and one that is gone all of them.
            let Some(link) = link_that_is_on(&mut self.requests, held.link) else { continue };
            self.taken = self.taken.saturating_add(1);
            tracing::warn!(address = %held.address, link, "somebody else took a VIP of ours away: putting it back");
        }
    }

    /// Adds or removes them, and returns what could not be.
    fn ask(&mut self, those: &[Held], wanted: bool) -> Vec<Failure> {
        // One that is there already is a VIP, so it is ours to manage; what is gone is gone, alone or with its link.
        let (request, doing, fine): (fn(Held) -> Request, _, &[i32]) = if wanted {
            (addition, "adding", &[libc::EEXIST])
        } else {
            (removal, "removing", &[libc::EADDRNOTAVAIL, libc::ENODEV])
        };
        let requests = those.iter().copied().map(request).collect::<Vec<_>>();
        let mut failures = Vec::new();
        for (held, result) in those.iter().copied().zip(self.requests.ask_all(&requests)) {
            if let Err(error) = result
                && !error.raw_os_error().is_some_and(|code| fine.contains(&code))
            {
                let doing = format!("{doing} {} on interface number {}", held.address, held.link);
                failures.push(Failure { held, wanted, error: Error::kernel(doing, CAP_NET_ADMIN, error) });
            } else if wanted {
                self.ours.insert(held);
            } else {
                self.ours.remove(&held);
            }
        }
        failures
    }
}

/// An address that the kernel has.
struct Found {
    held: Held,
    prefix: u8,
    flags: u32,
    /// 0: unknown.
    protocol: u8,
}

impl Found {
    fn ours(&self) -> bool {
        let no_route = self.flags & libc::IFA_F_NOPREFIXROUTE != 0;
        self.is_whole() && (self.protocol == PROTOCOL || (self.protocol == 0 && no_route))
    }

    /// A /32 or /128.
    fn is_whole(&self) -> bool {
        self.prefix == whole(self.held.address)
    }
}

const IFA_PROTO: u16 = 11;
const IFADDR_LEN: usize = 8;
const IFINFO_LEN: usize = 16;
const IFF_UP: u32 = 1;

/// Every address of the calling thread's network namespace.
///
/// # Errors
/// What the kernel says.
pub fn own() -> io::Result<BTreeSet<IpAddr>> {
    let found = present(&mut Requests::open()?)?;
    Ok(found.into_iter().map(|found| found.held.address).collect())
}

/// The others': by link, each with the prefix that it is on.
///
/// # Errors
/// What the kernel says.
pub fn others() -> io::Result<Vec<(Held, Prefix)>> {
    let found = present(&mut Requests::open()?)?;
    let others = found.into_iter().filter(|found| !found.ours());
    Ok(others
        .filter_map(|found| Some((found.held, Prefix::new(found.held.address, found.prefix)?)))
        .collect())
}

fn present(requests: &mut Requests) -> io::Result<Vec<Found>> {
    let list = requests.dump(libc::RTM_GETADDR, &[0; IFADDR_LEN])?;
    Ok(replies(&list).filter_map(|reply| found(&reply)).collect())
}

fn found(reply: &Reply<'_>) -> Option<Found> {
    if reply.kind == libc::RTM_NEWADDR { address(reply) } else { None }
}

/// The address that a message is about, whether it comes or goes.
fn address(reply: &Reply<'_>) -> Option<Found> {
    let [_family, prefix, flags, _scope] = *reply.body.first_chunk()?;
    let link = IfIndex(u32_at(reply.body, 4)?);
    let (mut address, mut flags, mut protocol) = (None, u32::from(flags), 0);
    for (kind, value) in attributes(reply.body.get(IFADDR_LEN..)?) {
        match kind {
            // What the other end of a point-to-point link has, unless there is a local one.
            libc::IFA_ADDRESS => address = address.or(ip(value)),
            libc::IFA_LOCAL => address = ip(value),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            IFA_PROTO => protocol = *value.first()?,
            _ => {}
        }
    }
    Some(Found { held: Held { link, address: address? }, prefix, flags, protocol })
}

/// Whether a message says that one of these is gone.
pub(super) fn is_gone(reply: &Reply<'_>, set: &BTreeSet<Held>) -> bool {
    reply.kind == libc::RTM_DELADDR && address(reply).is_some_and(|gone| set.contains(&gone.held))
}

/// The name of a link that is there and switched on.
pub(super) fn link_that_is_on(requests: &mut Requests, link: IfIndex) -> Option<String> {
    // struct ifinfomsg: family, type, index, flags, changed flags.
    let mut header = [0; IFINFO_LEN];
    header[4..8].copy_from_slice(&link.0.to_ne_bytes());
    let answer = requests.query(Request::new(libc::RTM_GETLINK, 0, &header)).ok()?;
    let reply = replies(&answer).find(|reply| reply.kind == libc::RTM_NEWLINK)?;
    let is_on = u32_at(reply.body, 8)? & IFF_UP != 0;
    let mut attributes = attributes(reply.body.get(IFINFO_LEN..)?);
    let (_, name) = attributes.find(|(kind, _)| is_on && *kind == libc::IFLA_IFNAME)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

fn addition(held: Held) -> Request {
    let flags = libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE;
    let request = request(libc::RTM_NEWADDR, CREATE, held)
        .with(libc::IFA_FLAGS, &flags.to_ne_bytes())
        .with(IFA_PROTO, &[PROTOCOL]);
    match held.address {
        IpAddr::V4(_) => request,
        IpAddr::V6(_) => request.with(libc::IFA_CACHEINFO, &deprecated_forever()),
    }
}

fn removal(held: Held) -> Request {
    request(libc::RTM_DELADDR, 0, held)
}

fn request(kind: u16, flags: u16, held: Held) -> Request {
    let family = if held.address.is_ipv4() { AF_INET } else { AF_INET6 };
    // struct ifaddrmsg: family, prefix length, flags, scope (0: global), link.
    let mut header = vec![family, whole(held.address), 0, 0];
    header.extend(held.link.0.to_ne_bytes());
    let address: &[u8] = match &held.address {
        IpAddr::V4(ip) => &ip.octets(),
        IpAddr::V6(ip) => &ip.octets(),
    };
    Request::new(kind, flags, &header).with(libc::IFA_LOCAL, address).with(libc::IFA_ADDRESS, address)
}

const fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `struct ifa_cacheinfo`: preferred for no time, valid for ever, two stamps that only the kernel sets.
fn deprecated_forever() -> [u8; 16] {
    let mut info = [0; 16];
    info[4..8].fill(0xff);
    info
}
