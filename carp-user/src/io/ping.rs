//! Whether another host answers on a link: an echo request of ICMP or ICMPv6 (RFC 792, RFC 4443), out by this link and from the
//! node's own address there, so that it says nothing of who is master.

use super::address;
use super::nic::{self, Nic};
use super::raw::Ready;
use carp_common::id::IfIndex;
use carp_common::wire::{icmp, sum};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use zerocopy::FromBytes;

/// Bytes of the message: its head, identifier and sequence number, and as much again.
const LEN: usize = 16;
/// Longest head of IPv4, and what follows.
const MOST: usize = 60 + LEN;

/// A request, and the socket that its answer comes to.
#[derive(Debug)]
pub struct Ping {
    socket: Ready,
    mark: [u8; 4],
    is_v4: bool,
}

impl Ping {
    /// Asks. `number` tells its answer from that of another request.
    ///
    /// # Errors
    /// In words: there is no such link, it has no address of its own of this family, or what the kernel says.
    pub fn send(device: &str, to: IpAddr, number: u64) -> Result<Self, String> {
        let nic = nic::look(device).map_err(|error| format!("{device}: {error}"))?;
        let Some(own) = own_address(&nic, to) else {
            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!("{device} has no {family} address of its own to ask from"));
        };
        Self::ask(device, nic.index, (own, to), number).map_err(|error| format!("{to} on {device}: {error}"))
    }

    fn ask(device: &str, link: IfIndex, (own, to): (IpAddr, IpAddr), number: u64) -> io::Result<Self> {
        let is_v4 = to.is_ipv4();
        let (domain, protocol) =
            if is_v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(device.as_bytes()))?;
        socket.bind(&place(own, link))?;
        socket.connect(&place(to, link))?;
        let [.., a, b] = std::process::id().to_be_bytes();
        let [.., c, d] = number.to_be_bytes();
        let mark = [a, b, c, d];
        // With ICMPv6 the kernel writes the checksum.
        let kind = if is_v4 { icmp::ECHO } else { icmp::ECHO_V6 }.request();
        let mut message = [0; LEN];
        message[0] = kind;
        message[4..8].copy_from_slice(&mark);
        if is_v4 {
            let sum = sum::checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
        }
        socket.send(&message)?;
        Ok(Self { socket: Ready::new(OwnedFd::from(socket))?, mark, is_v4 })
    }

    /// Waits for the answer. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The kernel's, such as that the host cannot be reached.
    pub async fn answered(&self) -> io::Result<()> {
        loop {
            let mut bytes = [0; MOST];
            let length = self.socket.read(|fd| Ok(rustix::io::read(fd, &mut bytes)?)).await?;
            if self.is_answer(bytes.get(..length).unwrap_or_default()) {
                return Ok(());
            }
        }
    }

    /// A raw socket of IPv4 gives the head of IP, too.
    fn is_answer(&self, packet: &[u8]) -> bool {
        let (message, kinds) = if self.is_v4 {
            let head = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
            (packet.get(head..).unwrap_or_default(), icmp::ECHO)
        } else {
            (packet, icmp::ECHO_V6)
        };
        icmp::Head::ref_from_prefix(message)
            .is_ok_and(|(head, rest)| head.is_answer(kinds) && rest.starts_with(&self.mark))
    }
}

/// The node's own address on a link that a host would best be asked from: one of its network, or else any of the same scope.
fn own_address(nic: &Nic, to: IpAddr) -> Option<IpAddr> {
    let is_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let fits = |own: &IpAddr| own.is_ipv4() == to.is_ipv4() && is_local(*own) == is_local(to);
    let own = address::others().unwrap_or_default();
    let own = || own.iter().filter(|(held, _)| held.link == nic.index && fits(&held.address));
    let near = own().find(|(_, prefix)| prefix.contains(to));
    near.or_else(|| own().next()).map(|(held, _)| held.address)
}

fn place(ip: IpAddr, link: IfIndex) -> SockAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, 0).into(),
        IpAddr::V6(ip) => {
            let scope = if ip.is_unicast_link_local() { link.0 } else { 0 };
            SocketAddrV6::new(ip, 0, 0, scope).into()
        }
    }
}
