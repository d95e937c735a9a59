//! The tables `[[nat.…]]` and `[firewall]`: what nftables is to translate and to refuse.

pub mod keys;

mod around;
#[cfg(test)]
mod tests;

pub(super) use around::Around;

use super::fields::{At, Fields};
use super::host::device;
use super::mistake::Mistake;
use super::{Document, Node, rules, sync};
use crate::proto::protocol;
use crate::proto::sync::rule::Prefix;
use around::Ledger;
use keys::{FIREWALL, FORWARD, NAT, ONE_TO_ONE, OUTBOUND, PREFIX};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What is translated: rules in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Of what leaves; the first that matches counts.
    pub outbound: Vec<Outbound>,
    /// Of what comes for a port of a VIP; no two are for the same.
    pub forwards: Vec<Forward>,
    /// Of what comes for a VIP, and of what its host sends.
    pub one_to_one: Vec<OneToOne>,
    /// Of networks as a whole.
    pub prefixes: Vec<PrefixPair>,
}

/// One `[[nat.outbound]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Device that it leaves by.
    pub device: String,
    /// Where it comes from; at least one, all of one family.
    pub sources: Vec<Prefix>,
    /// Destinations to which it stays as it is.
    pub except: Vec<Prefix>,
    /// Only of this protocol of IP.
    pub protocol: Option<u8>,
    /// The VIP that becomes its source.
    pub to: IpAddr,
    /// Its source port becomes one of these.
    pub ports: Option<RangeInclusive<u16>>,
    /// Its source port stays, where that is free.
    pub static_port: bool,
}

/// One `[[nat.forward]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Device of the VIP.
    pub device: String,
    /// The VIP.
    pub to: IpAddr,
    /// TCP or UDP.
    pub protocol: u8,
    /// Ports of the VIP.
    pub ports: RangeInclusive<u16>,
    /// Where it goes.
    pub host: IpAddr,
    /// The port there; none when it stays.
    pub host_port: Option<u16>,
    /// Also for what comes in elsewhere.
    pub hairpin: bool,
}

/// One `[[nat.one_to_one]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneToOne {
    /// Device of the VIP.
    pub device: String,
    /// The VIP.
    pub vip: IpAddr,
    /// Whom it stands for.
    pub host: IpAddr,
}

/// One `[[nat.prefix]]`: IPv6, of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixPair {
    /// Device of the outside.
    pub device: String,
    /// What the network is behind the gateway.
    pub inside: Prefix,
    /// What it is outside.
    pub outside: Prefix,
}

/// The table `[firewall]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Strangers are kept from the sync link and from CARP.
    pub enabled: bool,
    /// What is forwarded takes the short way, once it is established.
    pub flowtable: bool,
}

impl Nat {
    /// Most rules, of all kinds together: as many are loaded within two seconds. Policy: more are a mistake in the
    /// configuration.
    pub const MOST: usize = 5000;

    /// Whether nothing is translated.
    pub const fn is_empty(&self) -> bool {
        self.outbound.is_empty()
            && self.forwards.is_empty()
            && self.one_to_one.is_empty()
            && self.prefixes.is_empty()
    }
}

/// All rules that are in order; `around` is what they have to fit.
pub(super) fn read(
    document: &Document,
    node: Option<&Node>,
    around: &Around,
    mistakes: &mut Vec<Mistake>,
) -> Nat {
    let Some(table) = document.table("nat", "[[nat.outbound]]", mistakes) else { return Nat::default() };
    let fields = Fields::new((document.file, document.whole), "[nat]", table, NAT, mistakes);
    let lists = [
        ("outbound", ("[[nat.outbound]]", OUTBOUND)),
        ("forward", ("[[nat.forward]]", FORWARD)),
        ("one_to_one", ("[[nat.one_to_one]]", ONE_TO_ONE)),
        ("prefix", ("[[nat.prefix]]", PREFIX)),
    ];
    let [outbounds, forwards, pairs, prefixes] = lists.map(|(key, of)| fields.tables(key, of, mistakes));
    let lists = [&outbounds, &forwards, &pairs, &prefixes];
    let count: usize = lists.iter().filter_map(|list| Some(list.as_ref()?.value.len())).sum();
    if let (true, Some(last)) = (count > Nat::MOST, lists.into_iter().flatten().last()) {
        let what = format!("{count} rules of NAT");
        let mistake = Mistake::at(last.place.clone(), what, format!("expected at most {}", Nat::MOST));
        mistakes.push(mistake.help("a shorter prefix or a range of ports can stand for several"));
    }
    around.check_devices(&fields.place_of_table(), mistakes);
    let mut ledger = Ledger::default();
    let rules = |list: Option<At<Vec<_>>>| list.map(|list| list.value).unwrap_or_default();
    let mut nat = Nat::default();
    for fields in rules(outbounds) {
        nat.outbound.extend(outbound(&fields, node, around, mistakes));
    }
    for fields in rules(forwards) {
        nat.forwards.extend(forward(&fields, around, &mut ledger, mistakes));
    }
    for fields in rules(pairs) {
        nat.one_to_one.extend(one_to_one(&fields, around, &mut ledger, mistakes));
    }
    for fields in rules(prefixes) {
        nat.prefixes.extend(prefix_pair(&fields, node, around, &mut ledger, mistakes));
    }
    nat
}

/// What the table `[firewall]` asks for.
pub(super) fn read_firewall(document: &Document, around: &Around, mistakes: &mut Vec<Mistake>) -> Firewall {
    let Some(table) = document.table("firewall", "[firewall]", mistakes) else { return Firewall::default() };
    let fields = Fields::new((document.file, document.whole), "[firewall]", table, FIREWALL, mistakes);
    let mut flag = |key| fields.flag(key, false, mistakes) == Some(true);
    let firewall = Firewall { enabled: flag("enabled"), flowtable: flag("flowtable") };
    if firewall != Firewall::default() {
        around.check_devices(&fields.place_of_table(), mistakes);
    }
    if firewall.flowtable {
        around.check_crossing(&fields.place_of_table(), mistakes);
    }
    firewall
}

fn outbound(
    fields: &Fields<'_>,
    node: Option<&Node>,
    around: &Around,
    mistakes: &mut Vec<Mistake>,
) -> Option<Outbound> {
    let sources = fields.list("source", mistakes);
    let sources = sources.and_then(|list| prefixes(&list, "a rule without a source", mistakes));
    let interface = fields.text("interface", mistakes);
    let device = interface.as_ref().and_then(|name| device(name, node, mistakes));
    let to = fields.text("to", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let except = fields.optional_list("except", mistakes);
    let except =
        except.map_or(Some(Vec::new()), |list| prefixes(&list, "an empty list of exceptions", mistakes));
    let protocol =
        rules::parsed(fields.text_or_number("protocol", mistakes), "a protocol", rules::protocol, mistakes);
    let ports = ports(fields, "ports", mistakes);
    let static_port = fields.flag("static_port", false, mistakes);
    let has_ports = |number| number == protocol::TCP || number == protocol::UDP;
    if let Some(ports) = &ports {
        let mut wrong = |what: &str, help: &str| {
            mistakes.push(Mistake::at(ports.place.clone(), what, "not together with these ports").help(help));
        };
        if protocol.is_some_and(|number| !has_ports(number)) {
            wrong("`ports` for another protocol than TCP or UDP", "leave `ports` out");
        }
        if static_port == Some(true) {
            wrong("`ports` and `static_port`", "keep one of the two");
        }
    }
    let (device, to, sources, except) = (device?, to?, sources?, except?);
    around.check_vip(&to, Some(&device), mistakes);
    around.check_sources(&sources, &to, &device, mistakes);
    around.check_families(&except, &to, mistakes);
    let plain = |list: Vec<At<Prefix>>| list.into_iter().map(|prefix| prefix.value).collect::<Vec<Prefix>>();
    Some(Outbound {
        device,
        sources: plain(sources),
        except: plain(except),
        protocol,
        to: to.value,
        ports: ports.map(|ports| ports.value),
        static_port: static_port?,
    })
}

fn forward(
    fields: &Fields<'_>,
    around: &Around,
    ledger: &mut Ledger,
    mistakes: &mut Vec<Mistake>,
) -> Option<Forward> {
    let to = fields.text("to", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let protocol = fields.choice("protocol", mistakes).and_then(|name| protocol::number(name.value));
    let ports = if fields.has("port") {
        ports(fields, "port", mistakes)
    } else {
        // Says that it is missing.
        fields.text("port", mistakes).and(None)
    };
    let host = fields.text("host", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let host_port = fields.number::<u16>("host_port", mistakes);
    let hairpin = fields.flag("hairpin", false, mistakes);
    let (to, protocol, ports, host, host_port) = (to?, protocol?, ports?, host?, host_port?);
    let device = around.check_vip(&to, None, mistakes);
    around.check_host(&host, &to, mistakes);
    ledger.forward((to.value, protocol), &ports, mistakes);
    let is_one = ports.value.start() == ports.value.end();
    let host_port = Some(host_port.value).filter(|port| *port != NO_PORT && port != ports.value.start());
    if let (Some(port), false) = (host_port, is_one) {
        let mistake = Mistake::at(ports.place, format!("a range of ports to port {port}"), "this range");
        mistakes.push(mistake.help("a range keeps its numbers: leave `host_port` out, or forward each port"));
        return None;
    }
    let (to, ports, host, hairpin) = (to.value, ports.value, host.value, hairpin?);
    Some(Forward { device: device?, to, protocol, ports, host, host_port, hairpin })
}

fn one_to_one(
    fields: &Fields<'_>,
    around: &Around,
    ledger: &mut Ledger,
    mistakes: &mut Vec<Mistake>,
) -> Option<OneToOne> {
    let vip = fields.text("vip", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let host = fields.text("host", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let (vip, host) = (vip?, host?);
    let device = around.check_vip(&vip, None, mistakes);
    around.check_host(&host, &vip, mistakes);
    ledger.once(&vip, mistakes);
    ledger.once(&host, mistakes);
    Some(OneToOne { device: device?, vip: vip.value, host: host.value })
}

fn prefix_pair(
    fields: &Fields<'_>,
    node: Option<&Node>,
    around: &Around,
    ledger: &mut Ledger,
    mistakes: &mut Vec<Mistake>,
) -> Option<PrefixPair> {
    let interface = fields.text("interface", mistakes);
    let device = interface.as_ref().and_then(|name| device(name, node, mistakes));
    let [inside, outside] = ["inside", "outside"].map(|key| {
        let text = fields.text(key, mistakes)?;
        prefix(&text, mistakes)
    });
    let (interface, device, inside, outside) = (interface?, device?, inside?, outside?);
    around.check_carries(&interface, &device, mistakes);
    around.check_prefixes(&inside, &outside, &device, mistakes);
    ledger.prefix(&inside, mistakes);
    ledger.prefix(&outside, mistakes);
    Some(PrefixPair { device, inside: inside.value, outside: outside.value })
}

/// What an absent `host_port` reads as.
const NO_PORT: u16 = 0;

/// One port or several; there is no port 0.
fn ports(fields: &Fields<'_>, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<RangeInclusive<u16>>> {
    let text = fields.text_or_number(key, mistakes)?;
    let place = text.place.clone();
    let value = rules::parsed(Some(text), "a port or a range of them", rules::ports, mistakes)?;
    if *value.start() == 0 {
        mistakes.push(Mistake::at(place, "there is no port 0", "expected 1 to 65535"));
        return None;
    }
    Some(At { value, place })
}

fn prefixes(list: &At<Vec<At<&str>>>, empty: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<At<Prefix>>> {
    if list.value.is_empty() {
        let mistake = Mistake::at(list.place.clone(), empty, "expected at least one network");
        mistakes.push(mistake.help("for example [\"10.0.0.0/24\"]"));
        return None;
    }
    let read: Vec<_> = list.value.iter().filter_map(|text| prefix(text, mistakes)).collect();
    (read.len() == list.value.len()).then_some(read)
}

fn prefix(At { value, place }: &At<&str>, mistakes: &mut Vec<Mistake>) -> Option<At<Prefix>> {
    let text = At { value: (*value).to_owned(), place: place.clone() };
    let value = rules::parsed(Some(text), "a prefix", rules::prefix, mistakes)?;
    Some(At { value, place: place.clone() })
}
