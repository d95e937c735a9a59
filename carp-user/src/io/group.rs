//! Membership in multicast groups, per link: CARP's, 224.0.0.18 and ff02::12, and those that neighbour
//! solicitations for the VIPs go to. A backup is in them too: when its window opens, the next
//! solicitation must find it, through the NIC's filter and past switches that snoop.

use super::error::{CAP_NET_RAW, Error};
use super::raw::{join_mac, packet_socket};
use carp_common::id::IfIndex;
use carp_common::wire::{eth, ip};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

/// Membership of one link; it ends when this is dropped.
///
/// The IP groups make the kernel report itself, for switches that snoop IGMP and MLD; the MACs make
/// the driver receive the frames whatever the IP stack thinks of it. One set of sockets a link, since
/// a socket has at most 20 IPv4 memberships (`net.ipv4.igmp_max_memberships`).
#[derive(Debug)]
pub struct Membership {
    _mac: Socket,
    _v4: Option<Socket>,
    _v6: Vec<Socket>,
}

/// IPv6 memberships of a socket; the kernel counts them against `net.core.optmem_max`, which holds
/// some 300 where it is smallest. Policy: more sockets.
const MOST_OF_A_SOCKET: usize = 128;

impl Membership {
    /// Joins on a link, once, whatever is needed for its VIPs. Waits for the kernel's lock for links:
    /// for start and reload only.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, and what the kernel says, such as for IPv6 where it is switched off.
    pub fn join(link: IfIndex, name: &str, vips: &[IpAddr]) -> Result<Self, Error> {
        let failed = |group: &str, source| {
            Error::kernel(format!("joining the group {group} on {name}"), CAP_NET_RAW, source)
        };
        let v4 = vips.iter().any(IpAddr::is_ipv4);
        let v6: Vec<Ipv6Addr> = groups_v6(vips).into_iter().collect();
        let mac = packet_socket().map_err(|source| failed("of CARP's MACs", source))?;
        let mac_v4 = v4.then_some(eth::CARP_GROUP_V4);
        for group in mac_v4.into_iter().chain(v6.iter().map(|group| eth::group_v6(*group))) {
            join_mac(&mac, link, group).map_err(|source| failed(&group.to_string(), source))?;
        }
        let v4 = v4.then(|| join_v4(link)).transpose().map_err(|source| failed("224.0.0.18", source))?;
        let v6: Result<Vec<Socket>, Error> = v6
            .chunks(MOST_OF_A_SOCKET)
            .map(|groups| join_v6(link, groups).map_err(|(group, source)| failed(&group.to_string(), source)))
            .collect();
        Ok(Self { _mac: mac, _v4: v4, _v6: v6? })
    }
}

/// CARP's and the solicited nodes', each once; none without an IPv6 address.
fn groups_v6(vips: &[IpAddr]) -> BTreeSet<Ipv6Addr> {
    let of = |vip: &IpAddr| match vip {
        IpAddr::V4(_) => None,
        IpAddr::V6(vip) => Some([ip::CARP_GROUP_V6, ip::solicited_node(*vip)]),
    };
    vips.iter().filter_map(of).flatten().collect()
}

fn join_v4(link: IfIndex) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    socket.join_multicast_v4_n(&ip::CARP_GROUP_V4, &InterfaceIndexOrAddress::Index(link.0))?;
    Ok(socket)
}

/// The error comes with the group that it is about.
fn join_v6(link: IfIndex, groups: &[Ipv6Addr]) -> Result<Socket, (Ipv6Addr, io::Error)> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None);
    let socket = socket.map_err(|error| (ip::CARP_GROUP_V6, error))?;
    for group in groups {
        socket.join_multicast_v6(group, link.0).map_err(|error| (*group, error))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_end_alike_share_a_group_and_ipv4_has_none() {
        let vips = ["fd77:1::1", "fe80::aa00:1", "fd77:2::ff:2", "10.0.0.1"].map(|vip| vip.parse().unwrap());
        let groups: Vec<String> = groups_v6(&vips).iter().map(Ipv6Addr::to_string).collect();
        assert_eq!(groups, ["ff02::12", "ff02::1:ff00:1", "ff02::1:ffff:2"]);
        assert!(groups_v6(&vips[3..]).is_empty());
    }
}
