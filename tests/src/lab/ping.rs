//! ICMP echo of both families, to an address or a virtual address.

use super::clock;
use super::namespace::Namespace;
use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_common::wire::sum::checksum;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

/// One echo request from `from`. Gives the time until its reply came; `None` when none came in
/// time, or nobody could be asked.
///
/// # Errors
/// When the socket cannot be made.
pub fn ping(from: &Namespace, target: IpAddr, patience: Span) -> Result<Option<Span>> {
    ping_as(from, None, target, patience)
}

/// The same from an address that `from` has, as `ping -I ADDRESS` does it.
///
/// # Errors
/// When the socket cannot be made, or the address is not its own.
pub fn ping_as(
    from: &Namespace,
    source: Option<IpAddr>,
    target: IpAddr,
    patience: Span,
) -> Result<Option<Span>> {
    let (domain, protocol, request, reply) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let mut socket =
        from.enter(|| Socket::new(domain, Type::RAW, Some(protocol)).context("an ICMP socket"))?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    socket.set_read_timeout(Some(patience.std()))?;
    let sent = clock::now();
    // The moment tells one ping from another.
    let [.., a, b, c, d] = sent.nanos().to_be_bytes();
    let mut message = [request, 0, 0, 0, a, b, c, d];
    if target.is_ipv4() {
        // For IPv6 the kernel fills it in: it needs the source address.
        let [high, low] = checksum(&message).to_be_bytes();
        message = [request, 0, high, low, a, b, c, d];
    }
    if socket.send_to(&message, &SockAddr::from(SocketAddr::new(target, 0))).is_err() {
        return Ok(None);
    }
    let mut packet = [0; 128];
    while clock::now().since(sent) < patience {
        let Ok(len) = socket.read(&mut packet) else { return Ok(None) };
        // IPv4 raw sockets give the IP header too, IPv6 ones do not.
        let head = if target.is_ipv4() { 20 } else { 0 };
        if let Some([kind, _, _, _, w, x, y, z, ..]) = packet.get(head..len)
            && *kind == reply
            && [*w, *x, *y, *z] == [a, b, c, d]
        {
            return Ok(Some(clock::now().since(sent)));
        }
    }
    Ok(None)
}
