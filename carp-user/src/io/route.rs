//! The routes that this node should have now, in the main table.
//!
//! Each carries [`PROTOCOL`] as its origin. So what is ours is to be seen in the kernel, also what a killed daemon left,
//! and a request to remove one cannot hit another's. The next hop counts as a neighbour on the link (`onlink`) without the
//! kernel's check: a VIP has no prefix route, and this node may have no other address in its network.

use super::address::{PROTOCOL, link_that_is_on};
use super::applier::Failure;
use super::error::{CAP_NET_ADMIN, Error};
use super::netlink::{AF_INET, AF_INET6, CREATE, Reply, Request, Requests};
use super::netlink::{attributes, ip, replies, u32_at};
use crate::proto::sync::rule::Prefix;
use carp_common::id::IfIndex;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route by a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The link that it leaves by.
    pub link: IfIndex,
    /// Where it leads.
    pub to: Prefix,
    /// The next hop, of the same family.
    pub via: IpAddr,
    /// What the kernel prefers as the source of this node's own packets: an address that it has.
    pub source: Option<IpAddr>,
    /// The kernel takes the smallest, and has no two routes to the same with the same one.
    pub metric: u32,
}

/// Makes the kernel agree with a set of routes. Blocks.
#[derive(Debug)]
pub struct Routes {
    requests: Requests,
    links: BTreeSet<IfIndex>,
    /// As of the last look.
    ours: BTreeSet<Route>,
}

impl Routes {
    /// Those of ours on these links, which are no other daemon's.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(links: BTreeSet<IfIndex>) -> Result<Self, Error> {
        let failed = |source| Error::kernel("reading the routes", CAP_NET_ADMIN, source);
        let mut requests = Requests::open().map_err(failed)?;
        let ours = present(&mut requests, &links).map_err(failed)?;
        Ok(Self { requests, links, ours })
    }

    /// Those that a daemon of ours has put there, this one or a killed one.
    pub const fn ours(&self) -> &BTreeSet<Route> {
        &self.ours
    }

    /// Removes what is ours and not wanted, and returns what could not be. Names what somebody else has removed.
    pub fn retain(&mut self, wanted: &BTreeSet<Route>) -> Vec<Failure> {
        self.links.extend(wanted.iter().map(|route| route.link));
        // A gateway's tables may be long: no look at them where nothing of ours is or shall be.
        if self.ours.is_empty() && wanted.is_empty() {
            return Vec::new();
        }
        // Without a look, they are believed to be as they were.
        if let Ok(ours) = present(&mut self.requests, &self.links) {
            let missed = self.ours.intersection(wanted).filter(|route| !ours.contains(route));
            for route in missed {
                // A link that is switched off loses its routes by itself.
                let Some(link) = link_that_is_on(&mut self.requests, route.link) else { continue };
                tracing::warn!(%route, link, "somebody else took a route of ours away: putting it back");
            }
            self.ours = ours;
        }
        let gone = self.ours.difference(wanted).copied().collect::<Vec<_>>();
        gone.into_iter().filter_map(|route| self.remove(route).err()).collect()
    }

    /// Adds what is wanted and missing as of [`Routes::retain`], and returns what could not be.
    pub fn add(&mut self, wanted: &BTreeSet<Route>) -> Vec<Failure> {
        let missing = wanted.difference(&self.ours).copied().collect::<Vec<_>>();
        missing.into_iter().filter_map(|route| self.add_one(route).err()).collect()
    }

    /// One to the same place with the same metric that is there already is somebody else's, and stays.
    fn add_one(&mut self, route: Route) -> Result<(), Failure> {
        let doing = format!("adding the route {route} on interface number {}", route.link);
        let doing = match self.requests.ask(request(libc::RTM_NEWROUTE, CREATE, route)) {
            Ok(()) => {
                self.ours.insert(route);
                return Ok(());
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let hint = "another one there has the same metric: remove it, or write another `metric`";
                Error::kernel(format!("{doing}: {hint}"), CAP_NET_ADMIN, error)
            }
            Err(error) => Error::kernel(doing, CAP_NET_ADMIN, error),
        };
        Err(Failure { what: route.to_string(), error: doing })
    }

    /// A route or a link that is gone already is fine.
    fn remove(&mut self, route: Route) -> Result<(), Failure> {
        let gone = [libc::ESRCH, libc::ENODEV];
        match self.requests.ask(request(libc::RTM_DELROUTE, 0, route)) {
            Err(error) if !error.raw_os_error().is_some_and(|code| gone.contains(&code)) => {
                let doing = format!("removing the route {route} on interface number {}", route.link);
                let error = Error::kernel(doing, CAP_NET_ADMIN, error);
                Err(Failure { what: route.to_string(), error })
            }
            Ok(()) | Err(_) => {
                self.ours.remove(&route);
                Ok(())
            }
        }
    }
}

/// Whether a message says that one of these is gone.
pub(super) fn is_gone(reply: &Reply<'_>, set: &BTreeSet<Route>) -> bool {
    reply.kind == libc::RTM_DELROUTE && route(reply).is_some_and(|gone| set.contains(&gone))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.to, self.via)
    }
}

const RTMSG_LEN: usize = 12;

fn present(requests: &mut Requests, links: &BTreeSet<IfIndex>) -> io::Result<BTreeSet<Route>> {
    let mut ours = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        let mut header = [0; RTMSG_LEN];
        header[0] = family;
        let list = requests.dump(libc::RTM_GETROUTE, &header)?;
        let routes = replies(&list).filter(|reply| reply.kind == libc::RTM_NEWROUTE);
        let routes = routes.filter_map(|reply| route(&reply));
        ours.extend(routes.filter(|route| links.contains(&route.link)));
    }
    Ok(ours)
}

/// The route of ours that a message is about, whether it comes or goes.
fn route(reply: &Reply<'_>) -> Option<Route> {
    // struct rtmsg: family, two lengths of prefixes, TOS, table, protocol, scope, type, flags.
    let [family, length, _source, _tos, table, PROTOCOL, _scope, libc::RTN_UNICAST, ..] = *reply.body else {
        return None;
    };
    // What the kernel has learned of a path (its MTU) is listed as a route, too.
    let is_learned = u32_at(reply.body, 8)? & libc::RTM_F_CLONED != 0;
    let any: IpAddr = match family {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut to, mut via, mut source, mut link, mut metric) = (any, None, None, None, 0);
    for (kind, value) in attributes(reply.body.get(RTMSG_LEN..)?) {
        match kind {
            libc::RTA_DST => to = ip(value)?,
            libc::RTA_GATEWAY => via = ip(value),
            libc::RTA_PREFSRC => source = ip(value),
            libc::RTA_OIF => link = u32_at(value, 0).map(IfIndex),
            libc::RTA_PRIORITY => metric = u32_at(value, 0)?,
            _ => {}
        }
    }
    let is_ours = table == libc::RT_TABLE_MAIN && !is_learned;
    is_ours.then_some(Route { link: link?, to: Prefix::new(to, length)?, via: via?, source, metric })
}

fn request(kind: u16, flags: u16, route: Route) -> Request {
    let Route { link, to, via, source, metric } = route;
    let family = if to.address().is_ipv4() { AF_INET } else { AF_INET6 };
    let (table, scope) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE);
    let mut header = vec![family, to.length(), 0, 0, table, PROTOCOL, scope, libc::RTN_UNICAST];
    header.extend(RTNH_F_ONLINK.to_ne_bytes());
    let request = Request::new(kind, flags, &header)
        .with(libc::RTA_DST, &octets(to.address()))
        .with(libc::RTA_GATEWAY, &octets(via))
        .with(libc::RTA_OIF, &link.0.to_ne_bytes())
        .with(libc::RTA_PRIORITY, &metric.to_ne_bytes());
    match source {
        Some(source) => request.with(libc::RTA_PREFSRC, &octets(source)),
        None => request,
    }
}

const RTNH_F_ONLINK: u32 = 4;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}
