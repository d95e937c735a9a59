//! Virtual hosts on links that stand on others: a bridge, a VLAN, a bond. The nodes have no address in the network of the
//! VIPs.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{clock, kernel, ping};

/// What makes `seg0` of a link, and whether the hosts behind it need one, too.
const KINDS: [(&str, &str, bool); 3] = [
    ("bridge", "link add seg0 type bridge stp_state 0 forward_delay 0; link set LINK master seg0", false),
    ("vlan", "link add link LINK name seg0 type vlan id 7", true),
    (
        "bond",
        "link add seg0 type bond mode active-backup miimon 100; link set LINK down; link set LINK master seg0",
        false,
    ),
];
const MODES: [&str; 2] = ["auto", "generic"];
const VIPS: [&str; 3] = ["10.77.3.1", "10.77.3.5", "fd77:3::1"];

/// Whether this kernel has such links.
fn stack(host: &Namespace, link: &str, words: &str) -> Result<bool> {
    for words in words.replace("LINK", link).split("; ").chain(["link set seg0 up"]) {
        match host.ip(words) {
            Ok(_) => {}
            Err(error) if format!("{error:#}").contains("Unknown device type") => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Nothing, where the kernel has no such links.
fn stacked(xdp: &'static str, words: &str, both_ends: bool) -> Result<Option<Duo>> {
    let pair = Pair::new(Purpose::Test)?;
    for (gateway, number) in pair.gateways.iter().zip([2, 3]) {
        if !stack(gateway, "lan0", words)? {
            return Ok(None);
        }
        gateway.ip(&format!("address add 192.0.2.{number}/29 dev seg0"))?;
        gateway.ip("route add 10.77.3.0/24 dev seg0")?;
        gateway.ip("route add fd77:3::/64 dev seg0")?;
    }
    let client = if both_ends { "seg0" } else { "eth0" };
    if both_ends {
        stack(&pair.client, "eth0", words)?;
    }
    pair.client.ip(&format!("address add 10.77.3.10/24 dev {client}"))?;
    pair.client.ip(&format!("address add fd77:3::10/64 dev {client} nodad"))?;
    let addresses = vec!["10.77.3.1/24", "10.77.3.5", "fd77:3::1/64"];
    let host = VirtualHost { interface: "seg0", vhid: 3, addresses, base: 1, skew: 0 };
    let config = Config { hosts: vec![host], ..Config::gateway() };
    if words.contains("bond") {
        let native = config.clone().with_xdp("native");
        let (_, said) = Carpd::configure(&pair.lab, pair.gw1(), &native)?.refusal()?;
        ensure!(said.contains("seg0 is a bond"), "{said}");
    }
    Duo::elected_in(pair, &config.with_xdp(xdp)).map(Some)
}

/// Every VIP answers the client, by the virtual MAC.
fn all_answer(client: &Namespace) -> Result<()> {
    for vip in VIPS {
        clock::wait_for(vip, PATIENCE, || ping::ping(client, vip.parse().ok()?, Span::millis(500)).ok()?)?;
        let neighbour = client.ip(&format!("neighbour show {vip}"))?;
        ensure!(neighbour.contains("00:00:5e:00:01:03"), "{neighbour}");
    }
    Ok(())
}

#[test]
fn vips_are_served_and_move_on_bridges_vlans_and_bonds() -> Result<()> {
    let mut tried = Vec::new();
    for (xdp, (kind, words, both_ends)) in MODES.iter().flat_map(|xdp| KINDS.map(|kind| (*xdp, kind))) {
        if xdp == "generic" && !kernel::generic_xdp_delivers() {
            continue;
        }
        let what = || format!("{kind}, xdp = {xdp}");
        let Some(mut duo) = stacked(xdp, words, both_ends).with_context(what)? else { continue };
        tried.push((kind, xdp));
        all_answer(&duo.pair.client).with_context(what)?;
        duo.gw1.kill()?;
        duo.wait_moved().with_context(what)?;
        all_answer(&duo.pair.client).context("over the other gateway").with_context(what)?;
        duo.never_two_masters().with_context(what)?;
    }
    eprintln!("tried {tried:?}");
    ensure!(tried.contains(&("bridge", "auto")), "every kernel has bridges");
    Ok(())
}
