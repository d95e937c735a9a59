//! Two gateways with carpd: every way in which the addresses move, seen from the wire, from the
//! datapath and from a client.

use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use carp_tests::lab::adverts::STAMPS;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use carp_tests::lab::kernel::generic_xdp_delivers;
use carp_tests::lab::ping::ping;
use carp_tests::lab::stream::Stream;
use std::net::IpAddr;

const VIPS: [&str; 4] = ["10.77.1.1", "fd77:1::1", "10.77.2.10", "fd77:2::10"];
const SERVER: &str = "10.77.2.10";
const VIRTUAL_MAC: &str = "00:00:5e:00:01:01";
/// Dead time of gw2: base 1, skew 100.
const DEAD: Span = Span::micros(3_390_625);
/// Dead time of skew 0: no lease lasts as long, no backup serves earlier.
const EARLIEST: Span = Span::secs(3);
/// What a loaded machine may add to a moment.
const SLACK: Span = Span::millis(250);

#[test]
fn the_smaller_skew_is_elected_and_serves_both_families() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    for target in VIPS {
        reaches(&duo, target)?;
    }
    assert_eq!(duo.pair.learned("lan", VIRTUAL_MAC)?.as_deref(), Some("lan-gw1"));
    let status = duo.gw1.carpctl_status()?;
    assert_eq!(status["schema"], 1);
    assert_eq!(status["node"], duo.gw1.instance());
    assert_eq!(status["hosts"][0]["interface"], "lan0");
    assert_eq!(status["hosts"][0]["vhid"], 1);
    assert_eq!(status["hosts"][0]["serving"], true);
    assert_eq!(duo.gw2.carpctl_status()?["hosts"][1]["serving"], false);
    duo.never_two_masters()
}

#[test]
fn a_planned_stop_hands_over_within_50_ms_and_the_client_keeps_its_connection() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, address(SERVER))?;
    let echo = Echo::start(&duo.pair.client, &duo.pair.server, address(SERVER))?;
    let from = clock::now();
    clock::wait_for("probes", PATIENCE, || echo.answered_since(from).then_some(()))?;
    let stopped = duo.gw1.stop()?;
    duo.wait_moved()?;
    let served = duo.served_at(1, stopped)?;
    for port in ["lan-gw1", "wan-gw1"] {
        let farewells = duo.adverts.all();
        let farewell = farewells.iter().find(|seen| seen.port == port && seen.is_bow_out());
        let farewell = farewell.with_context(|| format!("no farewell into {port}"))?;
        let took = served.since(farewell.at);
        assert!(took < Span::millis(50), "served {took} after the farewell into {port}");
    }
    still_talks(&stream)?;
    let report = echo.report(stopped - Span::millis(100), clock::now() - Span::millis(100));
    assert!(report.longest_gap < Span::millis(500), "{report:?}");
    assert_eq!(duo.pair.learned("lan", VIRTUAL_MAC)?.as_deref(), Some("lan-gw2"));
    // It comes back, and takes over again: preemption is on.
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    still_talks(&stream)?;
    assert_eq!(duo.pair.learned("lan", VIRTUAL_MAC)?.as_deref(), Some("lan-gw1"));
    stream.finish()?;
    duo.never_two_masters()
}

#[test]
fn a_killed_daemon_serves_until_its_lease_ends_and_then_the_backup_does() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, address(SERVER))?;
    let killed = duo.gw1.kill()?;
    duo.wait_moved()?;
    lease_then_backup(&duo, killed)?;
    still_talks(&stream)?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    still_talks(&stream)?;
    stream.finish()?;
    duo.never_two_masters()
}

#[test]
fn a_frozen_daemon_counts_as_dead_and_looks_before_it_speaks_again() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let frozen = duo.gw1.freeze()?;
    duo.wait_moved()?;
    lease_then_backup(&duo, frozen)?;
    duo.gw1.thaw()?;
    duo.wait_as_configured()?;
    reaches(&duo, SERVER)?;
    duo.never_two_masters()
}

#[test]
fn a_pause_shorter_than_the_lease_moves_nothing() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let frozen = duo.gw1.freeze()?;
    clock::sleep(Span::millis(1_500));
    duo.gw1.thaw()?;
    let before = duo.gw1.status()?["hosts"][0]["sent"].as_u64();
    clock::wait_for("two more adverts", PATIENCE, || {
        let sent = duo.gw1.status().ok()?["hosts"][0]["sent"].as_u64();
        (sent >= before.map(|sent| sent + 2)).then_some(())
    })?;
    assert_eq!(duo.watch.changes(frozen, Instant::MAX), []);
    duo.never_two_masters()
}

#[test]
fn when_one_cable_is_out_both_sides_move_and_come_back() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, address(SERVER))?;
    let out = clock::now();
    duo.pair.plug("lan-gw1", false)?;
    duo.wait_moved()?;
    let last = duo.adverts.last_before("lan-gw1", out)?;
    let took = duo.served_at(1, out)?.since(last.at);
    assert!(took <= DEAD + SLACK, "both sides had moved {took} after the last advert");
    assert!(duo.gw1.has_role(0, "INIT"), "{}", duo.gw1.status()?);
    still_talks(&stream)?;
    duo.pair.plug("lan-gw1", true)?;
    duo.wait_as_configured()?;
    still_talks(&stream)?;
    stream.finish()?;
    duo.never_two_masters()
}

#[test]
fn without_preemption_a_node_that_returns_stays_backup() -> Result<()> {
    let mut duo = Duo::elected(&Config { preempt: false, ..Config::gateway() })?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    duo.gw1.run()?;
    duo.gw1.wait_role("BACKUP", PATIENCE)?;
    clock::sleep(DEAD);
    assert!(duo.gw1.is_all("BACKUP") && duo.gw2.is_all("MASTER"), "{}", duo.gw1.status()?);
    duo.never_two_masters()
}

/// Before Linux 5.13 it does not carry frames to the virtual MAC any further, see `carp-user/src/io/bpf/port.rs`.
#[test]
fn generic_xdp_does_the_same() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway().with_xdp("generic"))?;
    if !generic_xdp_delivers() {
        let log = duo.gw1.process()?.log();
        assert!(log.contains("before Linux 5.13"), "{log}");
        answers_from_the_virtual_mac(&duo)?;
        return duo.never_two_masters();
    }
    VIPS.iter().try_for_each(|target| reaches(&duo, target))?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    VIPS.iter().try_for_each(|target| reaches(&duo, target))?;
    duo.never_two_masters()
}

/// Only this much: a veth's native XDP does not carry frames to the virtual MAC any further, see
/// `carp-user/src/io/bpf/attach.rs`.
#[test]
fn native_xdp_elects_and_answers_for_the_vip_from_the_driver() -> Result<()> {
    let duo = Duo::elected(&Config::gateway().with_xdp("native"))?;
    assert_eq!(duo.gw1.status()?["datapath"]["lan0"], "native");
    answers_from_the_virtual_mac(&duo)?;
    duo.never_two_masters()
}

#[test]
fn without_xdp_they_elect_and_forward_too() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway().with_xdp("off"))?;
    VIPS.iter().try_for_each(|target| reaches(&duo, target))?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    VIPS.iter().try_for_each(|target| reaches(&duo, target))?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    duo.gw1.kill()?;
    duo.wait_moved()?;
    VIPS.iter().try_for_each(|target| reaches(&duo, target))
}

fn answers_from_the_virtual_mac(duo: &Duo) -> Result<()> {
    for vip in ["10.77.1.1", "fd77:1::1"] {
        ping(&duo.pair.client, address(vip), Span::millis(200))?;
        let known = duo.pair.client.ip(&format!("neighbour show to {vip} dev eth0"))?;
        assert!(known.contains(VIRTUAL_MAC), "{vip} is not at the virtual MAC: {known}");
    }
    Ok(())
}

/// From the last advert on: the lease, then nobody, then the backup at its own dead time.
fn lease_then_backup(duo: &Duo, fault: Instant) -> Result<()> {
    for (slot, old, new) in [(0, "lan-gw1", "lan-gw2"), (1, "wan-gw1", "wan-gw2")] {
        let last = duo.adverts.last_before(old, fault + Span::millis(1))?.at;
        let changes = duo.watch.changes(fault, Instant::MAX);
        let change = |node, serves| {
            let wanted = |seen: &&_| is(seen, node, slot, serves);
            changes.iter().find(wanted).map(|seen| seen.at.since(last))
        };
        let silent = change(0, false).with_context(|| format!("gw1 never stopped: {changes:?}"))?;
        let serves = change(1, true).with_context(|| format!("gw2 never served: {changes:?}"))?;
        assert!(silent > Span::millis(2_500), "{old}: its lease ended {silent} after the last advert");
        assert!(silent < serves, "{old}: silent at {silent}, the backup served at {serves}");
        assert!(serves >= EARLIEST, "{new}: served {serves} after the last advert");
        assert!(serves <= DEAD + SLACK, "{new}: served {serves} after the last advert");
        let first = duo.adverts.first_after(new, fault, PATIENCE)?.at.since(last);
        assert!(
            first + STAMPS >= DEAD && first <= DEAD + SLACK,
            "{new}: advertised {first} after the last advert"
        );
    }
    Ok(())
}

fn is(change: &carp_tests::lab::windows::Change, node: usize, slot: u32, serves: bool) -> bool {
    (change.node, change.slot, change.serves) == (node, slot, serves)
}

/// Asks until it answers: a change of role reaches the client a moment later.
fn reaches(duo: &Duo, target: &str) -> Result<()> {
    let what = format!("a reply of {target}");
    clock::wait_for(&what, PATIENCE, || {
        ping(&duo.pair.client, address(target), Span::millis(500)).ok().flatten().map(drop)
    })
}

fn still_talks(stream: &Stream) -> Result<()> {
    let blocks = stream.blocks() + 20;
    clock::wait_for("the connection to go on", Span::secs(20), || (stream.blocks() >= blocks).then_some(()))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
