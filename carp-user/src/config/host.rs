//! The tables `[[virtual_host]]`, each for itself and all against each other.

pub(super) mod keys;

use super::fields::{At, Fields};
use super::mistake::{File, Mistake, Place};
use super::node::device_problem;
use super::{Document, Group, HostConfig, Node, Vip, address, private, reference, secrets};
use crate::proto::event::Flavour;
use carp_common::auth::{StrictKey, Variant};
use carp_common::id::Vhid;
use carp_common::map::{MAX_HOSTS, MAX_VIPS};
use carp_common::pace::Pace;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

const NAME: &str = "[[virtual_host]]";
const EXAMPLE: &str = "begin each virtual host with a line [[virtual_host]]";
const MOST_SKEW: u8 = 254;
/// The word for what is not translated.
const NO_SNAT: &str = "none";

/// All virtual hosts that are in order by themselves. `node` is `None` when it has mistakes; then
/// its defaults stand in.
pub(super) fn read_all(
    document: &Document,
    (node, groups): (Option<&Node>, &[Group]),
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<HostConfig> {
    let mut ledger = Ledger::default();
    let mut hosts = Vec::new();
    if !document.top.contains_key("virtual_host") && document.whole {
        let place = Place { file: document.file, span: 0..0 };
        mistakes.push(Mistake::at(place, "there is no virtual host", "in this file").help(EXAMPLE));
    }
    for table in tables(document, "virtual_host", EXAMPLE, mistakes) {
        let fields =
            Fields::new((document.file, document.whole), NAME, table, reference::VIRTUAL_HOST, mistakes);
        hosts.extend(read_one(&fields, (node, groups), &read, &mut ledger, mistakes));
    }
    ledger.check_sizes(document.file, mistakes);
    hosts
}

/// What must be unique, with the place of its first use.
#[derive(Default)]
struct Ledger {
    vhids: BTreeMap<(String, u8), Place>,
    /// Link-local addresses with their device, the others anywhere.
    vips: BTreeMap<(Option<String>, IpAddr), Place>,
    /// Devices whose outside is a VIP.
    snats: BTreeMap<String, Place>,
    /// By number, what signs strictly: key and addresses, and on which device.
    signers: BTreeMap<Vhid, Vec<(StrictKey, String, Place)>>,
    /// What the first of each group competes with.
    groups: BTreeMap<String, (Rank, Place)>,
}

/// What those of a group that moves as one have in common.
type Rank = (Pace, bool, Flavour);

fn read_one(
    fields: &Fields<'_>,
    (node, groups): (Option<&Node>, &[Group]),
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    ledger: &mut Ledger,
    mistakes: &mut Vec<Mistake>,
) -> Option<HostConfig> {
    let interface = fields.text("interface", mistakes);
    let device = interface.as_ref().and_then(|name| device(name, node, mistakes));
    let vhid = fields.number("vhid", mistakes);
    if let (Some(device), Some(vhid)) = (&device, &vhid) {
        ledger.vhid(device, vhid, mistakes);
    }
    let addresses = fields.list("addresses", mistakes);
    let vips = addresses.as_ref().and_then(|list| vips(list, device.as_deref(), ledger, mistakes));
    let secrets = secrets::read(fields, &read, mistakes);
    let base = fields.number("base", mistakes);
    let skew = fields.number("skew", mistakes).and_then(|skew| total_skew(&skew, node, mistakes));
    let preempt = fields.flag("preempt", node.is_none_or(|node| node.preempt), mistakes);
    let delay = fields.number::<u16>("preempt_delay", mistakes).map(|delay| delay.value);
    let of_node = node.filter(|_| !fields.has("preempt_delay")).map(|node| node.preempt_delay);
    let flavour = fields.choice("flavour", mistakes).and_then(|name| Flavour::from_name(name.value));
    let digest = digest(fields, addresses.as_ref(), mistakes);
    let answer_ping = fields.flag("answer_ping", false, mistakes);
    let tos = fields.number("tos", mistakes);
    let group = group_of(fields, groups, mistakes);
    let snat = fields.choice("snat", mistakes);
    let (digest, vhid, device) = (digest?, Vhid::new(vhid?.value)?, device?);
    let (accept, vips, secrets) = (accepted(digest), vips?, secrets?);
    secrets.check(vhid, &vips, digest, &accept, mistakes);
    ledger.signer(&device, vhid, secrets.strict_keys(&vips), mistakes);
    let pace = Pace { base: base?.value, skew: skew? };
    let (preempt, flavour) = (preempt?, flavour?);
    if let Some((group, place)) = &group {
        ledger.member(group, (pace, preempt, flavour), place, mistakes);
    }
    let snat = snat.map(|snat| snat.value != NO_SNAT && ledger.snat(&device, &vips, snat.place, mistakes));
    Some(HostConfig {
        interface: interface?.value.to_owned(),
        device,
        group: group.map(|(group, _)| group.name.clone()),
        vhid,
        addresses: vips,
        password_file: secrets.file,
        secret: secrets.secret,
        next_password_file: secrets.next_file,
        next_secret: secrets.next,
        auth: secrets.auth,
        pace,
        preempt,
        preempt_delay: of_node.or(delay)?,
        flavour,
        digest,
        accept,
        answer_ping: answer_ping?,
        tos: tos?.value,
        snat: snat?,
    })
}

/// The group that it says it belongs to, with the place of that.
fn group_of<'a>(
    fields: &Fields<'_>,
    groups: &'a [Group],
    mistakes: &mut Vec<Mistake>,
) -> Option<(&'a Group, Place)> {
    let At { value, place } = fields.optional("group", mistakes)?;
    let found = groups.iter().find(|group| group.name == value);
    if found.is_none() {
        let names: Vec<String> = groups.iter().map(|group| format!("`{}`", group.name)).collect();
        let expected = if names.is_empty() {
            "there is no [[group]]".to_owned()
        } else {
            format!("there is {}", names.join(", "))
        };
        let mistake = Mistake::at(place.clone(), format!("there is no group \"{value}\""), expected);
        mistakes.push(mistake.help(format!("add [[group]] with name = \"{value}\"")));
    }
    found.map(|group| (group, place))
}

/// The device of this role, or of this name.
pub(super) fn device(name: &At<&str>, node: Option<&Node>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    if let Some(device) = node.and_then(|node| node.interfaces.get(name.value)) {
        return Some(device.clone());
    }
    let Some(problem) = device_problem(name.value) else { return Some(name.value.to_owned()) };
    // With a broken [node] a long name may well be a role that could not be read.
    if node.is_some() {
        let what = format!("\"{}\" is neither a role in [node.interfaces] nor a device name", name.value);
        mistakes.push(Mistake::at(name.place.clone(), what, problem));
    }
    None
}

fn vips(
    list: &At<Vec<At<&str>>>,
    device: Option<&str>,
    ledger: &mut Ledger,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<Vip>> {
    if list.value.is_empty() {
        let mistake =
            Mistake::at(list.place.clone(), "a virtual host without an address", "expected at least one");
        mistakes.push(mistake.help("for example addresses = [\"10.0.0.1/24\"]"));
        return None;
    }
    let mut vips = Vec::with_capacity(list.value.len());
    for At { value, place } in &list.value {
        match address::vip(value) {
            Ok(vip) => {
                ledger.vip(vip.ip, device, place, mistakes);
                vips.push(vip);
            }
            Err(no) => {
                mistakes.push(Mistake::at(place.clone(), no.what, no.expected).maybe_help(no.help));
            }
        }
    }
    (vips.len() == list.value.len()).then_some(vips)
}

fn total_skew(skew: &At<u8>, node: Option<&Node>, mistakes: &mut Vec<Mistake>) -> Option<u8> {
    let own = node.map_or(0, |node| node.skew);
    match skew.value.checked_add(own) {
        Some(sum) if sum <= MOST_SKEW => Some(sum),
        Some(_) | None => {
            let what = format!("skew {} and the node's {own} together exceed {MOST_SKEW}", skew.value);
            let most = MOST_SKEW.saturating_sub(own);
            let mistake =
                Mistake::at(skew.place.clone(), what, format!("expected at most {most} on this node"));
            mistakes.push(mistake.help("lower one of the two; both nodes share the virtual host's skew"));
            None
        }
    }
}

fn digest(
    fields: &Fields<'_>,
    addresses: Option<&At<Vec<At<&str>>>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Variant> {
    let digest = fields.choice("digest", mistakes)?;
    let variant = Variant::from_name(digest.value)?;
    let vips: Vec<IpAddr> =
        addresses?.value.iter().filter_map(|vip| Some(address::vip(vip.value).ok()?.ip)).collect();
    if !variant.can_hold(&vips) {
        let what = "digest \"ucarp\" with other than exactly one IPv4 address";
        let mistake = Mistake::at(digest.place, what, "ucarp knows one IPv4 address and nothing else");
        mistakes.push(mistake.help("give each address its own virtual host, or leave digest out"));
        return None;
    }
    Some(variant)
}

/// The variants in use today, and the one that our own peer sends.
fn accepted(digest: Variant) -> Vec<Variant> {
    let mut accept = vec![Variant::Freebsd, Variant::OpenbsdNov6ll];
    if !accept.contains(&digest) {
        accept.push(digest);
    }
    accept
}

impl Ledger {
    fn vhid(&mut self, device: &str, vhid: &At<u8>, mistakes: &mut Vec<Mistake>) {
        let key = (device.to_owned(), vhid.value);
        if let Some(first) = self.vhids.get(&key) {
            let what = format!("vhid {} twice on {device}", vhid.value);
            let mistake = Mistake::at(vhid.place.clone(), what, "expected another number")
                .and(first.clone(), "first here");
            let free = (1..=u8::MAX).find(|free| !self.vhids.contains_key(&(device.to_owned(), *free)));
            mistakes.push(mistake.maybe_help(free.map(|free| format!("{free} is free on {device}"))));
        } else {
            self.vhids.insert(key, vhid.place.clone());
        }
    }

    fn vip(&mut self, ip: IpAddr, device: Option<&str>, place: &Place, mistakes: &mut Vec<Mistake>) {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let key = (if link_local { device.map(str::to_owned) } else { None }, ip);
        if let Some(first) = self.vips.get(&key) {
            let mistake = Mistake::at(place.clone(), format!("the address {ip} twice"), "second time here");
            mistakes.push(mistake.and(first.clone(), "first here").help("remove one of the two"));
        } else {
            self.vips.insert(key, place.clone());
        }
    }

    /// One role needs one rank.
    fn member(&mut self, group: &Group, rank: Rank, place: &Place, mistakes: &mut Vec<Mistake>) {
        if !group.as_one {
            return;
        }
        let (first, at) = self.groups.entry(group.name.clone()).or_insert((rank, place.clone()));
        if *first != rank {
            let what = format!("the group {} moves as one, and this one ranks otherwise", group.name);
            let mistake =
                Mistake::at(place.clone(), what, "ranks otherwise").and(at.clone(), "than this one");
            mistakes.push(mistake.help(
                "give all of them the same base, skew, preempt and flavour, or the group move = \"each\"",
            ));
        }
    }

    /// Whether what leaves by the device can get an address of this virtual host.
    fn snat(&mut self, device: &str, vips: &[Vip], place: Place, mistakes: &mut Vec<Mistake>) -> bool {
        if !vips.iter().any(|vip| vip.ip.is_ipv4()) {
            let mistake = Mistake::at(place, "snat to a virtual host without an IPv4 address", "not here");
            mistakes.push(
                mistake.help("add one to `addresses`; an IPv6 network is translated by [[nat.prefix]]"),
            );
            return false;
        }
        if let Some(first) = self.snats.get(device) {
            let what = format!("a second virtual host for what leaves by {device}");
            let mistake = Mistake::at(place, what, "the second one").and(first.clone(), "the first one");
            mistakes.push(mistake.help("keep one of the two; [[nat.outbound]] can tell sources apart"));
            return false;
        }
        self.snats.insert(device.to_owned(), place);
        true
    }

    /// A strict MAC covers number and addresses, but no link: adverts that are signed alike on two of them
    /// could be recorded on one and sent again on the other.
    fn signer(
        &mut self,
        device: &str,
        vhid: Vhid,
        keys: Vec<(StrictKey, Place)>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let others = self.signers.entry(vhid).or_default();
        let same = |(key, place): &(StrictKey, Place)| {
            let other = others.iter().find(|(other, on, _)| other == key && on != device);
            other.map(|(_, on, first)| (place.clone(), on.clone(), first.clone()))
        };
        if let Some((place, other, first)) = keys.iter().find_map(same) {
            let vhid = vhid.get();
            let what = format!("strict adverts of vhid {vhid} on {other} and {device} cannot be told apart");
            let mistake = Mistake::at(place, what, "expected another password").and(first, "the same here");
            mistakes.push(mistake.help(format!(
                "give one of the two another password: with the same number, addresses and password, what is \
                 recorded on {other} would be accepted on {device}"
            )));
        }
        others.extend(keys.into_iter().map(|(key, place)| (key, device.to_owned(), place)));
    }

    fn check_sizes(&self, file: File, mistakes: &mut Vec<Mistake>) {
        let sizes = [
            (
                self.vhids.len(),
                MAX_HOSTS,
                "virtual hosts",
                self.vhids.values().max_by_key(|at| at.span.start),
            ),
            (self.vips.len(), MAX_VIPS, "addresses", self.vips.values().max_by_key(|at| at.span.start)),
        ];
        for (count, most, things, last) in sizes {
            if u32::try_from(count).is_ok_and(|count| count <= most) {
                continue;
            }
            let place = last.cloned().unwrap_or(Place { file, span: 0..0 });
            let mistake = Mistake::at(place, format!("{count} {things}"), format!("expected at most {most}"));
            mistakes.push(mistake.help("split the configuration over several instances"));
        }
    }
}

/// A list of tables at the top; `example` is advice where it is something else.
pub(super) fn tables<'a>(
    document: &'a Document,
    name: &str,
    example: &str,
    mistakes: &mut Vec<Mistake>,
) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
    let Some(value) = document.top.get(name) else { return Vec::new() };
    let mut not = |span: Range<usize>| {
        let place = Place { file: document.file, span };
        let what = format!("`{name}` is a list of tables");
        mistakes.push(Mistake::at(place, what, "not a table of it").help(example));
    };
    match value.get_ref() {
        DeValue::Array(array) => array
            .iter()
            .filter_map(|element| match element.get_ref() {
                DeValue::Table(table) => Some((table, element.span())),
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    not(element.span());
                    None
                }
            })
            .collect(),
        // [virtual_host] or [route], the likely slip: say so, and look into it all the same.
        DeValue::Table(table) => {
            not(value.span());
            vec![(table, value.span())]
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            not(value.span());
            Vec::new()
        }
    }
}
