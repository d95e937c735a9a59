//! One gateway between a source and a sink, each behind a cable of its own: no bridge, which would make
//! an skb of each frame.
//!
//! ```text
//!  source ── lan0 gateway wan0 ── sink
//!   .1.10    .1.2         .2.2    .2.10
//! ```

use anyhow::Result;
use carp_common::id::{IfIndex, Mac, Vhid, virtual_mac};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::process::run_with_input;
use carp_tests::lab::{Lab, Purpose};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// The source's only link, and the sink's.
pub const FAR: &str = "eth0";
/// The gateway's link to the source.
pub const LAN: &str = "lan0";
/// The gateway's link to the sink.
pub const WAN: &str = "wan0";

pub const SOURCE_MAC: Mac = Mac([2, 0, 0, 0, 1, 0x10]);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 2]);
pub const SINK_MAC: Mac = Mac([2, 0, 0, 0, 2, 0x10]);
const WAN_MAC: Mac = Mac([2, 0, 0, 0, 2, 2]);

/// The gateway's own on the LAN.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 2);
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 10);
pub const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 0x10);
pub const SINK: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 10);
/// What `Config::gateway` serves on the LAN, as vhid 1.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1);
/// On the LAN, and nobody's.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 99);
pub const NOBODY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 0x99);

/// The three hosts.
pub struct Road {
    pub source: Namespace,
    pub gateway: Namespace,
    pub sink: Namespace,
    /// Last, so that all else is gone when it cleans up.
    pub lab: Lab,
}

/// The virtual MAC of the LAN.
pub fn lan_virtual_mac() -> Mac {
    Vhid::new(1).map_or(Mac::default(), virtual_mac)
}

impl Road {
    /// Builds it. The gateway forwards.
    pub fn new() -> Result<Self> {
        let lab = Lab::new(Purpose::Show)?;
        let (source, gateway, sink) =
            (lab.namespace("source")?, lab.namespace("gateway")?, lab.namespace("sink")?);
        gateway.sysctl("ipv4/ip_forward", "1")?;
        gateway.sysctl("ipv6/conf/all/forwarding", "1")?;
        for host in [&source, &sink] {
            host.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        }
        let mut cables = String::new();
        for (near, near_mac, far, far_mac) in
            [(LAN, LAN_MAC, &source, SOURCE_MAC), (WAN, WAN_MAC, &sink, SINK_MAC)]
        {
            // Writing to a String cannot fail.
            writeln!(
                cables,
                "link add {near} address {near_mac} type veth peer name {FAR} address {far_mac} netns {}",
                far.name()
            )
            .ok();
        }
        for (host, script) in [
            (&gateway, cables + &interface(LAN, 1, 2) + &interface(WAN, 2, 2) + &neighbours()),
            (&source, interface(FAR, 1, 10)),
            (&sink, interface(FAR, 2, 10)),
        ] {
            run_with_input(Command::new("ip").args(["-n", host.name(), "-batch", "-"]), &script)?;
        }
        Ok(Self { source, gateway, sink, lab })
    }

    /// `nft` on the gateway.
    pub fn nft(&self, words: &str) -> Command {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", self.gateway.name(), "nft"]).args(words.split(' '));
        nft
    }

    /// Makes these words all the rules of the gateway's firewall; none is no firewall.
    pub fn firewall(&self, rules: &str) -> Result<()> {
        run_with_input(&mut self.nft("--file -"), &format!("flush ruleset\n{rules}"))
    }

    /// The number of one of the gateway's links.
    pub fn index(&self, link: &str) -> Option<IfIndex> {
        self.gateway.ifindex(link).ok().map(IfIndex)
    }
}

fn interface(link: &str, net: u8, number: u8) -> String {
    let v4 = format!("address add 10.77.{net}.{number}/24 dev {link}");
    let v6 = format!("address add fd77:{net}::{number}/64 dev {link} nodad");
    let v6 = if link == FAR { String::new() } else { v6 };
    format!("link set {link} up\n{v4}\n{v6}\n")
}

/// Nobody answers for the sink.
fn neighbours() -> String {
    format!("neighbour replace {SINK} lladdr {SINK_MAC} dev {WAN} nud permanent\n")
}
