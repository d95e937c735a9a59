//! One configuration on two nodes: what is applied on gw1 is used by gw2 too, or by neither; no probe is lost and no role
//! moves.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use carp_tests::lab::remote::{account, write_secret};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Output;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
const FOLLOWED: &str = "\n[config_sync]\nuser = \"gw1\"\npassword_file = \"config-password\"\n";

/// A pair of which gw2 follows gw1.
struct Scene {
    echo: Echo,
    from: Instant,
    config: Config,
    duo: Duo,
}

impl Scene {
    fn new() -> Result<Self> {
        let plain = Config::gateway().with_sync();
        let mut duo = Duo::elected(&plain)?;
        let password = account(&duo.gw2, &["gw1"])?;
        write_secret(&duo.gw1.files().carp.with_file_name("config-password"), &password)?;
        pin(&duo.gw1, &fingerprint(&duo.gw2)?)?;
        pin(&duo.gw2, &fingerprint(&duo.gw1)?)?;
        let mut config = Config { own: FOLLOWED, ..plain };
        // A role that gw2 does not have.
        config.interfaces.push(("dmz", "wan0"));
        duo.gw1.reload_live(&config)?;
        clock::wait_for("gw2 to answer", PATIENCE, || {
            standing(&duo.gw1).ok()?["peer"].is_object().then_some(())
        })?;
        let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
        let begun = clock::now();
        clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
        Ok(Self { echo, from: clock::now(), config, duo })
    }

    /// What carpctl says of a new shared file on a gateway.
    fn apply(&self, carpd: &Carpd, config: &Config, more: &[&str]) -> Result<Output> {
        let file = carpd.files().carp.with_file_name("new.toml");
        fs::write(&file, config.carp_toml())?;
        let file = file.to_string_lossy().into_owned();
        carpd.carpctl(&[&["apply", file.as_str()], more].concat())
    }

    /// Both show one hash, and nothing is amiss.
    fn agreed(&self) -> Result<()> {
        clock::wait_for("both to show the same", Span::secs(10), || {
            let (one, two) = (standing(&self.duo.gw1).ok()?, standing(&self.duo.gw2).ok()?);
            let same = one["hash"] == two["hash"] && one["hash"] == one["peer"]["hash"];
            (same && one["amiss"].is_null() && two["amiss"].is_null()).then_some(())
        })
        .with_context(|| format!("{:?}\n{:?}", standing(&self.duo.gw1), standing(&self.duo.gw2)))
    }

    fn nothing_moved(&self) -> Result<()> {
        let to = clock::now();
        clock::sleep(Span::millis(200));
        let report = self.echo.report(self.from, to);
        ensure!(report.sent > 50 && report.lost == 0, "{report:?}");
        self.duo.watch.catch_up()?;
        let moved: Vec<_> = self
            .duo
            .watch
            .changes(self.from, Instant::MAX)
            .into_iter()
            .filter(|it| it.node == 1 && it.serves)
            .collect();
        ensure!(moved.is_empty(), "{moved:?}");
        self.duo.never_two_masters()
    }
}

fn third(config: &Config, interface: &'static str, vhid: u8, address: &'static str) -> Config {
    let mut config = config.clone();
    config.hosts.push(VirtualHost { interface, vhid, addresses: vec![address], base: 1, skew: 0 });
    config
}

fn standing(carpd: &Carpd) -> Result<Value> {
    Ok(carpd.status()?["config"].clone())
}

fn fingerprint(carpd: &Carpd) -> Result<String> {
    let said = carpd.carpctl(&["peer", "fingerprint"])?;
    ensure!(said.status.success(), "{said:?}");
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

fn pin(carpd: &Carpd, fingerprint: &str) -> Result<()> {
    let said = carpd.carpctl(&["peer", "pin", fingerprint])?;
    ensure!(said.status.success(), "{said:?}");
    Ok(())
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn what_is_applied_on_one_node_is_used_by_both_or_by_neither() -> Result<()> {
    let scene = Scene::new()?;
    let (gw1, gw2) = (&scene.duo.gw1, &scene.duo.gw2);
    let more = third(&scene.config, "lan", 3, "10.77.1.7/24");
    let said = scene.apply(gw1, &more, &[])?;
    ensure!(said.status.success() && says(&said).contains("on the other node: 3@lan0 is new"), "{said:?}");
    for carpd in [gw1, gw2] {
        ensure!(fs::read_to_string(&carpd.files().carp)?.contains("10.77.1.7"), "it is in the file");
    }
    clock::wait_for("the third", PATIENCE, || {
        (gw1.has_role(2, "MASTER") && gw2.has_role(2, "BACKUP")).then_some(())
    })?;
    scene.agreed()?;

    let bad = third(&more, "dmz", 4, "10.77.2.9/24");
    let said = scene.apply(gw1, &bad, &[])?;
    ensure!(
        !said.status.success() && says(&said).contains("neither node uses it") && says(&said).contains("dmz"),
        "{said:?}"
    );
    for carpd in [gw1, gw2] {
        ensure!(!fs::read_to_string(&carpd.files().carp)?.contains("10.77.2.9"), "it is in no file");
        ensure!(carpd.status()?["hosts"].as_array().is_some_and(|hosts| hosts.len() == 3));
    }
    scene.agreed()?;

    let other = Config { answer_ping: true, ..more };
    let said = scene.apply(gw2, &other, &[])?;
    ensure!(!said.status.success() && says(&said).contains("--local"), "{said:?}");
    let said = scene.apply(gw2, &other, &["--local"])?;
    ensure!(said.status.success(), "{said:?}");
    clock::wait_for("gw1 to say that they differ", Span::secs(10), || {
        standing(gw1).ok()?["amiss"][0].as_str().is_some_and(|amiss| amiss.contains("differ")).then_some(())
    })?;
    let said = gw1.carpctl(&["config", "diff", "peer"])?;
    ensure!(
        says(&said).contains("-answer_ping = true") && says(&said).contains("+answer_ping = false"),
        "{said:?}"
    );
    let said = gw1.carpctl(&["config", "push"])?;
    ensure!(said.status.success() && says(&said).contains("answer_ping"), "{said:?}");
    scene.agreed()?;
    scene.nothing_moved()
}

#[test]
fn a_peer_that_is_away_gets_the_newest_when_it_is_back() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.duo.gw2.kill()?;
    let more = third(&scene.config, "lan", 3, "10.77.1.7/24");
    let said = scene.apply(&scene.duo.gw1, &more, &[])?;
    ensure!(said.status.success() && says(&said).contains("gets it when it can"), "{said:?}");
    let newest = third(&more, "lan", 4, "10.77.1.8/24");
    let said = scene.apply(&scene.duo.gw1, &newest, &[])?;
    ensure!(said.status.success(), "{said:?}");
    scene.duo.gw2.run()?;
    clock::wait_for("gw2 to have the newest", Span::secs(20), || {
        scene.duo.gw2.has_role(3, "BACKUP").then_some(())
    })?;
    scene.agreed()?;
    scene.duo.never_two_masters()
}
