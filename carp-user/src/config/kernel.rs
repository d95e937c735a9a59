//! The table `[kernel]`: what of the kernel's settings carpd is to see to.

use super::fields::Fields;
use super::mistake::Mistake;
use super::reference::{Key, Kind};
use super::{Config, Document, rules};
use crate::proto::family::Family;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// What the kernel may check of a packet's source, in the configuration's words; the first leaves it as it is.
pub const RP_FILTERS: &[&str] = &["keep", "loose", "strict"];

/// Keys of the table `[kernel]`.
pub const KERNEL: &[Key] = &[
    Key {
        name: "forwarding",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether carpd has the kernel forward while it runs: `net.ipv4.ip_forward` where there are IPv4 VIPs, \
                  `net.ipv6.conf.all.forwarding` where there are IPv6 VIPs. What it switches on it switches off again when it \
                  stops; what is on already stays as it is. See [operations](operations.md).",
    },
    Key {
        name: "arp",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether each interface with IPv4 VIPs answers ARP for its own addresses only (`arp_ignore` 1) and asks \
                  with an address of the network in question (`arp_announce` 2) while carpd runs: then no VIP is to be \
                  found on another interface than its own.",
    },
    Key {
        name: "rp_filter",
        kind: Kind::Choice(RP_FILTERS),
        range: "",
        unit: "",
        default: r#""keep""#,
        example: r#""loose""#,
        meaning: "Of which packets the kernel takes the source for forged on interfaces with IPv4 VIPs, while carpd runs: \
                  `strict` (1), of those that would be answered by another interface; `loose` (2), right for gateways with \
                  several ways out, of those that could not be answered at all; `keep` leaves the setting as it is.",
    },
    Key {
        name: "conntrack_max",
        kind: Kind::Numbers,
        range: "1024 to 2147483647",
        unit: "connections",
        default: "none",
        example: "1048576",
        meaning: "How many connections there can be at least while carpd runs (`net.netfilter.nf_conntrack_max`, which \
                  counts for the whole machine): on both nodes the same, or the one has no room for all of the other's.",
    },
    Key {
        name: "tcp_liberal",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Whether connection tracking takes TCP packets outside of the window for part of their connection while \
                  carpd runs (`net.netfilter.nf_conntrack_tcp_be_liberal`), also of connections that no node has \
                  replicated.",
    },
];

/// The table `[kernel]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// It forwards the families of the VIPs.
    pub forwarding: bool,
    /// ARP on links with IPv4 VIPs is about their own addresses.
    pub arp: bool,
    /// How sources are checked on links with IPv4 VIPs.
    pub rp_filter: RpFilter,
    /// So many connections have room, at least.
    pub conntrack_max: Option<u32>,
    /// TCP's windows never matter.
    pub tcp_liberal: bool,
}

/// How the kernel checks sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpFilter {
    /// As it is set.
    #[default]
    Keep,
    /// There is a way back.
    Loose,
    /// The way back is by the same link.
    Strict,
}

/// A setting of the kernel: its path below `/proc/sys`. `Display` writes it as `sysctl` reads it, where a dot in the name
/// of a device is a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting(String);

/// What a setting should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// This.
    Is(u32),
    /// This, or more.
    AtLeast(u32),
}

impl RpFilter {
    /// The word for it.
    pub fn name(self) -> &'static str {
        let at = match self {
            Self::Keep => 0,
            Self::Loose => 1,
            Self::Strict => 2,
        };
        RP_FILTERS.get(at).copied().unwrap_or_default()
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Keep, Self::Loose, Self::Strict].into_iter().find(|filter| filter.name() == name)
    }

    const fn value(self) -> Option<Value> {
        match self {
            Self::Keep => None,
            Self::Loose => Some(Value::Is(2)),
            Self::Strict => Some(Value::Is(1)),
        }
    }
}

impl Setting {
    fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// Below `/proc/sys`.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let swapped = self.0.chars().map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        });
        f.write_str(&swapped.collect::<String>())
    }
}

impl Value {
    /// What is written.
    pub const fn number(self) -> u32 {
        match self {
            Self::Is(number) | Self::AtLeast(number) => number,
        }
    }

    /// Whether the present value, as the kernel prints it, is right.
    pub fn is_met_by(self, present: &str) -> bool {
        let present = present.parse::<u32>();
        present.is_ok_and(|present| match self {
            Self::Is(number) => present == number,
            Self::AtLeast(number) => present >= number,
        })
    }
}

/// What is asked for.
pub(super) fn read(document: &Document, mistakes: &mut Vec<Mistake>) -> Kernel {
    let Some(table) = document.table("kernel", "[kernel]", mistakes) else { return Kernel::default() };
    let fields = Fields::new((document.file, document.whole), "[kernel]", table, KERNEL, mistakes);
    let mut flag = |key| fields.flag(key, false, mistakes) == Some(true);
    let (forwarding, arp, tcp_liberal) = (flag("forwarding"), flag("arp"), flag("tcp_liberal"));
    let rp_filter = fields.choice("rp_filter", mistakes).and_then(|word| RpFilter::from_name(word.value));
    let most = fields.text_or_number("conntrack_max", mistakes);
    let conntrack_max = rules::parsed(most, "a number of connections", connections, mistakes);
    Kernel { forwarding, arp, rp_filter: rp_filter.unwrap_or_default(), conntrack_max, tcp_liberal }
}

impl Config {
    /// The families that carpd has the kernel forward: those of the VIPs, if that is asked for.
    pub fn forwarded(&self) -> BTreeSet<Family> {
        let vips = self.hosts.iter().flat_map(|host| &host.addresses);
        vips.filter(|_| self.kernel.forwarding).map(|vip| Family::of(vip.ip)).collect()
    }

    /// The settings that are asked for, but for forwarding.
    pub fn settings(&self) -> BTreeMap<Setting, Value> {
        let Kernel { forwarding: _, arp, rp_filter, conntrack_max, tcp_liberal } = self.kernel;
        let mut settings = BTreeMap::new();
        let has_ipv4 = self.hosts.iter().filter(|host| host.addresses.iter().any(|vip| vip.ip.is_ipv4()));
        let arp = |value| arp.then_some(Value::Is(value));
        for device in has_ipv4.map(|host| &host.device) {
            for (name, value) in
                [("arp_ignore", arp(1)), ("arp_announce", arp(2)), ("rp_filter", rp_filter.value())]
            {
                let setting = Setting::new(format!("net/ipv4/conf/{device}/{name}"));
                settings.extend(value.map(|value| (setting, value)));
            }
        }
        let netfilter = |name: &str| Setting::new(format!("net/netfilter/nf_conntrack_{name}"));
        settings.extend(conntrack_max.map(|most| (netfilter("max"), Value::AtLeast(most))));
        settings.extend(tcp_liberal.then(|| (netfilter("tcp_be_liberal"), Value::Is(1))));
        settings
    }
}

fn connections(text: &str) -> Result<u32, rules::Advice> {
    let number = text.parse().ok().filter(|number| (1024..=u32::MAX >> 1).contains(number));
    number.ok_or_else(|| ("expected 1024 to 2147483647", "for example conntrack_max = 1048576".into()))
}
