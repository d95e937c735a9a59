//! What carpd is told: `carp.toml`, `node.toml` and the password file, as a person would write them.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    /// Roles of links: `("lan", "lan0")`.
    pub interfaces: Vec<(&'static str, &'static str)>,
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
            interfaces: vec![("lan", "lan0"), ("wan", "wan0")],
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

    /// The same with another XDP mode.
    #[must_use]
    pub fn with_xdp(self, xdp: &'static str) -> Self {
        Self { xdp, ..self }
    }

    /// The same with the LAN's virtual host only, and only its IPv4 address: all that ucarp knows.
    #[must_use]
    pub fn for_ucarp(self) -> Self {
        let addresses = vec!["10.77.1.1"];
        let hosts = vec![VirtualHost { interface: "lan", vhid: 1, addresses, base: 1, skew: 0 }];
        Self { hosts, ..self }
    }

    /// Writes the three files into a folder of their own.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path, instance: &str) -> Result<Files> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let files = Files { carp: folder.join("carp.toml"), node: folder.join("node.toml") };
        fs::write(&files.carp, self.carp_toml())?;
        fs::write(&files.node, self.node_toml(instance))?;
        let password = folder.join("password");
        fs::write(&password, format!("{}\n", self.password))?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        Ok(files)
    }

    /// The text of `carp.toml`.
    pub fn carp_toml(&self) -> String {
        self.hosts.iter().fold(String::new(), |mut text, host| {
            // Writing to a String cannot fail.
            write!(
                text,
                "[[virtual_host]]\ninterface = \"{}\"\nvhid = {}\naddresses = {:?}\n\
                 password_file = \"password\"\nbase = {}\nskew = {}\nanswer_ping = {}\n\n",
                host.interface, host.vhid, host.addresses, host.base, host.skew, self.answer_ping
            )
            .ok();
            text
        })
    }

    /// The text of `node.toml`.
    pub fn node_toml(&self, instance: &str) -> String {
        let Self { skew, preempt, xdp, .. } = self;
        let head =
            format!("[node]\nname = \"{instance}\"\nskew = {skew}\npreempt = {preempt}\nxdp = \"{xdp}\"\n\n");
        let roles = self.interfaces.iter().map(|(role, link)| format!("{role} = \"{link}\"\n"));
        format!("{head}[node.interfaces]\n{}", roles.collect::<String>())
    }
}
