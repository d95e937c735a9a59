//! From one configuration to another: what a running daemon can follow, and what it cannot.

use super::{Config, HostConfig};
use crate::ruleset::Ruleset;
use carp_common::id::Vhid;
use std::collections::BTreeMap;

impl Config {
    /// Why a daemon that runs with another configuration cannot go on with this one, if it cannot: it then hands over and
    /// starts anew.
    pub fn cannot_follow(&self, running: &Self) -> Option<&'static str> {
        let is_same_link = match (&self.sync, &running.sync) {
            (Some(new), Some(old)) => new.is_but_for_keys(old),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if self.node.name != running.node.name {
            Some("the node has another name")
        } else if self.node.xdp != running.node.xdp {
            Some("the datapath is attached in another way")
        } else if !is_same_link {
            Some("[sync] is another one")
        } else if self.counts_otherwise(running) {
            Some("adverts are signed strictly, or no longer: counters begin with a start")
        } else {
            None
        }
    }

    /// What is different beside the virtual hosts, of what a daemon can follow: a line each.
    pub fn difference_beside_hosts(&self, running: &Self) -> Vec<String> {
        let keys = |config: &Self| config.sync.as_ref().map(|sync| sync.keys.clone());
        let differences = [
            ("keys of the sync link", keys(self) != keys(running)),
            ("the node that follows", self.config_sync != running.config_sync),
            ("routes", self.routes != running.routes),
            ("rules of nftables", Ruleset::of(self) != Ruleset::of(running)),
            ("forwarding", self.forwarded() != running.forwarded()),
            ("settings of the kernel", self.settings() != running.settings()),
            ("tracks", self.tracks != running.tracks),
            ("hooks", self.hooks != running.hooks),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
    }

    /// Whether a virtual host needs strict counters and the daemon has none for it.
    fn counts_otherwise(&self, running: &Self) -> bool {
        let has_epoch = running.sync.is_some() || running.hosts.iter().any(HostConfig::counts);
        let known: BTreeMap<(&str, Vhid), bool> =
            running.hosts.iter().map(|host| (host.place(), host.counts())).collect();
        self.hosts.iter().any(|host| match known.get(&host.place()) {
            Some(counts) => *counts != host.counts(),
            None => host.counts() && !has_epoch,
        })
    }
}

impl HostConfig {
    const fn counts(&self) -> bool {
        self.auth.signs_strictly()
    }

    fn place(&self) -> (&str, Vhid) {
        (&self.device, self.vhid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse, private};
    use super::*;

    const FILE: &str = r#"
[node]
name = "gw1"
interfaces = { lan = "eth0" }

[[virtual_host]]
interface = "lan"
vhid = 1
addresses = ["10.0.0.1/24"]
password_file = "pw"
"#;

    fn with(from: &str, to: &str) -> Config {
        assert!(FILE.contains(from));
        let source = Source { name: "carp.toml".to_owned(), text: FILE.replace(from, to) };
        parse(source, None, |_| Ok(private::Content::from(b"secret".to_vec()))).expect("right")
    }

    #[test]
    fn what_concerns_virtual_hosts_and_their_links_can_be_followed() {
        let running = with("", "");
        let second = "[[virtual_host]]\ninterface = \"lan\"\nvhid = 2\naddresses = [\"10.0.0.2\"]\npassword_file = \"pw\"\n[[";
        for (from, to) in [
            ("vhid = 1", "vhid = 9"),
            ("vhid = 1", "vhid = 1\nbase = 3\nskew = 9\npreempt = false\nanswer_ping = true\ntos = 0"),
            ("10.0.0.1/24", "10.0.0.7/24"),
            ("name = \"gw1\"", "name = \"gw1\"\nskew = 100\npreempt = false"),
            ("{ lan = \"eth0\" }", "{ lan = \"eth0\", wan = \"eth1\" }"),
            ("eth0", "eth1"),
            ("[[", second),
            ("[[", "[[route]]\nto = \"default\"\nvia = \"10.0.0.9\"\ninterface = \"lan\"\n[["),
        ] {
            assert_eq!(with(from, to).cannot_follow(&running), None, "{to}");
        }
    }

    #[test]
    fn other_routes_are_a_difference_beside_the_virtual_hosts() {
        let route = "[[route]]\nto = \"default\"\nvia = \"10.0.0.9\"\ninterface = \"lan\"\n[[";
        let (without, with_route) = (with("", ""), with("[[", route));
        assert_eq!(with_route.difference_beside_hosts(&without), ["routes"]);
        assert_eq!(without.difference_beside_hosts(&with_route), ["routes"]);
        assert!(with_route.difference_beside_hosts(&with_route).is_empty());
    }

    #[test]
    fn what_a_start_begins_with_cannot_be_followed() {
        let running = with("", "");
        for (from, to, why) in [
            ("gw1", "gw2", "name"),
            ("name = \"gw1\"", "name = \"gw1\"\nxdp = \"off\"", "attached"),
            ("vhid = 1", "vhid = 1\nauth = \"migrate\"", "strictly"),
            ("vhid = 1", "vhid = 2\nauth = \"strict\"", "strictly"),
        ] {
            let says = with(from, to).cannot_follow(&running).unwrap_or_default();
            assert!(says.contains(why), "{to}: {says:?}");
        }
        let strictly = with("vhid = 1", "vhid = 1\nauth = \"migrate\"");
        assert_eq!(with("vhid = 1", "vhid = 1\nauth = \"strict\"").cannot_follow(&strictly), None);
        assert_eq!(with("vhid = 1", "vhid = 2\nauth = \"strict\"").cannot_follow(&strictly), None);
    }
}
