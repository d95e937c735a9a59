//! Two nodes that are paired by a code: afterwards both daemons start, the session is up, and one calls the other by XML-RPC.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::follow;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::process::Process;
use carp_tests::lab::remote::answers;
use carp_tests::lab::replicating::wait_for_state;
use carp_tests::lab::{Purpose, clock};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

const PLACE: &str = "10.77.9.2:7114";

#[test]
fn paired_nodes_replicate_and_call_each_other() -> Result<()> {
    let (pair, mut gw1) = first()?;
    gw1.run()?;
    let (mut waiting, code) = offer(&pair, &gw1)?;
    let gw2 = Second::of(&pair);
    let joined = gw2.join(&pair, &code)?;
    ensure!(joined.status.success(), "{joined:?}\n{}", waiting.log());
    ensure!(waiting.wait(PATIENCE)?.success(), "{}", waiting.log());
    ensure!(waiting.log().contains("carpd goes on with the new key"), "{}", waiting.log());
    for name in ["password", "sync.key", "config-sync.password"] {
        let about = std::fs::metadata(gw2.folder.join(name)).with_context(|| name.to_owned())?;
        ensure!(about.permissions().mode() & 0o777 == 0o600, "{name}: {about:?}");
    }
    let log = waiting.log();
    let key = std::fs::read_to_string(gw2.folder.join("sync.key"))?;
    ensure!(!log.contains(key.trim()), "a secret in what carpctl says");
    ensure!(key == std::fs::read_to_string(gw1.files().carp.with_file_name("sync-key"))?, "one key");

    let mut second = Command::new(product("carpd")?);
    second.arg("--config").arg(gw2.folder.join("carp.toml")).arg("--node").arg(gw2.folder.join("node.toml"));
    let _second = pair.gw2().spawn("second", second)?;
    gw1.wait_role("MASTER", PATIENCE)?;
    wait_for_state(&gw1, "in-step")?;
    answers(&pair, &gw1)?;
    let there = gw2.call(&pair, "carp.version")?;
    ensure!(there.contains(gw1.instance()), "{there}");
    // And the other way round, with what `carpctl pair` has written here.
    let file = gw1.files().carp.with_file_name("config-sync.password");
    let (file, config) =
        (file.to_string_lossy().into_owned(), gw1.files().carp.to_string_lossy().into_owned());
    let words = [
        "peer",
        "call",
        "carp.status",
        "--user",
        gw1.instance(),
        "--password-file",
        &file,
        "--config",
        &config,
    ];
    let back = clock::wait_for("gw2 to answer", PATIENCE, || {
        gw1.carpctl(&words).ok().filter(|said| said.status.success())
    })?;
    ensure!(String::from_utf8_lossy(&back.stdout).contains(&gw2.name), "{back:?}");
    // Edited on one node from now on: what pairing has left is enough for that.
    let node = std::fs::read_to_string(&gw1.files().node)?;
    std::fs::write(&gw1.files().node, node + "\n[config_sync]\n")?;
    ensure!(gw1.carpctl(&["reload"])?.status.success());
    let shared = std::fs::read_to_string(&gw1.files().carp)?;
    let said = follow::apply(
        &gw1,
        &shared.replacen("\"10.77.1.1/24\",", "\"10.77.1.1/24\", \"10.77.1.7\",", 1),
        &[],
    )?;
    ensure!(said.status.success() && follow::says(&said).contains("on the other node: 1@lan0"), "{said:?}");
    ensure!(std::fs::read_to_string(gw2.folder.join("carp.toml"))?.contains("10.77.1.7"), "gw2 follows");
    // The code was good for one use.
    let again = Second { folder: pair.lab.folder().join("third"), ..gw2 }.join(&pair, &code)?;
    ensure!(String::from_utf8_lossy(&again.stderr).contains("nobody pairs at"), "{again:?}");
    Ok(())
}

#[test]
fn three_wrong_codes_make_the_right_one_void_and_a_slip_costs_no_try() -> Result<()> {
    let (pair, gw1) = first()?;
    let (mut waiting, code) = offer(&pair, &gw1)?;
    let gw2 = Second::of(&pair);
    let slip = gw2.join(&pair, &code.replacen(&code[..2], "ZZ", 1))?;
    ensure!(String::from_utf8_lossy(&slip.stderr).contains("a slip in it"), "{slip:?}");
    let wrong = carp_user::io::pairing::Code::new()?.to_string();
    for number in 1..=3 {
        let refused = gw2.join(&pair, &wrong)?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && said.contains("another code"), "try {number}: {said}");
        ensure!(!gw2.folder.join("carp.toml").exists());
        // A second passes between two tries.
        clock::sleep(Span::millis(1200));
    }
    ensure!(!waiting.wait(PATIENCE)?.success(), "it goes on");
    ensure!(waiting.log().contains("void now"), "{}", waiting.log());
    ensure!(!gw2.join(&pair, &code)?.status.success(), "the right one, too late");
    ensure!(
        !gw1.files().carp.with_file_name("config-sync.password").exists(),
        "nothing has changed on the first node"
    );
    Ok(())
}

/// gw1 with a configuration and a sync link; it does not run.
fn first() -> Result<(Pair, Carpd)> {
    let pair = Pair::new(Purpose::Test)?;
    let gw1 = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway().with_sync())?;
    Ok((pair, gw1))
}

/// `carpctl pair` on gw1, and the code that it prints.
fn offer(pair: &Pair, gw1: &Carpd) -> Result<(Process, String)> {
    let mut command = Command::new(product("carpctl")?);
    command.arg("pair").arg(&gw1.files().carp);
    let waiting = pair.gw1().spawn("pair", command)?;
    let code = clock::wait_for("a code", PATIENCE, || {
        let log = waiting.log();
        let line = log.lines().find_map(|line| line.trim().strip_prefix("carpctl join 10.77.9.2 "))?;
        Some(line.to_owned())
    })?;
    let place: SocketAddr = PLACE.parse()?;
    let listens = |gateway: &Namespace| gateway.enter(|| Ok(TcpStream::connect(place).map(drop).is_ok()));
    // A connection that says nothing is no guess.
    clock::wait_for("it to listen", PATIENCE, || listens(pair.gw2()).ok()?.then_some(()))?;
    Ok((waiting, code))
}

/// gw2, which has nothing yet.
struct Second {
    name: String,
    folder: PathBuf,
}

impl Second {
    fn of(pair: &Pair) -> Self {
        Self { name: pair.lab.instance("gw2"), folder: pair.lab.folder().join("second") }
    }

    fn join(&self, pair: &Pair, code: &str) -> Result<Output> {
        let mut command = Command::new(product("carpctl")?);
        command.args(["join", "10.77.9.2", code, "--name", &self.name, "--output"]).arg(&self.folder);
        command.args(["--role", "lan=lan0", "--role", "wan=wan0", "--role", "sync=sync0"]);
        pair.gw2().output(&mut command)
    }

    /// What gw1 answers, good or bad.
    fn call(&self, pair: &Pair, method: &str) -> Result<String> {
        let mut command = Command::new(product("carpctl")?);
        command.args(["peer", "call", method, "--user", &self.name, "--password-file"]);
        command
            .arg(self.folder.join("config-sync.password"))
            .arg("--config")
            .arg(self.folder.join("carp.toml"));
        let said = pair.gw2().output(&mut command)?;
        Ok(String::from_utf8([said.stdout, said.stderr].concat())?)
    }
}
