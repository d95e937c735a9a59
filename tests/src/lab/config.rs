//! What carpd is told: `carp.toml`, `node.toml` and the password file, as a person would write them.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PASSWORD: &str = "password";
const NEXT_PASSWORD: &str = "next-password";
const SYNC_KEY: &str = "sync-key";
const NEXT_SYNC_KEY: &str = "next-sync-key";

/// The configuration of one node, of which a test changes what it is about.
#[derive(Clone, Debug)]
pub struct Config {
    /// Added to the skew of every virtual host.
    pub skew: u8,
    /// Whether a backup takes over from a worse master.
    pub preempt: bool,
    /// `auto`, `native`, `generic` or `off`.
    pub xdp: &'static str,
    /// Whether the datapath answers pings to the VIPs.
    pub answer_ping: bool,
    /// The shared secret.
    pub password: &'static str,
    /// The one that is accepted beside it.
    pub next_password: Option<&'static str>,
    /// `carp`, `migrate` or `strict`.
    pub auth: &'static str,
    /// Rules of connections that are not replicated.
    pub excluded: &'static str,
    /// The last byte of this gateway's address on the sync link and of the other's, if there is a session, and the
    /// 64 digits of its key.
    pub sync: Option<(u8, u8, &'static str)>,
    /// The key that is as good.
    pub next_sync_key: Option<&'static str>,
    /// Roles of links: `("lan", "lan0")`.
    pub interfaces: Vec<(&'static str, &'static str)>,
    /// Tables of NAT and of the firewall, as text.
    pub rules: &'static str,
    /// More of `node.toml`, as text.
    pub own: &'static str,
    /// Tables of `[node.scripts]` as text, the same on both nodes.
    pub scripts: String,
    /// Tables `[[track]]` and `[[hook]]`, as text.
    pub tracks: String,
    /// The virtual hosts move as one.
    pub grouped: bool,
    /// `detect` of the group, milliseconds; 0 is not at all.
    pub detect: u16,
    /// `lease` of a group that detects, milliseconds.
    pub lease: u16,
    /// The virtual hosts; the index is the slot in the map of windows.
    pub hosts: Vec<VirtualHost>,
}

/// One `[[virtual_host]]`.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Role of the link, or its name.
    pub interface: &'static str,
    /// 1..=255.
    pub vhid: u8,
    /// With or without a prefix length.
    pub addresses: Vec<&'static str>,
    /// Seconds.
    pub base: u8,
    /// 1/256 s.
    pub skew: u8,
}

/// Where a written configuration lies.
#[derive(Clone, Debug)]
pub struct Files {
    /// What the pair shares.
    pub carp: PathBuf,
    /// What is of one node.
    pub node: PathBuf,
}

impl Config {
    /// For a gateway of a [`super::pair::Pair`]: vhid 1 on the LAN and vhid 2 on the WAN, both
    /// families, preemption on, skew 0.
    pub fn gateway() -> Self {
        let host = |interface, vhid, addresses| VirtualHost { interface, vhid, addresses, base: 1, skew: 0 };
        Self {
            skew: 0,
            preempt: true,
            xdp: "auto",
            answer_ping: false,
            password: "lab secret",
            next_password: None,
            auth: "carp",
            sync: None,
            next_sync_key: None,
            excluded: "",
            rules: "",
            own: "",
            scripts: String::new(),
            tracks: String::new(),
            grouped: false,
            detect: 0,
            lease: 100,
            interfaces: vec![("lan", "lan0"), ("wan", "wan0"), ("sync", "sync0")],
            hosts: vec![
                host("lan", 1, vec!["10.77.1.1/24", "fd77:1::1/64"]),
                host("wan", 2, vec!["10.77.2.1/24", "fd77:2::1/64"]),
            ],
        }
    }

    /// The same with another skew; pfSense gives its secondary 100.
    #[must_use]
    pub fn with_skew(self, skew: u8) -> Self {
        Self { skew, ..self }
    }

    /// The same with one role for all virtual hosts.
    #[must_use]
    pub fn as_one(self) -> Self {
        Self { grouped: true, ..self }
    }

    /// As one group whose master is asked whether it serves, once in so many milliseconds.
    #[must_use]
    pub fn detecting(self, interval: u16) -> Self {
        Self { grouped: true, detect: interval, ..self }
    }

    /// The same with leases that a machine which stands still for a while does not lose.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { lease: 1000, ..self }
    }

    /// The same with another XDP mode.
    #[must_use]
    pub fn with_xdp(self, xdp: &'static str) -> Self {
        Self { xdp, ..self }
    }

    /// The same with adverts signed in this way.
    #[must_use]
    pub fn with_auth(self, auth: &'static str) -> Self {
        Self { auth, ..self }
    }

    /// The same with this password to send by, and this one accepted beside it.
    #[must_use]
    pub fn with_passwords(self, password: &'static str, next_password: Option<&'static str>) -> Self {
        Self { password, next_password, ..self }
    }

    /// The same for gw1 of a pair that replicates connections.
    #[must_use]
    pub fn with_sync(self) -> Self {
        Self {
            sync: Some((2, 3, "c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42")),
            ..self
        }
    }

    /// The same with these keys of the session: one, or another one that is as good behind it.
    #[must_use]
    pub fn with_sync_keys(self, keys: &[&'static str]) -> Self {
        let first = |(own, peer, key)| (own, peer, keys.first().copied().unwrap_or(key));
        Self { sync: self.sync.map(first), next_sync_key: keys.get(1).copied(), ..self }
    }

    /// The same without the connections that match one of these rules.
    #[must_use]
    pub fn excluding(self, rules: &'static str) -> Self {
        Self { excluded: rules, ..self }
    }

    /// The same with NAT, or a firewall.
    #[must_use]
    pub fn with_rules(self, rules: &'static str) -> Self {
        Self { rules, ..self }
    }

    /// The same for gw2, which has 100 more skew.
    #[must_use]
    pub fn of_backup(self) -> Self {
        Self { skew: 100, own: "", sync: self.sync.map(|(own, peer, key)| (peer, own, key)), ..self }
    }

    /// The same with the LAN's virtual host only, and only its IPv4 address: all that ucarp knows.
    #[must_use]
    pub fn for_ucarp(self) -> Self {
        let addresses = vec!["10.77.1.1"];
        let hosts = vec![VirtualHost { interface: "lan", vhid: 1, addresses, base: 1, skew: 0 }];
        Self { hosts, ..self }
    }

    /// Writes the files into a folder of their own.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path, instance: &str) -> Result<Files> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let files = Files { carp: folder.join("carp.toml"), node: folder.join("node.toml") };
        fs::write(&files.carp, self.carp_toml())?;
        fs::write(&files.node, self.node_toml(instance))?;
        let secrets = [
            (PASSWORD, Some(self.password)),
            (NEXT_PASSWORD, self.next_password),
            (SYNC_KEY, self.sync.map(|(.., key)| key)),
            (NEXT_SYNC_KEY, self.next_sync_key),
        ];
        for (name, password) in secrets {
            let Some(password) = password else { continue };
            let file = folder.join(name);
            fs::write(&file, format!("{password}\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        Ok(files)
    }

    /// The text of `carp.toml`.
    pub fn carp_toml(&self) -> String {
        let next = self.next_password.map(|_| format!("next_password_file = \"{NEXT_PASSWORD}\"\n"));
        let next = next.unwrap_or_default();
        let (head, group) = match self.grouped {
            true => (
                format!("[[group]]\nname = \"edge\"\ndetect = {}\nlease = {}\n\n", self.detect, self.lease),
                "group = \"edge\"\n",
            ),
            false => (String::new(), ""),
        };
        self.hosts.iter().fold(head, |mut text, host| {
            // Writing to a String cannot fail.
            write!(
                text,
                "[[virtual_host]]\ninterface = \"{}\"\nvhid = {}\naddresses = {:?}\n\
                 password_file = \"{PASSWORD}\"\n{next}{group}base = {}\nskew = {}\nanswer_ping = {}\nauth = \"{}\"\n\n",
                host.interface, host.vhid, host.addresses, host.base, host.skew, self.answer_ping, self.auth
            )
            .ok();
            text
        }) + self.rules
            + &self.tracks
    }

    /// The text of `node.toml`.
    pub fn node_toml(&self, instance: &str) -> String {
        let Self { skew, preempt, xdp, .. } = self;
        let head =
            format!("[node]\nname = \"{instance}\"\nskew = {skew}\npreempt = {preempt}\nxdp = \"{xdp}\"\n\n");
        let roles = self.interfaces.iter().map(|(role, link)| format!("{role} = \"{link}\"\n"));
        let next = self.next_sync_key.map(|_| format!("next_key_file = \"{NEXT_SYNC_KEY}\"\n"));
        let next = next.unwrap_or_default();
        let sync = self.sync.map(|(own, peer, _)| {
            format!(
                "\n[sync]\ninterface = \"sync\"\naddress = \"10.77.9.{own}\"\npeer = \"10.77.9.{peer}\"\nkey_file = \"{SYNC_KEY}\"\n{next}exclude = [{}]\n",
                self.excluded
            )
        });
        let (roles, sync) = (roles.collect::<String>(), sync.unwrap_or_default());
        format!("{head}[node.interfaces]\n{roles}{sync}{}{}", self.own, self.scripts)
    }
}
