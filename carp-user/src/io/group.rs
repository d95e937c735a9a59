//! Membership in CARP's multicast groups, per link: 224.0.0.18 and ff02::12.

use super::error::{CAP_NET_RAW, Error};
use super::raw::{join_mac, packet_socket};
use carp_common::id::IfIndex;
use carp_common::wire::eth::{CARP_GROUP_V4, CARP_GROUP_V6};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where IPv4 advertisements go.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 advertisements go.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Membership of one link; it ends when this is dropped.
///
/// The IP groups make the kernel report itself, for switches that snoop IGMP and MLD; the MACs make
/// the driver receive the frames whatever the IP stack thinks of it. One set of sockets a link, since
/// a socket has at most 20 IPv4 memberships (`net.ipv4.igmp_max_memberships`).
#[derive(Debug)]
pub struct Membership {
    _mac: Socket,
    _v4: Option<Socket>,
    _v6: Option<Socket>,
}

impl Membership {
    /// Joins on a link for the families that have VIPs there. Waits for the kernel's lock for links:
    /// for start and reload only.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, and what the kernel says, such as for IPv6 where it is switched off.
    pub fn join(link: IfIndex, name: &str, v4: bool, v6: bool) -> Result<Self, Error> {
        let failed = |group: &str, source| {
            Error::kernel(format!("joining the group {group} on {name}"), CAP_NET_RAW, source)
        };
        let mac = packet_socket().map_err(|source| failed("of CARP's MACs", source))?;
        for (wanted, group) in [(v4, CARP_GROUP_V4), (v6, CARP_GROUP_V6)] {
            if wanted {
                join_mac(&mac, link, group).map_err(|source| failed(&group.to_string(), source))?;
            }
        }
        let v4 = v4.then(|| join_v4(link)).transpose().map_err(|source| failed("224.0.0.18", source))?;
        let v6 = v6.then(|| join_v6(link)).transpose().map_err(|source| failed("ff02::12", source))?;
        Ok(Self { _mac: mac, _v4: v4, _v6: v6 })
    }
}

fn join_v4(link: IfIndex) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(link.0))?;
    Ok(socket)
}

fn join_v6(link: IfIndex) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
    socket.join_multicast_v6(&GROUP_V6, link.0)?;
    Ok(socket)
}
