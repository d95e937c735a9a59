//! `flowtable = true`: connections that are established pass the kernel by its short way. What becomes of the fence, and of
//! the connections, when the role moves.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::capture::Capture;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::Duo;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{fortify, in_step, streams};
use carp_tests::lab::stream::{Load, Stream, all_talk, finish_all};
use carp_tests::lab::{Purpose, clock};
use serde_json::Value;
use std::process::Command;

const RULES: &str = "snat = \"vip\"\n[firewall]\nflowtable = true\n";
/// Lets through what the LAN began, and no connection from its middle.
const FILTER: &str = "table inet gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 ct state new counter accept
    }
}
";
const VIP: [u8; 4] = [10, 77, 2, 1];
const LOAD: Load = Load { block: 1024, pause: Span::millis(20) };
const SESSIONS: usize = 20;
/// As many blocks as would be seen by the rule many times over, were they to pass it.
const BLOCKS: u64 = 50;

#[test]
fn connections_on_the_short_way_move_like_others_and_no_node_sends_on_it_without_a_lease() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let config = Config::gateway().with_sync().with_rules(RULES);
    let Some(pair) = with_flowtables(pair, &config)? else { return Ok(()) };
    fortify(&pair, FILTER)?;
    // By way of gw1's own address, whoever is master.
    pair.server.ip("address add 10.77.2.11/24 dev eth0")?;
    pair.client.ip("route add 10.77.2.11 via 10.77.1.2")?;
    let mut duo = Duo::elected_in(pair, &config)?;
    let moving = streams(&duo.pair, SESSIONS, LOAD)?;
    let stubborn = vec![Stream::start_with(&duo.pair.client, &duo.pair.server, "10.77.2.11".parse()?, LOAD)?];
    all_talk(&moving, 5)?;
    all_talk(&stubborn, 5)?;
    let before = long_way(&duo.gw1)?;
    all_talk(&moving, BLOCKS)?;
    all_talk(&stubborn, BLOCKS)?;
    let seen = long_way(&duo.gw1)? - before;
    ensure!(seen < BLOCKS, "{seen} packets took the long way");
    in_step(&duo)?;
    let capture = Capture::start(&duo.pair.switch, "wan-gw1")?;
    duo.gw1.freeze()?;
    duo.wait_moved()?;
    let fenced = clock::now();
    all_talk(&moving, 5).context("over the other gateway")?;
    clock::sleep(Span::secs(1));
    let of_the_vip = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(26..30) == Some(&VIP);
    let sent = capture.since(fenced).into_iter().filter(|(_, frame)| of_the_vip(frame)).count();
    ensure!(sent == 0, "the fenced node let {sent} packets out");
    duo.gw1.thaw()?;
    ensure!(held_back(&duo.gw1)? > 0, "nothing came to the fence");
    duo.wait_as_configured()?;
    all_talk(&moving, 5).context("back")?;
    all_talk(&stubborn, 5).context("through the node that was fenced")?;
    finish_all(moving)?;
    finish_all(stubborn)?;
    duo.never_two_masters()
}

/// Nothing, when the kernel has no flowtables; then carpd says what it lacks.
fn with_flowtables(pair: Pair, config: &Config) -> Result<Option<Pair>> {
    let carpd = Carpd::configure(&pair.lab, pair.gw1(), config)?;
    let file = carpd.files().carp.to_string_lossy().into_owned();
    let node = carpd.files().node.to_string_lossy().into_owned();
    let checked = carpd.carpctl(&["check", &file, "--node", &node])?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    if !said.contains("CONFIG_NFT_FLOW_OFFLOAD") {
        return Ok(Some(pair));
    }
    let (code, said) = carpd.refusal()?;
    ensure!(code == Some(1) && said.contains("CONFIG_NF_FLOW_TABLE_INET"), "{said}");
    Ok(None)
}

/// Packets with the VIP's source that the fence of the WAN has dropped.
fn held_back(carpd: &Carpd) -> Result<u64> {
    let status = carpd.status()?;
    let count = status.pointer("/hosts/1/datapath/egress-vip-fenced").and_then(Value::as_u64);
    count.with_context(|| format!("a counter: {}", status["hosts"][1]))
}

/// Packets of established connections that the rule has seen, so that they did not take the short way.
fn long_way(carpd: &Carpd) -> Result<u64> {
    let mut carpctl = Command::new(product("carpctl")?);
    let output = carpd.namespace().output(carpctl.args(["nat", "--json"]))?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let rules = report["rules"].as_array().context("a list")?;
    let rule = rules.iter().find(|rule| rule["rule"] == "flowtable").context("the rule")?;
    rule["packets"].as_u64().context("a number")
}
