//! XML-RPC over HTTPS: Python's own client drives every method; strangers, guessers and bombs get a fault or a closed
//! connection, and the election does not notice.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::remote::{PLACE, account, answers, certificate, fingerprint, pin, python};
use carp_tests::lab::roles::Roles;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

#[test]
fn pythons_client_drives_every_method() -> Result<()> {
    let duo = Duo::elected(&Config::gateway().with_sync())?;
    let full = account(&duo.gw1, &["full"])?;
    let reader = account(&duo.gw1, &["reader", "--read-only"])?;
    for name in ["other", "peer"] {
        let more: &[&str] = if name == "peer" { &["peer", "--peer"] } else { &["other"] };
        set_password(&duo.gw1, more, &full)?;
    }
    answers(&duo.pair, &duo.gw2)?;
    // On the sync address and nowhere else, whoever asks.
    for (asks, place) in [
        (&duo.pair.client, "10.77.1.2:7113"),
        (&duo.pair.client, "10.77.1.1:7113"),
        (&duo.pair.client, PLACE),
        (duo.pair.gw2(), "10.77.1.2:7113"),
        (&duo.pair.server, "10.77.2.2:7113"),
    ] {
        let place: SocketAddr = place.parse()?;
        let connected =
            asks.enter(|| Ok(TcpStream::connect_timeout(&place, Span::millis(500).std()).is_ok()))?;
        ensure!(!connected, "XML-RPC at {place}, asked from {}", asks.host());
    }
    let trusted = certificate(&duo.gw1)?;
    let mut script = Command::new("python3");
    script.arg(python("python-client.py")).args([PLACE, &trusted.to_string_lossy(), "lan0", "1"]);
    let said = carp_tests::lab::remote::with_input(&duo.gw2, script, &format!("{full}\n{reader}\n"))?;
    ensure!(said.trim() == "ok", "{said}");
    duo.never_two_masters()
}

#[test]
fn a_peer_is_known_by_its_certificate_and_another_one_is_refused_and_named() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway().with_sync())?;
    let file = duo.gw2.files().carp.with_file_name("peer.password");
    let password = account(&duo.gw1, &["gw2", "--peer"])?;
    carp_tests::lab::remote::write_secret(&file, &password)?;
    answers(&duo.pair, &duo.gw2)?;
    let [one, two] = [fingerprint(&duo.gw1)?, fingerprint(&duo.gw2)?];
    let refused = call(&duo.gw2, &file)?;
    ensure!(refused.contains(&one) && refused.contains("none is pinned"), "{refused}");
    pin(&duo.gw2, &one)?;
    let refused = call(&duo.gw2, &file)?;
    ensure!(refused.contains(&format!("carpctl peer pin {two}")), "gw1 does not trust gw2 yet: {refused}");
    clock::wait_for("gw1 to say whom it refuses", PATIENCE, || {
        let log = duo.gw1.process().ok()?.log();
        (log.contains(&two) && log.contains("carpctl peer pin")).then_some(())
    })?;
    pin(&duo.gw1, &two)?;
    let answer = call(&duo.gw2, &file)?;
    ensure!(answer.contains(&format!("\"node\": \"{}\"", duo.gw1.instance())), "{answer}");
    // Somebody in the middle, with a certificate of his own.
    pin(&duo.gw2, &two)?;
    let refused = call(&duo.gw2, &file)?;
    ensure!(refused.contains(&one) && refused.contains(&two), "both fingerprints: {refused}");
    Ok(())
}

#[test]
fn a_flood_of_bad_requests_changes_no_role_and_fills_no_memory() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway().with_sync())?;
    let full = account(&duo.gw1, &["full"])?;
    answers(&duo.pair, &duo.gw2)?;
    let before = duo.gw1.most_memory()?;
    let roles = Roles::start([&duo.gw1, &duo.gw2].map(|carpd| carpd.instance().to_owned()));
    let from = clock::now();
    let mut script = Command::new("python3");
    let seconds = if std::env::var_os("CARP_LONG").is_some() { "60" } else { "6" };
    script.arg(python("hostile-client.py")).args([PLACE, seconds]);
    let said = carp_tests::lab::remote::with_input(&duo.gw2, script, &format!("{full}\n"))?;
    println!("{said}");
    let number = |what: &str| {
        let number = said.lines().find_map(|line| line.strip_prefix(what)).with_context(|| said.clone());
        anyhow::Ok(number?.trim().parse::<u64>()?)
    };
    let [sent, answered] = [number("bad requests a second:")?, number("of these answered:")?];
    ensure!(sent >= 2000, "only {sent} a second");
    // How many get through depends on the machine and the build; some have to.
    ensure!(answered >= 100, "only {answered} a second were answered");
    let grown = duo.gw1.most_memory()?.saturating_sub(before);
    println!("memory grew by {} MiB", grown >> 20);
    ensure!(grown < 160 << 20, "memory grew by {} MiB", grown >> 20);
    duo.watch.catch_up()?;
    let moved = duo.watch.changes(from, Instant::MAX);
    let changes = roles.changes(from, Instant::MAX);
    println!("{} role changes", changes.len());
    ensure!(changes.is_empty() && moved.is_empty(), "{changes:?} {moved:?}");
    duo.gw1.wait_role("MASTER", Span::millis(500))?;
    duo.gw2.wait_role("BACKUP", Span::millis(500))?;
    duo.never_two_masters()
}

/// What `carpctl peer call carp.version` says, good or bad.
fn call(carpd: &Carpd, password: &std::path::Path) -> Result<String> {
    let files = carpd.files();
    let [password, config] = [password, &files.carp].map(|path| path.to_string_lossy().into_owned());
    let said = carpd.carpctl(&[
        "peer",
        "call",
        "carp.version",
        "--user",
        "gw2",
        "--password-file",
        &password,
        "--config",
        &config,
    ])?;
    Ok(String::from_utf8([said.stdout, said.stderr].concat())?)
}

fn set_password(carpd: &Carpd, words: &[&str], password: &str) -> Result<()> {
    let file = carpd.files().carp.with_file_name("known.password");
    carp_tests::lab::remote::write_secret(&file, password)?;
    let file = file.to_string_lossy().into_owned();
    let said = carpd.carpctl(&[&["account", "add"], words, &["--password-file", &file]].concat())?;
    ensure!(said.status.success(), "{said:?}");
    Ok(())
}
