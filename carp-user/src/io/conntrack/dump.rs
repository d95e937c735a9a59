//! All that is in the table, a part at a time.

use super::number::*;
use super::parse::{FAMILY_HEADER, News, be32, message};
use super::{build, failed, open, requests, unanswered};
use crate::io::error::Error;
use crate::io::netlink::{DATAGRAM, DONE, DUMP, ERROR, Message, Request, attributes, replies, verdict};
use crate::proto::flow::{Expectation, Flow, Key};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::os::fd::OwnedFd;

/// The table as it is while it is read, on a socket of its own. Between parts the kernel waits and holds no lock, so
/// other work can go on; dropping it ends it.
///
/// A flow that is there from beginning to end is told at least once. One that comes or goes meanwhile may be missing
/// and has its event; when flows go, others may be told twice.
#[derive(Debug)]
pub struct Dump {
    socket: OwnedFd,
    buffer: Vec<u8>,
    zone: Option<u16>,
    is_over: bool,
}

impl Dump {
    /// Begins with the first flow of the calling thread's network namespace: all flows, or those with one direction in
    /// this zone.
    ///
    /// # Errors
    /// [`Error::Privilege`] without `CAP_NET_ADMIN`, [`Error::Unsupported`] without ctnetlink.
    pub fn start(zone: Option<u16>) -> Result<Self, Error> {
        let socket = open(0, SocketFlags::empty())?;
        let mut buffer = Vec::new();
        let mut request =
            Message::begin(&mut buffer, FLOWS | IPCTNL_MSG_CT_GET, DUMP, 1, &[0; FAMILY_HEADER]);
        if let Some(zone) = zone {
            // Before Linux 6.8 the kernel tells all zones.
            request.put(CTA_ZONE, &zone.to_be_bytes());
        }
        request.end();
        rustix::net::send(&socket, &buffer, SendFlags::empty())
            .map_err(|error| failed(DOING, error.into()))?;
        buffer.resize(DATAGRAM, 0);
        Ok(Self { socket, buffer, zone, is_over: false })
    }

    /// Puts the next flows, a hundred or so, in place of what is in `flows`. False when that was all.
    ///
    /// # Errors
    /// As [`Dump::start`], and what the kernel says; then it is over.
    pub fn part(&mut self, flows: &mut Vec<Flow>) -> Result<bool, Error> {
        flows.clear();
        if self.is_over {
            return Ok(false);
        }
        let received = rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty());
        let (len, _) = received.map_err(|error| failed(DOING, error.into()))?;
        for reply in replies(self.buffer.get(..len).unwrap_or_default()) {
            if let ERROR | DONE = reply.kind {
                self.is_over = true;
                return verdict(&reply)
                    .map(|()| !flows.is_empty())
                    .map_err(|source| unanswered(DOING, source));
            }
            if let Some(News::Flow(_, flow)) = message(&reply).map(|message| message.news)
                && self.zone.is_none_or(|zone| flow.key.zone == zone || flow.reply_zone == zone)
            {
                flows.push(flow);
            }
        }
        Ok(true)
    }
}

/// This flow of the calling thread's network namespace as it is now; `None` when there is none.
///
/// # Errors
/// As [`Dump::start`].
pub fn look_up(key: &Key) -> Result<Option<Flow>, Error> {
    const DOING: &str = "asking for a connection";
    let mut buffer = Vec::new();
    if build::show(&mut buffer, 1, key).is_err() {
        // No kernel can hold it.
        return Ok(None);
    }
    let socket = open(0, SocketFlags::empty())?;
    rustix::net::send(&socket, &buffer, SendFlags::empty()).map_err(|error| failed(DOING, error.into()))?;
    buffer.resize(DATAGRAM, 0);
    let received = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty());
    let (len, _) = received.map_err(|error| failed(DOING, error.into()))?;
    let Some(reply) = replies(buffer.get(..len).unwrap_or_default()).next() else { return Ok(None) };
    if reply.kind == ERROR {
        return match verdict(&reply) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(unanswered(DOING, error)),
            Ok(()) | Err(_) => Ok(None),
        };
    }
    Ok(message(&reply).and_then(|message| match message.news {
        News::Flow(_, flow) => Some(flow),
        News::Expectation(..) => None,
    }))
}

/// All expectations of the calling thread's network namespace; there are few.
///
/// # Errors
/// As [`Dump::start`].
pub fn expectations() -> Result<Vec<Expectation>, Error> {
    let list = requests()?.dump(EXPECTATIONS | IPCTNL_MSG_EXP_GET, &[0; FAMILY_HEADER]);
    let list = list.map_err(|source| unanswered("listing expectations", source))?;
    let expectation = |news| match news {
        News::Expectation(_, expectation) => Some(expectation),
        News::Flow(..) => None,
    };
    Ok(super::messages(&list).filter_map(|message| expectation(message.news)).collect())
}

/// How many flows the calling thread's network namespace has.
///
/// # Errors
/// As [`Dump::start`].
pub fn count() -> Result<u32, Error> {
    let request = Request::new(FLOWS | IPCTNL_MSG_CT_GET_STATS, 0, &[0; FAMILY_HEADER]);
    let answer =
        requests()?.query(request).map_err(|source| unanswered("asking for the number of flows", source))?;
    let mut values = replies(&answer)
        .filter(|reply| reply.kind == FLOWS | IPCTNL_MSG_CT_GET_STATS)
        .flat_map(|reply| attributes(reply.body.get(FAMILY_HEADER..).unwrap_or_default()));
    let entries =
        values.find(|(kind, _)| *kind == CTA_STATS_GLOBAL_ENTRIES).and_then(|(_, value)| be32(value));
    entries.ok_or_else(|| failed("asking for the number of flows", std::io::ErrorKind::InvalidData.into()))
}

const DOING: &str = "listing the connections that the kernel tracks";
