//! What of the configuration goes from one node to the other, in parts that can be chosen: one table, from which everything
//! that concerns sections derives.

use super::Config;
use super::render::{Form, render};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use toml_edit::{DocumentMut, Item, TableLike, value};

/// Tables of one node, which never go to the other.
pub const OF_ONE_NODE: &[&str] = &["node", "sync", "config_sync"];

/// A part of the shared configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// As it is called in `sections`.
    pub name: &'static str,
    /// What it is, in words.
    pub what: &'static str,
    /// Its table.
    pub table: &'static str,
    /// Version of its keys: grows when a node that does not know them could not do what they say.
    pub version: u16,
    /// The oldest version that this node still reads.
    pub least: u16,
}

/// All of them, in the order in which they are listed.
pub const SECTIONS: &[Section] = &[
    section("groups", "a group", "group"),
    section("vips", "a virtual host", "virtual_host"),
    section("routes", "a route", "route"),
    section("nat", "NAT", "nat"),
    section("firewall", "the firewall", "firewall"),
    section("kernel", "the kernel's settings", "kernel"),
    section("health", "a track", "track"),
    section("hooks", "a hook", "hook"),
];

const fn section(name: &'static str, what: &'static str, table: &'static str) -> Section {
    Section { name, what, table, version: 1, least: 1 }
}

/// Largest skew that a virtual host can have, its node's included.
const MOST_SKEW: u8 = 254;

/// Why a text is not merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not TOML.
    #[error("the configuration is not TOML: {0}")]
    NotToml(String),
    /// The sender knows a section that this node does not.
    #[error(
        "section `{0}` is not known here: upgrade carpd on this node first, or leave it out of `sections`"
    )]
    Unknown(String),
    /// The sender writes a section in another version than this node reads.
    #[error(
        "section `{name}` has version {offered} there and this node reads {least} to {version}: upgrade the older \
         node first, or leave it out of `sections`"
    )]
    Version {
        /// Of the section.
        name: &'static str,
        /// What came.
        offered: u16,
        /// What is read.
        least: u16,
        /// What is read.
        version: u16,
    },
}

/// The sections of these names that there are.
pub fn named(names: &[String]) -> Vec<&'static Section> {
    names.iter().filter_map(|name| find(name)).collect()
}

/// The section of this name.
pub fn find(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The sections that came with these versions, if this node reads them.
///
/// # Errors
/// The first section that it does not.
pub fn negotiate(offered: &BTreeMap<String, u16>) -> Result<Vec<&'static Section>, Problem> {
    let known = |(name, offered): (&String, &u16)| {
        let section = find(name).ok_or_else(|| Problem::Unknown(name.clone()))?;
        let Section { name, least, version, .. } = *section;
        if (least..=version).contains(offered) {
            return Ok(section);
        }
        Err(Problem::Version { name, offered: *offered, least, version })
    };
    offered.iter().map(known).collect()
}

/// These sections of a configuration in one spelling, however they were written: what two nodes compare.
pub fn canonical(config: &Config, sections: &[&Section]) -> String {
    let whole = render(config, Form::Effective);
    let mut table: toml::Table = whole.parse().unwrap_or_default();
    table.retain(|name, _| sections.iter().any(|section| section.table == name));
    table.to_string()
}

/// Of the canonical form: SHA-256, in hexadecimal digits.
pub fn hash(config: &Config, sections: &[&Section]) -> String {
    let digest = Sha256::digest(canonical(config, sections));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text without what is of one node, and without the sections that are not these.
///
/// # Errors
/// [`Problem::NotToml`].
pub fn extract(text: &str, sections: &[&Section]) -> Result<String, Problem> {
    let mut document = parse(text)?;
    document.as_table_mut().retain(|name, _| sections.iter().any(|section| section.table == name));
    Ok(document.to_string())
}

/// This node's text with these sections from another one's, comments and order included; what is of this node and the
/// other sections stay its own. The skew of each virtual host that comes is raised by so much, as far as it goes.
///
/// # Errors
/// [`Problem::NotToml`].
pub fn merge(own: &str, pushed: &str, sections: &[&Section], raise: u8) -> Result<String, Problem> {
    let (mut document, mut from) = (parse(own)?, parse(pushed)?);
    if let Some(hosts) = from.get_mut("virtual_host") {
        raise_skews(hosts, raise);
    }
    if document.iter().all(|(name, _)| sections.iter().any(|section| section.table == name)) {
        from.as_table_mut().retain(|name, _| sections.iter().any(|section| section.table == name));
        return Ok(from.to_string());
    }
    // Below all that stays.
    let mut at = document.iter().filter_map(|(_, item)| last_position(item)).max().unwrap_or(0);
    for section in sections {
        document.remove(section.table);
        if let Some(mut item) = from.remove(section.table) {
            move_behind(&mut item, &mut at);
            document.insert(section.table, item);
        }
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, Problem> {
    text.parse::<DocumentMut>().map_err(|error| Problem::NotToml(error.message().replace('\n', ", ")))
}

fn raise_skews(hosts: &mut Item, raise: u8) {
    let each = |host: &mut dyn TableLike| {
        let skew = host.get("skew").and_then(Item::as_integer).and_then(|skew| u8::try_from(skew).ok());
        let raised = skew.unwrap_or(0).saturating_add(raise).min(MOST_SKEW);
        if raise > 0 {
            host.insert("skew", value(i64::from(raised)));
        }
    };
    match hosts {
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| each(table)),
        Item::Value(toml_edit::Value::Array(array)) => {
            array.iter_mut().filter_map(toml_edit::Value::as_inline_table_mut).for_each(|table| each(table));
        }
        Item::None | Item::Value(_) | Item::Table(_) => {}
    }
}

/// Where a table was written; what was not is written first.
fn last_position(item: &Item) -> Option<isize> {
    match item {
        Item::Table(table) => {
            table.iter().filter_map(|(_, item)| last_position(item)).chain(table.position()).max()
        }
        Item::ArrayOfTables(tables) => {
            let of = |table: &toml_edit::Table| {
                table.iter().filter_map(|(_, item)| last_position(item)).chain(table.position()).max()
            };
            tables.iter().filter_map(of).max()
        }
        Item::None | Item::Value(_) => None,
    }
}

/// Their order among themselves stays.
fn move_behind(item: &mut Item, at: &mut isize) {
    let mut place = |table: &mut toml_edit::Table| {
        *at += 1;
        table.set_position(Some(*at));
        table.iter_mut().for_each(|(_, item)| move_behind(item, at));
    };
    match item {
        Item::Table(table) => place(table),
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(place),
        Item::None | Item::Value(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{EXAMPLE, TOP};
    use super::super::{Source, parse as parse_config};
    use super::*;

    fn config(text: &str) -> Config {
        let source = Source { name: "carp.toml".into(), text: text.into() };
        parse_config(source, None, |file| {
            let digits = if file.to_string_lossy().ends_with("sync.key") { 32 } else { 4 };
            Ok("0a".repeat(digits).into_bytes().into())
        })
        .unwrap_or_else(|mistakes| panic!("{text}\n{}", mistakes.render(false)))
    }

    fn all() -> Vec<&'static Section> {
        SECTIONS.iter().collect()
    }

    #[test]
    fn every_table_of_the_reference_is_in_one_section_or_is_of_one_node() {
        for table in TOP {
            let sections = SECTIONS.iter().filter(|section| section.table == *table).count();
            let of_one = OF_ONE_NODE.iter().filter(|name| *name == table).count();
            assert_eq!(sections + of_one, 1, "{table}: say in config/sections.rs which section it is");
        }
        assert_eq!(TOP.len(), SECTIONS.len() + OF_ONE_NODE.len(), "one that is not there any more");
    }

    #[test]
    fn what_is_of_one_node_never_leaves_it_and_never_is_replaced() {
        let pushed = extract(EXAMPLE, &all()).unwrap();
        assert!(!pushed.contains("[node") && !pushed.contains("[sync]"), "{pushed}");
        let own = "# mine\n[node]\nname = \"gw2\"\n\n[node.interfaces]\nlan = \"eth7\"\nwan = \"eth8\"\nsync = \"eth9\"\n";
        let merged = merge(own, &pushed, &all(), 0).unwrap();
        assert!(merged.starts_with(own), "{merged}");
        let (merged, example) = (config(&merged), config(EXAMPLE));
        assert_eq!(merged.node.name, "gw2");
        assert_eq!(canonical(&merged, &all()), canonical(&example, &all()));
    }

    #[test]
    fn sections_that_are_not_pushed_stay_as_they_are_with_their_comments() {
        let own = format!(
            "{EXAMPLE}\n# this one is mine\n[[route]]\nto = \"10.9.0.0/16\"\nvia = \"10.0.0.9\"\ninterface = \"lan\"\n"
        );
        let pushed = EXAMPLE.replace("host_port = 8443", "host_port = 9443 # moved");
        let nat = [find("nat").unwrap()];
        let merged = merge(&own, &extract(&pushed, &nat).unwrap(), &nat, 100).unwrap();
        assert!(merged.contains("# this one is mine") && merged.contains("9443 # moved"), "{merged}");
        let (merged, own, pushed) = (config(&merged), config(&own), config(&pushed));
        assert_eq!((&merged.routes, &merged.hosts), (&own.routes, &own.hosts), "no skew is raised either");
        assert_eq!(merged.nat, pushed.nat);
    }

    #[test]
    fn a_section_that_the_sender_does_not_have_goes() {
        let own = EXAMPLE;
        let pushed = EXAMPLE.split("[[nat.outbound]]").next().unwrap_or_default();
        let merged = merge(own, &extract(pushed, &all()).unwrap(), &all(), 0).unwrap();
        assert!(!merged.contains("nat") && !merged.contains("[kernel]"), "{merged}");
    }

    #[test]
    fn skews_are_raised_as_far_as_they_go_and_what_is_compared_is_not() {
        let pushed = EXAMPLE.replacen("vhid = 2", "vhid = 2\nskew = 200 # last", 1);
        let merged = merge("", &extract(&pushed, &all()).unwrap(), &all(), 100).unwrap();
        let node = EXAMPLE.split("[[virtual_host]]").next().unwrap_or_default();
        let merged = config(&format!("{node}{merged}"));
        let skews: Vec<u8> = merged.hosts.iter().map(|host| host.pace.skew).collect();
        assert_eq!(skews, [100, 254]);
        assert_eq!(
            merge("", "virtual_host = [{ vhid = 1 }]", &all(), 7).unwrap().trim(),
            "virtual_host = [{ vhid = 1 , skew = 7 }]"
        );
    }

    #[test]
    fn another_spelling_is_the_same_configuration() {
        let spelt = EXAMPLE.replace("[firewall]\nenabled = true\n", "firewall.enabled = true # yes\n");
        let (spelt, rest) = spelt.split_once("[node]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let moved = rest.replace("firewall.enabled = true # yes\n", "");
        let other = format!("firewall.enabled = true # yes\n{spelt}[node]{moved}");
        assert_eq!(canonical(&config(&other), &all()), canonical(&config(EXAMPLE), &all()));
    }

    #[test]
    fn a_section_of_another_version_is_refused_by_its_name() {
        let offered = |name: &str, version| BTreeMap::from([(name.to_owned(), version)]);
        assert_eq!(negotiate(&offered("nat", 1)), Ok(vec![find("nat").unwrap()]));
        let newer = negotiate(&offered("nat", 2)).unwrap_err().to_string();
        assert!(newer.contains("`nat`") && newer.contains("version 2"), "{newer}");
        assert!(negotiate(&offered("dns", 1)).unwrap_err().to_string().contains("`dns`"));
    }
}
