//! The links and addresses of this network namespace, as rtnetlink tells of them: a value that
//! messages change.

use super::super::netlink::{AF_INET6, Reply, attributes, ip, u32_at};
use carp_common::id::Mac;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is known; bounded by what the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    devices: BTreeMap<u32, Device>,
    /// In the kernel's order, which is the order of preference.
    addresses: BTreeMap<u32, Vec<Address>>,
    /// The links that forward IPv6.
    routers: BTreeSet<u32>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    /// `None` for what is no Ethernet.
    pub(super) mac: Option<Mac>,
    /// Bytes.
    pub(super) mtu: Option<u32>,
    flags: u32,
    operstate: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    ip: IpAddr,
    prefix: u8,
    flags: u32,
    scope: u8,
}

/// The address that comes or goes, if the message is about one.
pub(super) fn address_of(reply: &Reply<'_>) -> Option<IpAddr> {
    let (_, address) = match reply.kind {
        libc::RTM_NEWADDR | libc::RTM_DELADDR => address(reply.body)?,
        _ => return None,
    };
    Some(address.ip)
}

impl Device {
    /// Switched on, with a carrier, and operational as far as the driver can tell.
    pub(super) fn up(&self) -> bool {
        const BOTH: u32 = IFF_UP | IFF_LOWER_UP;
        self.flags & BOTH == BOTH && matches!(self.operstate, OPER_UNKNOWN | OPER_UP)
    }
}

impl Table {
    /// Takes in one message. What is cut off or about other things changes nothing.
    pub(super) fn apply(&mut self, reply: &Reply<'_>) {
        let _taken: Option<()> = match reply.kind {
            libc::RTM_NEWLINK => self.new_link(reply.body),
            libc::RTM_DELLINK => self.del_link(reply.body),
            libc::RTM_NEWADDR => self.new_address(reply.body),
            libc::RTM_DELADDR => self.del_address(reply.body),
            libc::RTM_NEWNETCONF => self.new_setting(reply.body),
            _ => None,
        };
    }

    /// The link of this number.
    pub(super) fn device(&self, index: u32) -> Option<&Device> {
        self.devices.get(&index)
    }

    /// The number of the link of this name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.devices.iter().find_map(|(index, device)| (device.name == name).then_some(*index))
    }

    /// The names of all links.
    pub(super) fn names(&self) -> Vec<String> {
        self.devices.values().map(|device| device.name.clone()).collect()
    }

    /// The names of those that have a hardware address as Ethernet has.
    pub(super) fn ethernets(&self) -> Vec<String> {
        let those = self.devices.values().filter(|device| device.mac.is_some());
        those.map(|device| device.name.clone()).collect()
    }

    /// The first primary address of the link that is no VIP.
    pub(super) fn source_v4(&self, index: u32, vips: &BTreeSet<IpAddr>) -> Option<Ipv4Addr> {
        let usable = |address: &&Address| {
            address.flags & libc::IFA_F_SECONDARY == 0
                && address.scope < SCOPE_HOST
                && !vips.contains(&address.ip)
        };
        self.of(index).iter().filter(usable).find_map(|address| match address.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }

    /// The link-local address, or else any other, that is no VIP and that duplicate address
    /// detection has let pass.
    pub(super) fn source_v6(&self, index: u32, vips: &BTreeSet<IpAddr>) -> Option<Ipv6Addr> {
        let usable = |address: &&Address| {
            let tentative = address.flags & libc::IFA_F_TENTATIVE != 0;
            let optimistic = address.flags & libc::IFA_F_OPTIMISTIC != 0;
            let failed = address.flags & libc::IFA_F_DADFAILED != 0;
            !failed && (!tentative || optimistic) && address.scope < SCOPE_HOST && !vips.contains(&address.ip)
        };
        let ips = self.of(index).iter().filter(usable).filter_map(|address| match address.ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some((ip, address.flags & libc::IFA_F_DEPRECATED != 0)),
        });
        ips.min_by_key(|(ip, deprecated)| (!ip.is_unicast_link_local(), *deprecated)).map(|(ip, _)| ip)
    }

    /// There is an address of the VIP's family that is no VIP, usable or not yet.
    pub(super) fn has_family_of(&self, index: u32, vip: IpAddr, vips: &BTreeSet<IpAddr>) -> bool {
        self.of(index).iter().any(|own| own.ip.is_ipv4() == vip.is_ipv4() && !vips.contains(&own.ip))
    }

    /// The node forwards IPv6 on the link.
    pub(super) fn is_router(&self, index: u32) -> bool {
        self.routers.contains(&index)
    }

    fn of(&self, index: u32) -> &[Address] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    fn new_link(&mut self, body: &[u8]) -> Option<()> {
        let (index, attributes) = link_header(body)?;
        let device = self.devices.entry(index).or_default();
        device.flags = u32_at(body, 8)?;
        // It says that its address has six bytes too.
        let is_loopback = device.flags & IFF_LOOPBACK != 0;
        // A message may carry a part only (wireless events do): the rest stays as it was.
        for (kind, value) in attributes {
            match kind {
                libc::IFLA_IFNAME => device.name = text(value),
                libc::IFLA_ADDRESS => device.mac = value.try_into().ok().filter(|_| !is_loopback).map(Mac),
                libc::IFLA_MTU => device.mtu = u32_at(value, 0),
                libc::IFLA_OPERSTATE => device.operstate = value.first().copied().unwrap_or(OPER_UNKNOWN),
                _ => {}
            }
        }
        Some(())
    }

    fn del_link(&mut self, body: &[u8]) -> Option<()> {
        let (index, _) = link_header(body)?;
        self.devices.remove(&index);
        self.addresses.remove(&index);
        self.routers.remove(&index);
        Some(())
    }

    fn new_address(&mut self, body: &[u8]) -> Option<()> {
        let (index, address) = address(body)?;
        let list = self.addresses.entry(index).or_default();
        match list.iter_mut().find(|known| known.is(&address)) {
            Some(known) => *known = address,
            None => list.push(address),
        }
        Some(())
    }

    fn del_address(&mut self, body: &[u8]) -> Option<()> {
        let (index, address) = address(body)?;
        self.addresses.get_mut(&index)?.retain(|known| !known.is(&address));
        Some(())
    }

    /// `struct netconfmsg`: a settings change, of which only IPv6 forwarding matters here.
    fn new_setting(&mut self, body: &[u8]) -> Option<()> {
        if body.first() != Some(&AF_INET6) {
            return None;
        }
        let (mut index, mut forwarding) = (None, None);
        for (kind, value) in attributes(body.get(4..)?) {
            match kind {
                NETCONFA_IFINDEX => index = u32_at(value, 0),
                NETCONFA_FORWARDING => forwarding = u32_at(value, 0),
                _ => {}
            }
        }
        match forwarding? {
            0 => self.routers.remove(&index?),
            _ => self.routers.insert(index?),
        };
        Some(())
    }
}

impl Address {
    fn is(&self, other: &Self) -> bool {
        (self.ip, self.prefix) == (other.ip, other.prefix)
    }
}

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_LOWER_UP: u32 = 1 << 16;
const OPER_UNKNOWN: u8 = 0;
const OPER_UP: u8 = 6;
/// `RT_SCOPE_HOST`: never leaves the machine.
const SCOPE_HOST: u8 = 254;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const IFINFO_LEN: usize = 16;
const IFADDR_LEN: usize = 8;

/// The number and attributes of `struct ifinfomsg`. `None` for messages of other families: a bridge
/// tells of its ports in the same group, and a port that leaves looks like a link that goes.
fn link_header(body: &[u8]) -> Option<(u32, impl Iterator<Item = (u16, &[u8])>)> {
    let family = *body.first()?;
    let attributes = attributes(body.get(IFINFO_LEN..)?);
    (family == 0).then_some((u32_at(body, 4)?, attributes))
}

/// `struct ifaddrmsg` and its attributes.
fn address(body: &[u8]) -> Option<(u32, Address)> {
    let [_family, prefix, flags, scope] = *body.first_chunk()?;
    let index = u32_at(body, 4)?;
    let (mut local, mut peer, mut flags) = (None, None, u32::from(flags));
    for (kind, value) in attributes(body.get(IFADDR_LEN..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => peer = ip(value),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some((index, Address { ip: local.or(peer)?, prefix, flags, scope }))
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::netlink::{AF_INET, Request, replies};
    use super::*;

    const PERMANENT: u32 = libc::IFA_F_PERMANENT;

    fn take(table: &mut Table, request: &Request) {
        replies(&request.bytes(0)).for_each(|reply| table.apply(&reply));
    }

    /// A message about link 7.
    fn link(kind: u16, family: u8, flags: u32) -> Request {
        let mut header = vec![family, 0, 1, 0, 7, 0, 0, 0];
        header.extend(flags.to_ne_bytes());
        header.extend([0; 4]);
        Request::new(kind, 0, &header)
    }

    /// An address of link 7.
    fn own(kind: u16, ip: &str, prefix: u8, flags: u32, scope: u8) -> Request {
        let ip: IpAddr = ip.parse().unwrap();
        let (family, octets) = match ip {
            IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
        };
        let header = [family, prefix, 0, scope, 7, 0, 0, 0];
        Request::new(kind, 0, &header)
            .with(libc::IFA_ADDRESS, &octets)
            .with(libc::IFA_FLAGS, &flags.to_ne_bytes())
    }

    fn with(addresses: &[(&str, u32, u8)]) -> Table {
        let mut table = Table::default();
        for (ip, flags, scope) in addresses {
            take(&mut table, &own(libc::RTM_NEWADDR, ip, 64, *flags, *scope));
        }
        table
    }

    fn v6(addresses: &[(&str, u32, u8)]) -> Option<String> {
        with(addresses).source_v6(7, &BTreeSet::new()).map(|ip| ip.to_string())
    }

    #[test]
    fn the_ipv6_source_is_link_local_then_preferred_then_any_that_detection_let_pass() {
        let (global, local) = (("2001:db8::2", PERMANENT, 0), ("fe80::2", PERMANENT, 253));
        assert_eq!(v6(&[global, local]).unwrap(), "fe80::2");
        let deprecated = ("2001:db8::1", PERMANENT | libc::IFA_F_DEPRECATED, 0);
        assert_eq!(v6(&[deprecated, global]).unwrap(), "2001:db8::2");
        assert_eq!(v6(&[deprecated]).unwrap(), "2001:db8::1");
        assert_eq!(v6(&[("fe80::3", libc::IFA_F_TENTATIVE, 253)]), None);
        assert!(v6(&[("fe80::3", libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC, 253)]).is_some());
        let failed = libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC | libc::IFA_F_DADFAILED;
        assert_eq!(v6(&[("fe80::3", failed, 253)]), None);
        assert_eq!(v6(&[("::1", PERMANENT, SCOPE_HOST)]), None);
    }

    #[test]
    fn the_ipv4_source_is_the_first_primary_address_that_is_no_vip() {
        let vips = ["10.0.0.1".parse().unwrap()].into();
        let secondary = ("10.0.0.3", PERMANENT | libc::IFA_F_SECONDARY, 0);
        let rest = [("10.0.0.4", PERMANENT, 0), ("10.0.0.2", PERMANENT, 0)];
        let table = with(&[("10.0.0.1", PERMANENT, 0), secondary, rest[0], rest[1]]);
        assert_eq!(table.source_v4(7, &vips), Some([10, 0, 0, 4].into()));
        assert_eq!(table.source_v4(8, &vips), None);
    }

    #[test]
    fn an_address_told_twice_is_one_and_one_of_another_prefix_is_another() {
        let mut table = with(&[("10.0.0.2", PERMANENT, 0), ("10.0.0.2", PERMANENT, 0)]);
        take(&mut table, &own(libc::RTM_DELADDR, "10.0.0.2", 24, PERMANENT, 0));
        assert!(table.source_v4(7, &BTreeSet::new()).is_some());
        take(&mut table, &own(libc::RTM_DELADDR, "10.0.0.2", 64, PERMANENT, 0));
        assert_eq!(table.source_v4(7, &BTreeSet::new()), None);
    }

    #[test]
    fn up_means_switched_on_with_carrier_and_operational_or_unknown() {
        let up = |flags, operstate: u8| {
            let mut table = Table::default();
            take(&mut table, &link(libc::RTM_NEWLINK, 0, flags).with(libc::IFLA_OPERSTATE, &[operstate]));
            table.device(7).unwrap().up()
        };
        assert!(up(IFF_UP | IFF_LOWER_UP, OPER_UP) && up(IFF_UP | IFF_LOWER_UP, OPER_UNKNOWN));
        assert!(!up(IFF_UP, OPER_UP) && !up(IFF_LOWER_UP, OPER_UP));
        // Down, lower layer down, dormant.
        assert!([2, 3, 5].iter().all(|state| !up(IFF_UP | IFF_LOWER_UP, *state)));
    }

    #[test]
    fn a_partial_message_keeps_the_rest_and_one_of_a_bridge_port_changes_nothing() {
        let mut table = Table::default();
        let whole = link(libc::RTM_NEWLINK, 0, IFF_UP).with(libc::IFLA_IFNAME, b"eth1\0");
        take(&mut table, &whole.with(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7]));
        take(&mut table, &link(libc::RTM_NEWLINK, 0, IFF_UP | IFF_LOWER_UP));
        let bridge = 7;
        take(&mut table, &link(libc::RTM_NEWLINK, bridge, 0));
        take(&mut table, &link(libc::RTM_DELLINK, bridge, 0));
        assert_eq!(table.find("eth1"), Some(7));
        let device = table.device(7).unwrap();
        assert!(device.up() && device.mac == Some(Mac([2, 0, 0, 0, 0, 7])));
        take(&mut table, &link(libc::RTM_DELLINK, 0, 0));
        assert_eq!(table, Table::default());
    }
}
