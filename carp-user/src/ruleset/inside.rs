//! `snat = "vip"`: what comes from inside leaves with a VIP as its source.

use super::prefixes;
use crate::config::{Config, HostConfig};
use crate::proto::sync::rule::Prefix;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// RFC 1918, and the shared address space of RFC 6598.
const PRIVATE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The rule of each such virtual host, with its device. What came in by the same device is not from inside; what the
/// nodes say to each other on the sync link is their own, also where one of them forwards it.
pub(super) fn rules(config: &Config) -> impl Iterator<Item = (&str, String)> {
    let vips = |host: &HostConfig| host.addresses.iter().find(|vip| vip.ip.is_ipv4()).map(|vip| vip.ip);
    let hosts = config.hosts.iter().filter(|host| host.snat);
    hosts.filter_map(move |host| Some((host.device.as_str(), rule(config, &host.device, vips(host)?))))
}

fn rule(config: &Config, device: &str, vip: IpAddr) -> String {
    let sync = config.sync.iter().flat_map(|sync| [sync.address, sync.peer]).filter(IpAddr::is_ipv4);
    let sync: Vec<Prefix> = sync.map(Prefix::of).collect();
    let not_sync = if sync.is_empty() { String::new() } else { format!("ip saddr != {} ", prefixes(&sync)) };
    format!(
        "iifname != \"{device}\" ip saddr {} {not_sync}counter snat ip to {vip} fully-random \
         comment \"snat {device}: what is inside as {vip}\"",
        prefixes(&inside(config))
    )
}

/// Private networks, and those of the VIPs of links that are no outside.
fn inside(config: &Config) -> Vec<Prefix> {
    let is_outside = |device: &str| config.hosts.iter().any(|host| host.snat && host.device == device);
    let vips = config.hosts.iter().filter(|host| !is_outside(&host.device)).flat_map(|host| &host.addresses);
    let networks = vips.filter(|vip| vip.ip.is_ipv4()).filter_map(|vip| Prefix::new(vip.ip, vip.prefix));
    let private = PRIVATE.into_iter().filter_map(|(network, length)| Prefix::new(network.into(), length));
    private.chain(networks).collect::<BTreeSet<_>>().into_iter().collect()
}
