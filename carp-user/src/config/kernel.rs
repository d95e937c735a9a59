//! The table `[kernel]`: what of the kernel's settings carpd is to see to.

use super::fields::Fields;
use super::mistake::Mistake;
use super::reference::{Key, Kind};
use super::{Config, Document};
use crate::proto::family::Family;
use std::collections::BTreeSet;

/// Keys of the table `[kernel]`.
pub const KERNEL: &[Key] = &[Key {
    name: "forwarding",
    kind: Kind::Flag,
    range: "",
    unit: "",
    default: "false",
    example: "true",
    meaning: "Whether carpd has the kernel forward while it runs: `net.ipv4.ip_forward` where there are IPv4 VIPs, \
              `net.ipv6.conf.all.forwarding` where there are IPv6 VIPs. What it switches on it switches off again when it \
              stops; what is on already stays as it is. See [operations](operations.md).",
}];

/// Whether forwarding is asked for.
pub(super) fn read(document: &Document, mistakes: &mut Vec<Mistake>) -> bool {
    let Some(table) = document.table("kernel", "[kernel]", mistakes) else { return false };
    let fields = Fields::new((document.file, document.whole), "[kernel]", table, KERNEL, mistakes);
    fields.flag("forwarding", false, mistakes) == Some(true)
}

impl Config {
    /// The families that carpd has the kernel forward: those of the VIPs, if that is asked for.
    pub fn forwarded(&self) -> BTreeSet<Family> {
        let vips = self.hosts.iter().flat_map(|host| &host.addresses);
        vips.filter(|_| self.forwarding).map(|vip| Family::of(vip.ip)).collect()
    }
}
