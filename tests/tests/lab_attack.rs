//! The attacks of `carp-protocol` section 6 on a pair, by a process of its own on the same segment: it
//! records adverts and sends them again, as they are or rewritten. Strict authentication refuses them all;
//! with CARP's own they have their effect, or are told.

use anyhow::{Context, Result};
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::{Heard, sum};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::Duo;
use carp_tests::lab::process::Process;
use carp_tests::lab::sys;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

const ORDER: &str = "CARP_TEST_ATTACK";
const LAN: usize = 0;
const SOURCE: [u8; 4] = [10, 77, 1, 2];
const STRANGER: [u8; 4] = [10, 77, 1, 66];
const IP: usize = 14;
const CARP: usize = 34;
/// Longest that anything takes that is to happen.
const PATIENCE: Span = Span::secs(10);
/// A dead time, and some.
const TAKEN_OVER: Span = Span::secs(5);
const ATTACK: Span = Span::secs(10);

/// The process that the tests start: without an order there is nothing to do.
#[test]
fn the_attacker() -> Result<()> {
    let Ok(order) = std::env::var(ORDER) else { return Ok(()) };
    let (what, ifindex) = order.split_once(' ').context("an order and a link")?;
    let mut socket = sys::advert_socket(ifindex.parse()?, Duration::from_millis(50))?;
    let mut bytes = [0; 256];
    let mut recorded = loop {
        let Ok(len) = socket.read(&mut bytes) else { continue };
        let frame = &bytes[..len];
        let is_masters = Heard::parse(frame).and_then(Result::ok).is_some_and(|heard| {
            heard.seen().is_to_group() && !heard.is_announcement() && heard.source == IpAddr::from(SOURCE)
        });
        if is_masters {
            break frame.to_vec();
        }
    };
    match what {
        "replay" => {}
        // From another address: whose they are is not signed either.
        "rank" => (recorded[CARP + 2], recorded[CARP + 5]) = (0, 0),
        "farewell" => (recorded[CARP + 2], recorded[CARP + 5]) = (255, 255),
        other => panic!("what is {other}?"),
    }
    if what == "rank" {
        recorded[26..30].copy_from_slice(&STRANGER);
    }
    for (part, at) in [(IP..CARP, 10), (CARP..CARP + 36, 6)] {
        let part = &mut recorded[part];
        part[at..at + 2].fill(0);
        let right = sum::checksum(part).to_be_bytes();
        part[at..at + 2].copy_from_slice(&right);
    }
    let begun = clock::now();
    while clock::now().since(begun) < ATTACK {
        socket.write_all(&recorded)?;
        clock::sleep_until(clock::now() + Span::millis(200));
    }
    Ok(())
}

fn attack(duo: &Duo, what: &str) -> Result<Process> {
    let client = &duo.pair.client;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "the_attacker", "--nocapture"]);
    command.env(ORDER, format!("{what} {}", client.ifindex("eth0")?));
    client.spawn("attacker", command)
}

fn pair(auth: &'static str) -> Result<Duo> {
    Duo::elected(&Config::gateway().with_auth(auth))
}

fn suspicious(status: &serde_json::Value, kind: &str) -> u64 {
    status
        .pointer(&format!("/hosts/{LAN}/suspicious/{kind}"))
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0)
}

#[test]
fn strict_a_replay_a_better_rank_and_a_forged_farewell_change_nothing_and_are_refused() -> Result<()> {
    let duo = pair("strict")?;
    let begun = clock::now();
    for (what, reason) in [("replay", "replay"), ("rank", "badauth"), ("farewell", "badauth")] {
        let before = duo.gw2.refused(LAN, reason)?;
        let mut attacker = attack(&duo, what)?;
        attacker.wait(ATTACK + PATIENCE)?;
        let refused = duo.gw2.carpctl_status()?.to_string();
        let after = duo.gw2.refused(LAN, reason)?;
        assert!(before + 10 < after, "{what}: {before} to {after} refused for {reason}: {refused}");
        assert!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "{what}");
    }
    assert!(duo.watch.changes(begun, clock::now()).is_empty(), "nobody ceased to serve");
    duo.never_two_masters()
}

#[test]
fn item_116_strict_a_dead_masters_adverts_keep_neither_a_backup_nor_one_just_started_from_taking_over()
-> Result<()> {
    let mut duo = pair("strict")?;
    let _attacker = attack(&duo, "replay")?;
    clock::wait_for("the attack", PATIENCE, || (duo.gw2.refused(LAN, "replay").ok()? > 0).then_some(()))?;
    duo.gw1.kill()?;
    duo.gw2.wait_role("MASTER", TAKEN_OVER)?;
    duo.gw2.wait_serving(Span::secs(1))?;
    duo.gw2.kill()?;
    duo.gw2.run()?;
    duo.gw2.wait_role("MASTER", TAKEN_OVER)?;
    duo.gw2.wait_serving(Span::secs(1))
}

#[test]
fn carp_a_dead_masters_adverts_keep_the_backup_from_taking_over_and_are_told() -> Result<()> {
    let mut duo = pair("carp")?;
    let mut attacker = attack(&duo, "replay")?;
    clock::wait_for("the attack to be told", PATIENCE, || {
        (suspicious(&duo.gw2.status().ok()?, "repeated") > 0).then_some(())
    })?;
    let killed = duo.gw1.kill()?;
    clock::sleep_until(killed + TAKEN_OVER);
    assert!(duo.gw2.is_all("BACKUP") || duo.gw2.has_role(LAN, "BACKUP"), "it believes the dead");
    attacker.wait(ATTACK + PATIENCE)?;
    duo.gw2.wait_role("MASTER", PATIENCE)
}

#[test]
fn carp_a_forged_farewell_has_its_effect_and_is_told() -> Result<()> {
    let duo = pair("carp")?;
    let begun = clock::now();
    let mut attacker = attack(&duo, "farewell")?;
    attacker.wait(ATTACK + PATIENCE)?;
    assert!(suspicious(&duo.gw2.status()?, "rewritten") > 0, "{}", duo.gw2.status()?);
    let claims = duo.adverts.all().into_iter().any(|seen| {
        seen.port == "lan-gw2" && seen.at > begun && seen.pace() == Some(Pace { base: 1, skew: 100 })
    });
    assert!(claims, "the backup took over from a living master");
    Ok(())
}

#[test]
fn carp_a_better_rank_from_another_address_has_its_effect_and_the_sender_has_a_name() -> Result<()> {
    let duo = pair("carp")?;
    let mut attacker = attack(&duo, "rank")?;
    clock::wait_for("the master to give way", PATIENCE, || duo.gw1.has_role(LAN, "BACKUP").then_some(()))?;
    // No counter is remembered across addresses: nothing in it is suspicious. It shows as the peer.
    let peer = duo.gw1.status()?["hosts"][LAN]["peer"].clone();
    assert_eq!((&peer["address"], &peer["skew"]), (&"10.77.1.66".into(), &0.into()), "{peer}");
    attacker.wait(ATTACK + PATIENCE)?;
    duo.gw1.wait_role("MASTER", PATIENCE)?;
    duo.never_two_masters()
}

#[test]
fn carp_a_replay_against_a_living_master_moves_nothing_and_is_told() -> Result<()> {
    let mut duo = pair("carp")?;
    let begun = clock::now();
    let mut attacker = attack(&duo, "replay")?;
    attacker.wait(ATTACK + PATIENCE)?;
    assert!(suspicious(&duo.gw2.status()?, "repeated") > 10, "{}", duo.gw2.status()?);
    let log = duo.gw2.process()?.log();
    assert_eq!(log.matches("an advert of 10.77.1.2 came again: somebody replays it").count(), 1, "{log}");
    assert!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"));
    assert!(duo.watch.changes(begun, clock::now()).is_empty(), "nobody ceased to serve");
    duo.never_two_masters()
}
