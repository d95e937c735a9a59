//! What a rule of NAT has to fit: the VIPs, the sync link, and the other rules.

use super::super::fields::At;
use super::super::mistake::{Mistake, Place};
use super::super::{HostConfig, Sync, Vip};
use crate::proto::sync::rule::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Most VIPs that a piece of advice lists.
const MOST_LISTED: usize = 4;

/// The rest of the configuration, as far as rules speak of it.
pub(in crate::config) struct Around {
    /// Each VIP with its device; link-local ones stay on their link, no rule is for them.
    vips: BTreeMap<IpAddr, (String, Vip)>,
    devices: BTreeSet<String>,
    /// The devices of virtual hosts, with whether they have IPv4 addresses there (`true`), or IPv6 ones.
    families: BTreeSet<(String, bool)>,
    sync: Vec<IpAddr>,
    /// Nothing is missing because of a mistake.
    whole: bool,
}

impl Around {
    /// With `whole`, there was no mistake in any of it.
    pub(in crate::config) fn new(hosts: &[HostConfig], sync: Option<&Sync>, whole: bool) -> Self {
        let vips = hosts.iter().flat_map(|host| host.addresses.iter().map(|vip| (&host.device, *vip)));
        let vips = vips.filter(|(_, vip)| match vip.ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        });
        let families = hosts
            .iter()
            .flat_map(|host| host.addresses.iter().map(|vip| (host.device.clone(), vip.ip.is_ipv4())));
        let devices = hosts.iter().map(|host| host.device.clone());
        Self {
            vips: vips.map(|(device, vip)| (vip.ip, (device.clone(), vip))).collect(),
            devices: devices.chain(sync.map(|sync| sync.device.clone())).collect(),
            families: families.collect(),
            sync: sync.map(|sync| vec![sync.address, sync.peer]).unwrap_or_default(),
            whole,
        }
    }

    /// The device of a VIP, which must be this one if one is named.
    pub(in crate::config) fn check_vip(
        &self,
        ip: &At<IpAddr>,
        on: Option<&str>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<String> {
        if let Some((device, _)) =
            self.vips.get(&ip.value).filter(|(device, _)| on.is_none_or(|on| on == device))
        {
            return Some(device.clone());
        }
        if self.whole {
            let (what, expected) = match on {
                Some(on) => (format!("{} is no VIP of {on}", ip.value), "expected a VIP of that interface"),
                None => (format!("{} is no VIP", ip.value), "expected an address of a virtual host"),
            };
            let fit = self.vips.iter().filter(|(_, (device, _))| on.is_none_or(|on| on == device));
            let fit: Vec<String> = fit.take(MOST_LISTED).map(|(vip, _)| format!("\"{vip}\"")).collect();
            let help = if fit.is_empty() {
                "first add a [[virtual_host]] there".to_owned()
            } else {
                format!("for example {}", fit.join(", "))
            };
            mistakes.push(Mistake::at(ip.place.clone(), what, expected).help(help));
        }
        None
    }

    /// That they are of the family of the VIP.
    pub(super) fn check_families(
        &self,
        prefixes: &[At<Prefix>],
        to: &At<IpAddr>,
        mistakes: &mut Vec<Mistake>,
    ) {
        for At { value, place } in prefixes {
            if value.address().is_ipv4() != to.value.is_ipv4() {
                let what = format!("{value} is not of the family of {}", to.value);
                let mistake = Mistake::at(place.clone(), what, "expected the family of `to`");
                mistakes.push(mistake.and(to.place.clone(), "this VIP"));
            }
        }
    }

    /// That no source has what the nodes send themselves: translated, their own connections would get the VIP's
    /// address also on the node that does not serve it, and their answers would go to the other one.
    pub(super) fn check_sources(
        &self,
        sources: &[At<Prefix>],
        to: &At<IpAddr>,
        device: &str,
        mistakes: &mut Vec<Mistake>,
    ) {
        self.check_families(sources, to, mistakes);
        let own = self.vips.iter().filter(|(_, (on, _))| on == device).map(|(vip, _)| *vip);
        let own: Vec<IpAddr> = own.collect();
        for At { value, place } in sources {
            let trap = if value.length() == 0 {
                format!("{value} is everybody, the nodes themselves too")
            } else if let Some(ip) = own.iter().find(|ip| value.contains(**ip)) {
                format!("{value} has the VIP {ip} of {device}: that is the outside, the nodes themselves too")
            } else if let Some(ip) = self.sync.iter().find(|ip| value.contains(**ip)) {
                format!("{value} has {ip} of the sync link: the nodes speak with each other there")
            } else {
                continue;
            };
            let mistake = Mistake::at(place.clone(), trap, "expected a network behind the gateway");
            mistakes.push(mistake.maybe_help(self.inside(to.value, device)));
        }
    }

    /// That a virtual host is on this device.
    pub(super) fn check_carries(&self, interface: &At<&str>, device: &str, mistakes: &mut Vec<Mistake>) {
        if self.whole && !self.vips.values().any(|(on, _)| on == device) {
            let what = format!("{} carries no virtual host", interface.value);
            let mistake = Mistake::at(interface.place.clone(), what, "expected an interface with one");
            mistakes.push(mistake.help("first add a [[virtual_host]] there"));
        }
    }

    /// That a virtual host with addresses of the next hop's family is on this device, and that the next hop is none of
    /// them.
    pub(in crate::config) fn check_next_hop(
        &self,
        via: &At<IpAddr>,
        (interface, device): (&At<&str>, &str),
        mistakes: &mut Vec<Mistake>,
    ) {
        let family = if via.value.is_ipv4() { "IPv4" } else { "IPv6" };
        if self.vips.contains_key(&via.value) {
            let what = format!("{} is a VIP, no next hop", via.value);
            mistakes.push(Mistake::at(via.place.clone(), what, "expected the address of another router"));
        } else if self.whole && !self.families.contains(&(device.to_owned(), via.value.is_ipv4())) {
            let what = format!("{} carries no virtual host with an {family} address", interface.value);
            let mistake = Mistake::at(interface.place.clone(), what, "expected an interface with one");
            mistakes.push(mistake.help("first add a [[virtual_host]] there, or an address to it"));
        }
    }

    /// That two networks can stand for each other, and neither has what is the nodes' own.
    pub(super) fn check_prefixes(
        &self,
        inside: &At<Prefix>,
        outside: &At<Prefix>,
        device: &str,
        mistakes: &mut Vec<Mistake>,
    ) {
        let (first, second) = (inside.value, outside.value);
        let problem = if first.address().is_ipv4() || second.address().is_ipv4() {
            "prefixes are translated for IPv6 only".to_owned()
        } else if first.length() != second.length() {
            format!("{second} is not as long as {first}")
        } else if let Some(vip) = self.vips.keys().find(|vip| second.contains(**vip)) {
            format!("{second} has the VIP {vip}: what comes for the nodes themselves would go inside")
        } else {
            let to = At { value: second.address(), place: outside.place.clone() };
            let source = At { value: first, place: inside.place.clone() };
            self.check_sources(&[source], &to, device, mistakes);
            return;
        };
        let mistake =
            Mistake::at(outside.place.clone(), problem, "expected a network that is routed to a VIP");
        mistakes.push(mistake.and(inside.place.clone(), "stands for this one"));
    }

    /// That a host behind the gateway is not the gateway.
    pub(super) fn check_host(&self, host: &At<IpAddr>, vip: &At<IpAddr>, mistakes: &mut Vec<Mistake>) {
        let problem = if host.value.is_ipv4() != vip.value.is_ipv4() {
            format!("{} is not of the family of {}", host.value, vip.value)
        } else if self.vips.contains_key(&host.value) {
            format!("{} is a VIP, no host behind the gateway", host.value)
        } else {
            return;
        };
        let mistake = Mistake::at(host.place.clone(), problem, "expected a host's own address");
        mistakes.push(mistake.and(vip.place.clone(), "translated from here"));
    }

    /// That nft can be told the names of the links: it has no way to write a quote in one, and reads a `*` at the end
    /// as any name that begins so.
    pub(super) fn check_devices(&self, place: &Place, mistakes: &mut Vec<Mistake>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
        for device in self.devices.iter().filter(|device| !device.chars().all(plain)) {
            let what = format!("nft cannot be told of an interface with the name {device}");
            let mistake = Mistake::at(place.clone(), what, "not with this interface");
            mistakes
                .push(mistake.help("name it with letters, digits and . _ - + @ (ip link set NAME name NEW)"));
        }
    }

    /// That there is something to forward between: links with virtual hosts.
    pub(super) fn check_crossing(&self, place: &Place, mistakes: &mut Vec<Mistake>) {
        let links: BTreeSet<&String> = self.families.iter().map(|(device, _)| device).collect();
        if self.whole && links.len() < 2 {
            let what = "a flowtable, and virtual hosts on one interface only";
            let mistake = Mistake::at(place.clone(), what, "nothing passes from one to another");
            mistakes.push(mistake.help("leave `flowtable` out, or add a [[virtual_host]] on the other side"));
        }
    }

    /// The networks of the VIPs of that family on other links.
    fn inside(&self, to: IpAddr, device: &str) -> Option<String> {
        let inside = self.vips.values().filter(|(on, vip)| on != device && vip.ip.is_ipv4() == to.is_ipv4());
        let inside: BTreeSet<String> =
            inside.filter_map(|(_, vip)| Some(Prefix::new(vip.ip, vip.prefix)?.to_string())).collect();
        let inside: Vec<String> =
            inside.into_iter().take(MOST_LISTED).map(|network| format!("\"{network}\"")).collect();
        (!inside.is_empty()).then(|| format!("for example source = [{}]", inside.join(", ")))
    }
}

/// What no two rules may have, with the place of the first.
#[derive(Default)]
pub(super) struct Ledger {
    /// By address and protocol: from the first port to the last.
    forwarded: BTreeMap<(IpAddr, u8), BTreeMap<u16, (u16, Place)>>,
    /// Both ends of one-to-one rules.
    pairs: BTreeMap<IpAddr, Place>,
    /// Both sides of rules of prefixes; each by its first address.
    prefixes: BTreeMap<IpAddr, (Prefix, Place)>,
}

impl Ledger {
    pub(super) fn forward(
        &mut self,
        key: (IpAddr, u8),
        ports: &At<RangeInclusive<u16>>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let (first, last) = (*ports.value.start(), *ports.value.end());
        let known = self.forwarded.entry(key).or_default();
        // The ranges do not overlap, so that the last one that begins in time is also the last to end.
        let before = known.range(..=last).next_back();
        if let Some((_, (_, place))) = before.filter(|(_, (end, _))| *end >= first) {
            let mistake = Mistake::at(ports.place.clone(), "two rules for the same port", "the second one");
            mistakes.push(mistake.and(place.clone(), "the first one").help("remove one of the two"));
        } else {
            known.insert(first, (last, ports.place.clone()));
        }
    }

    pub(super) fn prefix(&mut self, prefix: &At<Prefix>, mistakes: &mut Vec<Mistake>) {
        let new = prefix.value;
        // Those that are there do not overlap: the new one is in the last that begins before it, or has the next.
        let before = self.prefixes.range(..=new.address()).next_back();
        let after = self.prefixes.range(new.address()..).next();
        let before = before.filter(|(_, (known, _))| known.contains(new.address()));
        let after = after.filter(|(_, (known, _))| new.contains(known.address()));
        if let Some((_, (known, first))) = before.or(after) {
            let what = format!("{new} and {known} in two places of [[nat.prefix]]");
            let mistake = Mistake::at(prefix.place.clone(), what, "second time here");
            mistakes
                .push(mistake.and(first.clone(), "first here").help("each network stands in one rule, once"));
        } else {
            self.prefixes.insert(new.address(), (new, prefix.place.clone()));
        }
    }

    pub(super) fn once(&mut self, ip: &At<IpAddr>, mistakes: &mut Vec<Mistake>) {
        if let Some(first) = self.pairs.get(&ip.value) {
            let what = format!("{} in two rules of one-to-one", ip.value);
            let mistake = Mistake::at(ip.place.clone(), what, "second time here");
            mistakes.push(mistake.and(first.clone(), "first here").help("remove one of the two"));
        } else {
            self.pairs.insert(ip.value, ip.place.clone());
        }
    }
}
