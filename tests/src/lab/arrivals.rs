//! When addresses come to a host, as its kernel tells it: a listener that takes no time from those that it watches.

use super::clock;
use super::namespace::Namespace;
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Bit of `RTNLGRP_IPV4_IFADDR`.
const GROUP: u32 = 1 << 4;
/// Thousands of events.
const BUFFER: usize = 16 << 20;
/// `RTM_NEWADDR`.
const NEW: u16 = 20;
/// Where `struct nlmsghdr` and `struct ifaddrmsg` end and attributes begin; that of the address is the first.
const ADDRESS: usize = 16 + 8 + 4;

/// IPv4 addresses that come to a host, from its start on.
pub struct Arrivals(OwnedFd);

impl Arrivals {
    /// Begins to listen.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(host: &Namespace) -> Result<Self> {
        host.enter(|| {
            let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
            let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
            set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            Ok(Self(socket))
        })
    }

    /// Waits for so many that are wanted: when the first and the last of them came.
    ///
    /// # Errors
    /// When there are fewer in time.
    pub fn of(
        &self,
        count: usize,
        wanted: impl Fn(Ipv4Addr) -> bool,
        patience: Span,
    ) -> Result<(Instant, Instant)> {
        let (mut first, mut last, mut seen) = (None, Instant::ZERO, 0);
        let mut datagram = [0; 4096];
        set_socket_timeout(&self.0, Timeout::Recv, Some(Duration::from_nanos(patience.as_nanos())))?;
        while seen < count {
            let received = rustix::net::recv(&self.0, &mut datagram, RecvFlags::empty());
            let (len, _) = received.with_context(|| format!("{seen} of {count} addresses have come"))?;
            let message = datagram.get(..len).unwrap_or_default();
            let kind = message.get(4..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_ne_bytes);
            let address = message.get(ADDRESS..).and_then(|rest| rest.first_chunk::<4>()).copied();
            if kind == Some(NEW) && address.is_some_and(|address| wanted(address.into())) {
                last = clock::now();
                first = first.or(Some(last));
                seen += 1;
            }
        }
        Ok((first.unwrap_or(last), last))
    }
}
