//! [`Config`] to text: the one way in which a configuration is written, for `carpctl config show`. What is
//! written is a configuration again, in one file: `parse(render(config)) == config`.

mod hook;
mod nat;
mod route;
mod track;

use super::nat::keys::FIREWALL;
use super::reference::{CONFIG_SYNC, GROUP, KERNEL, Key, NODE, SCRIPT, SYNC, VIRTUAL_HOST};
use super::sections::SECTIONS;
use super::{Config, ConfigSync, Firewall, Group, HostConfig, Kernel, Node, Script, Sync, SyncKeys};
use crate::proto::detect::Detect;
use crate::proto::protocol;
use crate::proto::sync::rule::{Mark, Rule, Rules};
use carp_common::pace::Pace;
use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use toml::Value;

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without the keys that say what counts anyway.
    Short,
    /// With every key that can be written; one whose default is to be absent (`next_password_file`, rules) only
    /// where it is there.
    Effective,
}

/// The configuration as TOML. Of secrets it has the names of their files as they were written, so a relative one
/// is right in the folder that the shared file was in.
pub fn render(config: &Config, form: Form) -> String {
    // Whoever adds a field has to say here how it is written.
    let Config { node, sync, config_sync, groups, hosts, routes, nat, firewall, kernel, tracks, hooks } =
        config;
    let mut text = String::new();
    self::node(&mut text, form, node);
    if let Some(sync) = sync {
        self::sync(&mut text, form, sync, node);
    }
    if let Some(config_sync) = config_sync {
        self::config_sync(&mut text, form, config_sync);
    }
    groups.iter().for_each(|one| group(&mut text, form, one));
    hosts.iter().for_each(|one| host(&mut text, form, one, node));
    routes.iter().for_each(|one| route::write(&mut text, form, one, node));
    nat::write(&mut text, form, nat, node);
    if form == Form::Effective || *firewall != Firewall::default() {
        let Firewall { enabled, flowtable } = firewall;
        let mut section = Section::begin(&mut text, form, "[firewall]", FIREWALL);
        section.put("enabled", enabled);
        section.put("flowtable", flowtable);
    }
    if form == Form::Effective || *kernel != Kernel::default() {
        self::kernel(&mut text, form, kernel);
    }
    tracks.iter().for_each(|one| track::write(&mut text, form, one));
    hooks.iter().for_each(|one| hook::write(&mut text, form, one));
    text
}

/// A table that is being written.
struct Section<'a> {
    text: &'a mut String,
    form: Form,
    keys: &'static [Key],
}

impl<'a> Section<'a> {
    /// Begins with its header.
    fn begin(text: &'a mut String, form: Form, header: &str, keys: &'static [Key]) -> Self {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{gap}{header}");
        Self { text, form, keys }
    }

    /// A key with its value as TOML, unless that is the default and the short form is asked for.
    fn put(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        let key = self.keys.iter().find(|key| key.name == name);
        debug_assert!(key.is_some(), "{name} is written but not in the reference");
        if self.form == Form::Effective || key.is_none_or(|key| key.default != value) {
            let _ = writeln!(self.text, "{name} = {value}");
        }
    }

    fn put_file(&mut self, name: &str, file: Option<&Path>) {
        if let Some(file) = file {
            self.put(name, quoted(&file.to_string_lossy()));
        }
    }

    fn put_rules(&mut self, name: &str, rules: &[Rule]) {
        if !rules.is_empty() {
            let rules: Vec<String> = rules.iter().map(rule).collect();
            self.put(name, format!("[{}]", rules.join(", ")));
        }
    }
}

fn node(text: &mut String, form: Form, node: &Node) {
    let Node { name, skew, preempt, preempt_delay, xdp, interfaces, scripts } = node;
    let mut section = Section::begin(text, form, "[node]", NODE);
    section.put("name", quoted(name));
    section.put("skew", skew);
    section.put("preempt", preempt);
    section.put("preempt_delay", preempt_delay);
    section.put("xdp", quoted(xdp.name()));
    if !interfaces.is_empty() {
        let roles = interfaces.iter().map(|(role, device)| (role.clone(), Value::String(device.clone())));
        let _ = write!(text, "\n[node.interfaces]\n{}", roles.collect::<toml::Table>());
    }
    for (name, Script { command, user }) in scripts {
        let mut section = Section::begin(text, form, &format!("[node.scripts.{name}]"), SCRIPT);
        section.put("command", list(command));
        section.put("user", quoted(user));
    }
}

fn sync(text: &mut String, form: Form, sync: &Sync, node: &Node) {
    let Sync { device, address, peer, port, config_port, key_file, next_key_file, keys, rules } = sync;
    // They are in the files.
    let SyncKeys { .. } = keys;
    let Rules { include, exclude } = rules;
    let mut section = Section::begin(text, form, "[sync]", SYNC);
    section.put("interface", quoted(role(device, node)));
    section.put("address", quoted(&address.to_string()));
    section.put("peer", quoted(&peer.to_string()));
    section.put("port", port);
    section.put("config_port", config_port);
    section.put_file("key_file", Some(key_file));
    section.put_file("next_key_file", next_key_file.as_deref());
    section.put_rules("exclude", exclude);
    section.put_rules("include", include);
}

fn config_sync(text: &mut String, form: Form, config_sync: &ConfigSync) {
    let ConfigSync { to, user, password_file, password: _, sections, skew_add, on_apply, require_peer } =
        config_sync;
    let mut section = Section::begin(text, form, "[config_sync]", CONFIG_SYNC);
    section.put("to", quoted(&to.to_string()));
    section.put("user", quoted(user));
    section.put_file("password_file", Some(password_file));
    if form == Form::Effective || sections.len() != SECTIONS.len() {
        section.put("sections", list(sections.iter().map(|section| section.name)));
    }
    section.put("skew_add", skew_add);
    section.put("push", quoted(if *on_apply { "on_apply" } else { "manual" }));
    section.put("require_peer", require_peer);
}

fn group(text: &mut String, form: Form, Group { name, as_one, nodes, detect }: &Group) {
    let mut section = Section::begin(text, form, "[[group]]", GROUP);
    section.put("name", quoted(name));
    section.put("move", quoted(if *as_one { "all" } else { "each" }));
    section.put("nodes", nodes);
    let Detect { interval, lease, aside: _ } = detect.unwrap_or_default();
    section.put("detect", interval.as_millis());
    section.put("lease", lease.as_millis());
}

fn host(text: &mut String, form: Form, host: &HostConfig, node: &Node) {
    let HostConfig {
        interface,
        device: _,
        group,
        vhid,
        addresses,
        password_file,
        secret: _,
        next_password_file,
        next_secret: _,
        auth,
        pace: Pace { base, skew },
        preempt,
        preempt_delay,
        flavour,
        digest,
        // It follows from `digest`.
        accept: _,
        answer_ping,
        tos,
        snat,
    } = host;
    let mut section = Section::begin(text, form, "[[virtual_host]]", VIRTUAL_HOST);
    section.put("interface", quoted(interface));
    section.put("vhid", vhid.get());
    if let Some(group) = group {
        section.put("group", quoted(group));
    }
    section.put("addresses", list(addresses));
    section.put_file("password_file", Some(password_file));
    section.put_file("next_password_file", next_password_file.as_deref());
    section.put("auth", quoted(auth.name()));
    section.put("base", base);
    section.put("skew", skew.saturating_sub(node.skew));
    if form == Form::Effective || *preempt != node.preempt {
        section.put("preempt", preempt);
    }
    if form == Form::Effective || *preempt_delay != node.preempt_delay {
        section.put("preempt_delay", preempt_delay);
    }
    section.put("flavour", quoted(flavour.name()));
    section.put("digest", quoted(digest.name()));
    section.put("answer_ping", answer_ping);
    section.put("tos", format!("{tos:#04x}"));
    section.put("snat", quoted(if *snat { "vip" } else { "none" }));
}

fn kernel(text: &mut String, form: Form, kernel: &Kernel) {
    let Kernel { forwarding, arp, rp_filter, conntrack_max, tcp_liberal } = kernel;
    let mut section = Section::begin(text, form, "[kernel]", KERNEL);
    section.put("forwarding", forwarding);
    section.put("arp", arp);
    section.put("rp_filter", quoted(rp_filter.name()));
    if let Some(most) = conntrack_max {
        section.put("conntrack_max", most);
    }
    section.put("tcp_liberal", tcp_liberal);
}

fn rule(rule: &Rule) -> String {
    let Rule { prefix, protocol, ports, mark } = rule;
    let prefix = prefix.map(|prefix| format!("prefix = \"{prefix}\""));
    let protocol = protocol.map(|number| format!("protocol = \"{}\"", protocol::name(number)));
    let ports = ports.as_ref().map(|ports| format!("port = {}", range(ports)));
    let mark = mark.map(|Mark { value, mask }| match mask {
        u32::MAX => format!("mark = \"{value:#x}\""),
        mask => format!("mark = \"{value:#x}/{mask:#x}\""),
    });
    let conditions: Vec<String> = [prefix, protocol, ports, mark].into_iter().flatten().collect();
    format!("{{ {} }}", conditions.join(", "))
}

/// What a device is called in the configuration: it may have the name of another one's role, and was reached by a role of
/// its own then.
fn role<'a>(device: &'a str, node: &'a Node) -> &'a str {
    node.interfaces.iter().find_map(|(role, of)| (of == device).then_some(role.as_str())).unwrap_or(device)
}

fn range(ports: &RangeInclusive<u16>) -> String {
    match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => quoted(&format!("{first}-{last}")),
    }
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

/// Text as a string of TOML.
pub fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
