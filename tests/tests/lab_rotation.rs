//! Another password, and another mode of authentication, by the steps of `docs/operations.md`. Passwords change
//! without a move. To begin to sign strictly needs a new start: the backup first, the master when the backup is ready;
//! that moves the addresses to the backup and back, and nothing else happens.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
/// For so long a node has to have listened to be handed the role at once: a lease.
const READY: Span = Span::secs(3);
/// What a planned hand-over may cost a client.
const HAND_OVER: Span = Span::millis(500);
/// A probe whose answer is still under way is not lost.
const UNDER_WAY: Span = Span::millis(100);
const OLD: &str = "lab secret";
const NEW: &str = "another secret";

#[test]
fn carp_a_pair_gets_another_password_and_nothing_moves() -> Result<()> {
    rotate(&Config::gateway().with_auth("carp"))
}

#[test]
fn strict_a_pair_gets_another_password_and_nothing_moves() -> Result<()> {
    rotate(&Config::gateway().with_auth("strict"))
}

#[test]
fn a_pair_that_detects_by_probes_gets_another_password_and_nothing_moves() -> Result<()> {
    rotate(&Config::gateway().detecting(5).patient())
}

fn rotate(config: &Config) -> Result<()> {
    let (mut duo, echo, begun) = probed(config)?;
    let digest = duo.gw1.status()?["hosts"][0]["digest"].clone();
    for (password, next) in [(OLD, Some(NEW)), (NEW, Some(OLD)), (NEW, None)] {
        let config = config.clone().with_passwords(password, next);
        live(&mut duo, &config).with_context(|| format!("{password}, {next:?}"))?;
    }
    let digests =
        [&duo.gw1, &duo.gw2].map(|gw| gw.status().unwrap_or_default()["hosts"][0]["digest"].clone());
    assert!(digests[0] == digests[1] && digests[0] != digest, "{digests:?} after {digest}");
    undisturbed(&duo, &echo, begun)
}

#[test]
fn a_pair_goes_from_carp_to_strict_and_status_and_log_say_when_the_last_step_can_be_taken() -> Result<()> {
    let config = Config::gateway();
    let (mut duo, echo, begun) = probed(&config)?;
    let migrate = config.clone().with_auth("migrate");
    backup(&mut duo, &migrate)?;
    says(&duo.gw2, "lan0@1 migrates: not yet strict: 10.77.1.2")?;
    master(&mut duo, &migrate)?;
    for gw in [&duo.gw1, &duo.gw2] {
        says(gw, "lan0@1 migrates: all peers heard sign strictly")?;
        says(gw, "  migrate  ")?;
    }
    for gw in [&mut duo.gw1, &mut duo.gw2] {
        assert!(gw.process()?.log().contains("sign strictly: auth = \"strict\" can be set"));
    }
    let strict = config.with_auth("strict");
    live(&mut duo, &strict)?;
    says(&duo.gw1, "  strict  ")?;
    says(&duo.gw2, "  strict  ")?;
    undisturbed(&duo, &echo, begun)
}

/// An elected pair, probed from the moment that is given.
fn probed(config: &Config) -> Result<(Duo, Echo, Instant)> {
    let duo = Duo::elected(config)?;
    let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
    let begun = clock::now();
    clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
    Ok((duo, echo, clock::now()))
}

/// Both have another configuration from now on, gw2 first: nothing moves.
fn live(duo: &mut Duo, config: &Config) -> Result<()> {
    let from = clock::now();
    duo.gw2.reload_live(&config.clone().of_backup())?;
    clock::sleep(Span::secs(1));
    duo.gw1.reload_live(config)?;
    clock::sleep(Span::secs(4));
    duo.watch.catch_up()?;
    let changes = duo.watch.changes(from, Instant::MAX);
    ensure!(changes.is_empty() && duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "{changes:?}");
    agreed(duo)
}

/// gw2 has another configuration from now on: nothing moves. It is ready to be handed the role then.
fn backup(duo: &mut Duo, config: &Config) -> Result<()> {
    let from = clock::now();
    duo.gw2.reload(&config.clone().with_skew(100))?;
    duo.gw2.wait_role("BACKUP", PATIENCE)?;
    duo.gw2.wait_since(READY, PATIENCE)?;
    duo.watch.catch_up()?;
    let changes = duo.watch.changes(from, Instant::MAX);
    ensure!(changes.is_empty() && duo.gw1.is_all("MASTER"), "nothing moves: {changes:?}");
    agreed(duo)
}

/// gw1 has another configuration from now on: gw2 serves meanwhile.
fn master(duo: &mut Duo, config: &Config) -> Result<()> {
    let from = duo.gw1.reload(config)?;
    duo.wait_as_configured()?;
    duo.served_at(1, from).context("the backup serves meanwhile")?;
    duo.gw2.wait_since(READY, PATIENCE)?;
    agreed(duo)
}

/// Neither has refused anything of the other.
fn agreed(duo: &Duo) -> Result<()> {
    for gw in [&duo.gw1, &duo.gw2] {
        for reason in ["badauth", "badmode", "replay"] {
            let counts = [0, 1].map(|host| gw.refused(host, reason).unwrap_or(u64::MAX));
            ensure!(counts == [0, 0], "{} refused for {reason}: {counts:?}", gw.instance());
        }
    }
    Ok(())
}

/// Waits until a person who asks for the status reads this.
fn says(node: &Carpd, words: &str) -> Result<()> {
    let ask = || -> Result<String> {
        let mut carpctl = Command::new(product("carpctl")?);
        let output = node.namespace().output(carpctl.args(["--instance", node.instance(), "status"]))?;
        Ok(String::from_utf8(output.stdout)?)
    };
    clock::wait_for(words, PATIENCE, || ask().ok()?.contains(words).then_some(()))
        .with_context(|| ask().unwrap_or_default())
}

fn undisturbed(duo: &Duo, echo: &Echo, begun: Instant) -> Result<()> {
    let report = echo.report(begun, clock::now() - UNDER_WAY);
    ensure!(report.sent > 1_000 && report.longest_gap < HAND_OVER, "{report:?}");
    duo.never_two_masters()
}
