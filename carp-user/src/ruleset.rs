//! The rules of the configuration as text for nft: one table of our own, `inet carp`, that nft replaces as a whole or
//! not at all. Pure; `io/nft.rs` hands it over.
//!
//! The rules are the same whatever the role: a node whose datapath does not serve gets nothing to translate, and a
//! connection that was replicated brings its translation along. What the node itself sends is never translated: the
//! first rule of the sources takes out what comes from an address of this machine, by the routing table of the moment
//! (`fib`), so that a VIP counts while it is here.

mod foreign;
mod inside;
mod others;
#[cfg(test)]
mod tests;

pub use foreign::foreign;
pub use others::{Service, droppers};

use crate::config::nat::{Forward, Nat, OneToOne, Outbound, PrefixPair};
use crate::config::{Config, Firewall, Sync};
use crate::proto::protocol::{self, CARP, TCP, UDP};
use crate::proto::sync::rule::Prefix;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// The table, as nft's words name it.
pub const TABLE: [&str; 2] = ["inet", "carp"];

/// What nft is told to leave nothing of the table; in a text of its own or before the new table, as one transaction.
/// The first line is for when there is none.
pub const REMOVAL: &str = "table inet carp\ndelete table inet carp\n";

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    text: String,
}

impl Ruleset {
    /// Of a configuration; none when it asks for no rules.
    pub fn of(config: &Config) -> Option<Self> {
        let Config { nat, firewall, .. } = config;
        let snats: Vec<(&str, String)> = inside::rules(config).collect();
        if nat.is_empty() && snats.is_empty() && *firewall == Firewall::default() {
            return None;
        }
        let mut text = format!("{REMOVAL}table inet carp {{\n");
        destinations(&mut text, nat);
        sources(&mut text, nat, snats);
        let links: BTreeSet<&str> = config.hosts.iter().map(|host| host.device.as_str()).collect();
        if firewall.enabled {
            input(&mut text, config.sync.as_ref(), &links);
        }
        if firewall.flowtable {
            flowtable(&mut text, &links);
        }
        text.push_str("}\n");
        Some(Self { text })
    }

    /// For nft's standard input.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What comes for a VIP. One look in a map finds the rule of a port, however many there are.
fn destinations(text: &mut String, nat: &Nat) {
    let (forwards, pairs) = (numbered(&nat.forwards), numbered(&nat.one_to_one));
    let mut lookups = Vec::new();
    for family in FAMILIES {
        let of = forwards.iter().filter(|(_, forward)| forward.to.is_ipv4() == family.is_ipv4);
        let (keys, elements): (Vec<_>, Vec<_>) = of
            .map(|(number, Forward { to, protocol, ports, .. })| {
                let one = ports.start() == ports.end();
                (one, format!("{to} . {protocol} . {} : jump forward_{number}", range(ports)))
            })
            .unzip();
        let Family { ip, address, .. } = family;
        let kind = format!("{address} . inet_proto . inet_service");
        let flags = if keys.iter().all(|one| *one) { "" } else { "\n\t\tflags interval" };
        if map(text, &format!("forwards_{ip}"), &kind, flags, &elements) {
            lookups.push(format!("{ip} daddr . meta l4proto . th dport vmap @forwards_{ip}"));
        }
    }
    for Family { ip, address, is_ipv4 } in FAMILIES {
        let of = pairs.iter().filter(|(_, pair)| pair.vip.is_ipv4() == is_ipv4);
        let elements: Vec<_> =
            of.map(|(number, pair)| format!("{} : jump to_host_{number}", pair.vip)).collect();
        if map(text, &format!("vips_{ip}"), address, "", &elements) {
            lookups.push(format!("{ip} daddr vmap @vips_{ip}"));
        }
    }
    for (number, forward) in forwards {
        chain(text, &format!("forward_{number}"), &[forward_rule(number, forward)]);
    }
    for (number, pair) in pairs {
        let OneToOne { device, host, .. } = pair;
        let comment = one_to_one_comment(number, pair);
        let rule = format!("iifname \"{device}\" counter dnat {} to {host} {comment}", ip(*host));
        chain(text, &format!("to_host_{number}"), &[rule]);
    }
    for (number, pair) in numbered(&nat.prefixes) {
        let PrefixPair { device, inside, outside } = pair;
        lookups.push(format!(
            "iifname \"{device}\" ip6 daddr {outside} counter dnat ip6 prefix to ip6 daddr map {{ {outside} : {inside} }} \
             {}",
            prefix_comment(number, pair)
        ));
    }
    if !lookups.is_empty() {
        lookups.insert(0, "type nat hook prerouting priority dstnat; policy accept;".to_owned());
        chain(text, "destinations", &lookups);
    }
}

/// What goes out; by device, what is left after all other rules.
fn sources(text: &mut String, nat: &Nat, snats: Vec<(&str, String)>) {
    let mut rules = Vec::new();
    let hairpins: Vec<_> = numbered(&nat.forwards)
        .into_iter()
        .filter(|(_, forward)| forward.hairpin)
        .map(hairpin_rule)
        .collect();
    if !hairpins.is_empty() {
        chain(text, "hairpins", &hairpins);
        rules.push("ct status dnat jump hairpins".to_owned());
    }
    let pairs = numbered(&nat.one_to_one);
    for Family { ip, address, is_ipv4 } in FAMILIES {
        let of = pairs.iter().filter(|(_, pair)| pair.vip.is_ipv4() == is_ipv4);
        let elements: Vec<_> =
            of.map(|(number, pair)| format!("{} : jump from_host_{number}", pair.host)).collect();
        if map(text, &format!("hosts_{ip}"), address, "", &elements) {
            rules.push(format!("{ip} saddr vmap @hosts_{ip}"));
        }
    }
    for (number, pair) in pairs {
        let OneToOne { device, vip, .. } = pair;
        let comment = one_to_one_comment(number, pair);
        let rule = format!("oifname \"{device}\" counter snat {} to {vip} {comment}", ip(*vip));
        chain(text, &format!("from_host_{number}"), &[rule]);
    }
    for (number, pair) in numbered(&nat.prefixes) {
        let PrefixPair { device, inside, outside } = pair;
        rules.push(format!(
            "oifname \"{device}\" ip6 saddr {inside} counter snat ip6 prefix to ip6 saddr map {{ {inside} : {outside} }} \
             {}",
            prefix_comment(number, pair)
        ));
    }
    let mut by_device: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (number, rule) in numbered(&nat.outbound) {
        by_device.entry(&rule.device).or_default().extend(outbound_rules(number, rule));
    }
    for (device, rule) in snats {
        by_device.entry(device).or_default().push(rule);
    }
    for (number, (device, outbound)) in (1..).zip(by_device) {
        chain(text, &format!("outbound_{number}"), &outbound);
        rules.push(format!("oifname \"{device}\" jump outbound_{number}"));
    }
    if !rules.is_empty() {
        let own = "fib saddr type local counter accept comment \"own: of this node, not translated\"";
        let head = ["type nat hook postrouting priority srcnat; policy accept;", own].map(str::to_owned);
        chain(text, "sources", &[&head, &rules[..]].concat());
    }
}

/// What is for this machine itself. Before filters of the usual priority.
fn input(text: &mut String, sync: Option<&Sync>, carp: &BTreeSet<&str>) {
    let mut rules = vec!["type filter hook input priority filter - 10; policy accept;".to_owned()];
    if let Some(sync) = sync {
        let (Sync { device, address, peer, .. }, ports) = (sync, sync_ports(sync));
        let ip = ip(*peer);
        rules.push(format!(
            "iifname \"{device}\" {ip} saddr {peer} {ip} daddr {address} tcp dport {ports} counter accept \
             comment \"sync: from the peer\""
        ));
        rules.push(format!("tcp dport {ports} counter drop comment \"sync-strangers: from anybody else\""));
    }
    rules.push(format!(
        "meta l4proto {CARP} iifname != {} counter drop comment \"carp-strangers: CARP where no virtual host is\"",
        names(carp)
    ));
    chain(text, "input", &rules);
}

/// Those at which the peer is listened to: for connections, and for the configuration.
fn sync_ports(sync: &Sync) -> String {
    format!("{{ {}, {} }}", sync.port, sync.config_port)
}

/// What is forwarded between these links and established: after the filters of the usual priority, so that only what they
/// let through takes the short way.
fn flowtable(text: &mut String, links: &BTreeSet<&str>) {
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "\tflowtable flows {{\n\t\thook ingress priority filter\n\t\tdevices = {}\n\t\tcounter\n\t}}\n",
        names(links)
    );
    let rules = [
        "type filter hook forward priority filter + 10; policy accept;".to_owned(),
        format!(
            "meta l4proto {{ {TCP}, {UDP} }} ct state established counter flow add @flows \
             comment \"flowtable: connections that take the short way\""
        ),
    ];
    chain(text, "short_way", &rules);
}

fn forward_rule(number: usize, forward: &Forward) -> String {
    let Forward { device, protocol, host, host_port, hairpin, .. } = forward;
    let from = if *hairpin { String::new() } else { format!("iifname \"{device}\" ") };
    let to = match host_port {
        Some(port) => SocketAddr::new(*host, *port).to_string(),
        None => host.to_string(),
    };
    format!(
        "{from}meta l4proto {protocol} counter dnat {} to {to} comment \"forward {}\"",
        ip(*host),
        forward_words(number, forward)
    )
}

/// Who is inside gets the host's answers through the gateway only if the host sees the gateway.
fn hairpin_rule((number, forward): (usize, &Forward)) -> String {
    let Forward { device, to, protocol, ports, .. } = forward;
    let (ip, ports) = (ip(*to), range(ports));
    format!(
        "iifname != \"{device}\" ct original {ip} daddr {to} meta l4proto {protocol} ct original proto-dst {ports} \
         counter snat {ip} to {to} fully-random comment \"hairpin {}\"",
        forward_words(number, forward)
    )
}

fn forward_words(number: usize, forward: &Forward) -> String {
    let Forward { to, protocol, ports, host, host_port, .. } = forward;
    let [vip, host] = [to, host].map(|ip| if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") });
    let (protocol, ports) = (protocol::name(*protocol), range(ports));
    let host_port = host_port.map_or_else(|| ports.clone(), |port| port.to_string());
    format!("{number}: {protocol} {vip}:{ports} to {host}:{host_port}")
}

fn one_to_one_comment(number: usize, OneToOne { vip, host, .. }: &OneToOne) -> String {
    format!("comment \"one-to-one {number}: {vip} for {host}\"")
}

fn prefix_comment(number: usize, PrefixPair { inside, outside, .. }: &PrefixPair) -> String {
    format!("comment \"prefix {number}: {inside} as {outside}\"")
}

/// One rule; two where TCP and UDP get other ports than the rest, which has none.
fn outbound_rules(number: usize, rule: &Outbound) -> Vec<String> {
    let Outbound { sources, except, protocol, to, ports, static_port, .. } = rule;
    let ip = ip(*to);
    let mut matches = format!("{ip} saddr {} ", prefixes(sources));
    if !except.is_empty() {
        // Writing into a string cannot fail.
        let _ = write!(matches, "{ip} daddr != {} ", prefixes(except));
    }
    let how = if *static_port { "" } else { " fully-random" };
    let more = sources.len().saturating_sub(1);
    let first = sources.first().map(Prefix::to_string).unwrap_or_default();
    let first = if more == 0 { first } else { format!("{first} and {more} more") };
    let translate = |protocol: &str, ports: &str| {
        format!(
            "{matches}{protocol}counter snat {ip} to {}{how} comment \"outbound {number}: {first} as {to}\"",
            if ports.is_empty() { to.to_string() } else { format!("{}:{ports}", bracketed(*to)) }
        )
    };
    let of = |protocol: &dyn Display| format!("meta l4proto {protocol} ");
    match (protocol, ports) {
        (None, None) => vec![translate("", "")],
        (Some(protocol), None) => vec![translate(&of(protocol), "")],
        (Some(protocol), Some(ports)) => vec![translate(&of(protocol), &range(ports))],
        (None, Some(ports)) => {
            vec![translate(&of(&format!("{{ {TCP}, {UDP} }}")), &range(ports)), translate("", "")]
        }
    }
}

/// A family of addresses in nft's words.
struct Family {
    ip: &'static str,
    address: &'static str,
    is_ipv4: bool,
}

const FAMILIES: [Family; 2] = [
    Family { ip: "ip", address: "ipv4_addr", is_ipv4: true },
    Family { ip: "ip6", address: "ipv6_addr", is_ipv4: false },
];

const fn ip(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv4() { address.to_string() } else { format!("[{address}]") }
}

/// Each with its place in the file, from 1.
fn numbered<T>(rules: &[T]) -> Vec<(usize, &T)> {
    (1..).zip(rules).collect()
}

/// A verdict map; whether there is any need for it.
fn map(text: &mut String, name: &str, kind: &str, flags: &str, elements: &[String]) -> bool {
    if elements.is_empty() {
        return false;
    }
    let elements = elements.join(",\n\t\t\t");
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "\tmap {name} {{\n\t\ttype {kind} : verdict{flags}\n\t\telements = {{\n\t\t\t{elements}\n\t\t}}\n\t}}\n"
    );
    true
}

fn chain(text: &mut String, name: &str, rules: &[String]) {
    // Writing into a string cannot fail.
    let _ = write!(text, "\tchain {name} {{\n\t\t{}\n\t}}\n", rules.join("\n\t\t"));
}

fn range(ports: &RangeInclusive<u16>) -> String {
    let (first, last) = (ports.start(), ports.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Names of interfaces, which the configuration has made sure to be plain.
fn names(devices: &BTreeSet<&str>) -> String {
    let names: Vec<String> = devices.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", names.join(", "))
}

/// One of these; nft refuses a set that says something twice.
fn prefixes(all: &[Prefix]) -> String {
    let is_in =
        |inner: &Prefix, outer: &Prefix| inner.length() > outer.length() && outer.contains(inner.address());
    let mut least: Vec<String> = Vec::new();
    for prefix in all.iter().filter(|inner| !all.iter().any(|outer| is_in(inner, outer))) {
        let text = prefix.to_string();
        if !least.contains(&text) {
            least.push(text);
        }
    }
    if let [one] = &least[..] { one.clone() } else { format!("{{ {} }}", least.join(", ")) }
}
