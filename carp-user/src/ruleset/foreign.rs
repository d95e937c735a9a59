//! The rules that a firewall beside ours must hold.

use super::{ip, names, sync_ports};
use crate::config::{Config, Sync};
use crate::proto::protocol::CARP;
use std::collections::BTreeSet;
use std::fmt::Write;

/// In nft's words, by chain, with the reason of each: to be copied into a firewall that drops what it does not know.
pub fn foreign(config: &Config) -> String {
    let mut text = String::from(
        "# What another firewall must let through; in its chains, before what drops the rest.\n\
         # carpd hears and sends CARP below the firewall of its own machine: the rules for that are for one between the nodes.\n",
    );
    let carp: BTreeSet<&str> = config.hosts.iter().map(|host| host.device.as_str()).collect();
    let carp = names(&carp);
    // Writing into a string cannot fail.
    let _ = write!(text, "\n# input\niifname {carp} meta l4proto {CARP} accept\n");
    if let Some(sync) = &config.sync {
        let (Sync { device, address, peer, .. }, ports) = (sync, sync_ports(sync));
        let ip = ip(*peer);
        let from = format!("iifname \"{device}\" {ip} saddr {peer} {ip} daddr {address} tcp");
        let _ =
            write!(text, "{from} dport {ports} accept\n{from} sport {ports} ct state established accept\n");
    }
    let _ = write!(text, "\n# output\noifname {carp} meta l4proto {CARP} accept\n");
    if let Some(sync) = &config.sync {
        let (Sync { device, address, peer, .. }, ports) = (sync, sync_ports(sync));
        let ip = ip(*peer);
        let to = format!("oifname \"{device}\" {ip} saddr {address} {ip} daddr {peer} tcp");
        let _ = write!(text, "{to} dport {ports} accept\n{to} sport {ports} ct state established accept\n");
    }
    forwarded(&mut text, config);
    text
}

/// What the rules of NAT send through.
fn forwarded(text: &mut String, config: &Config) {
    let nat = &config.nat;
    if nat.is_empty() {
        return;
    }
    text.push_str("\n# forward\nct state established,related accept\n");
    if !(nat.forwards.is_empty() && nat.one_to_one.is_empty() && nat.prefixes.is_empty()) {
        text.push_str("ct status dnat accept\n");
    }
    let mut seen = BTreeSet::new();
    let sources = nat.outbound.iter().flat_map(|rule| {
        let sources = rule.sources.iter().map(ToString::to_string);
        sources.map(|source| format!("oifname \"{}\" {} saddr {source} accept", rule.device, ip(rule.to)))
    });
    let hosts = nat.one_to_one.iter();
    let hosts =
        hosts.map(|pair| format!("oifname \"{}\" {} saddr {} accept", pair.device, ip(pair.host), pair.host));
    let networks = nat.prefixes.iter();
    let networks =
        networks.map(|pair| format!("oifname \"{}\" ip6 saddr {} accept", pair.device, pair.inside));
    for line in sources.chain(hosts).chain(networks) {
        if seen.insert(line.clone()) {
            let _ = writeln!(text, "{line}");
        }
    }
}
