//! What of a configuration does not fit the other node, as far as it has been heard, and the links between.

use super::super::instance;
use crate::api::{Host, Request, Response};
use crate::config::{Config, HostConfig};
use crate::io::link::Links;
use std::collections::BTreeMap;

/// Smallest MTU that IPv6 works on (RFC 8200, section 5).
const LEAST_FOR_IPV6: u32 = 1280;
/// Smallest MTU that everybody can count on for IPv4 (RFC 791).
const LEAST_FOR_IPV4: u32 = 576;
/// The base of one who leaves.
const LEAVES: u8 = 255;

/// Virtual hosts that another node advertises with the same rank, or with another base, as the carpd that runs under this
/// name has heard it; nothing where none runs, or where this user may not ask it.
pub(super) fn ranks(config: &Config) -> Vec<String> {
    let Ok(Ok(Response::Status(status))) = instance::call(&config.node.name, &Request::Status) else {
        return Vec::new();
    };
    let heard = |host: &HostConfig| {
        let is_it = |of: &&Host| (of.interface.as_str(), of.vhid) == (host.device.as_str(), host.vhid.get());
        status.hosts.iter().find(is_it).and_then(|of| rank(host, of))
    };
    config.hosts.iter().filter_map(heard).collect()
}

fn rank(host: &HostConfig, heard: &Host) -> Option<String> {
    let peer = heard.peer.as_ref().filter(|peer| peer.base != LEAVES)?;
    let (name, address, base) =
        (format!("{}@{}", host.vhid.get(), host.device), &peer.address, host.pace.base);
    if peer.base != base {
        return Some(format!(
            "{name}: {address} advertises with base {}, and here it is {base}: who waits for shorter takes over from a \
             master that lives; give all nodes the same base",
            peer.base
        ));
    }
    (peer.skew == host.pace.skew).then(|| {
        format!(
            "{name}: {address} advertises with the same base and skew ({base}, {}): none of the two leads, and who was \
             first stays master; give one of them another skew, as pfSense does with skew = 100 in [node]",
            peer.skew
        )
    })
}

/// Interfaces whose MTU is too small, or not that of the others.
pub(super) fn mtus(config: &Config, links: &Links) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    for host in &config.hosts {
        let Some(mtu) = links.mtu(&host.device) else { continue };
        let has = |is_ipv4| host.addresses.iter().any(|vip| vip.ip.is_ipv4() == is_ipv4);
        let is_new = known.insert(&host.device, mtu).is_none();
        if is_new && has(false) && mtu < LEAST_FOR_IPV6 {
            warnings.push(format!(
                "{} has an MTU of {mtu}: IPv6 needs {LEAST_FOR_IPV6} (ip link set {} mtu 1500)",
                host.device, host.device
            ));
        } else if is_new && has(true) && mtu < LEAST_FOR_IPV4 {
            warnings.push(format!(
                "{} has an MTU of {mtu}: hosts count on {LEAST_FOR_IPV4} (ip link set {} mtu 1500)",
                host.device, host.device
            ));
        }
    }
    warnings.extend(different(&known));
    if let Some(sync) = &config.sync
        && let Some(mtu) = links.mtu(&sync.device).filter(|mtu| *mtu < LEAST_FOR_IPV6)
    {
        warnings.push(format!(
            "{} has an MTU of {mtu}: the sync link carries more headers than connections; give it 1500 or more on both nodes",
            sync.device
        ));
    }
    warnings
}

fn different(known: &BTreeMap<&str, u32>) -> Option<String> {
    let (least, most) = (known.values().min()?, known.values().max()?);
    if least == most {
        return None;
    }
    let list: Vec<String> = known.iter().map(|(device, mtu)| format!("{device} {mtu}")).collect();
    Some(format!(
        "the interfaces have different MTUs ({}): what is larger than {least} passes only if its sender hears that it is; \
         give them the same, or clamp TCP's segments (nft: tcp option maxseg size set rt mtu)",
        list.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_different_mtus_are_named_and_equal_ones_are_not() {
        assert_eq!(different(&BTreeMap::from([("lan0", 1500), ("wan0", 1500)])), None);
        let said = different(&BTreeMap::from([("lan0", 9000), ("wan0", 1500)])).unwrap_or_default();
        assert!(said.contains("lan0 9000, wan0 1500") && said.contains("larger than 1500"), "{said}");
    }
}
