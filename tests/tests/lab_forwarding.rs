//! Forwarding that carpd switches on when it is asked to: through it traffic goes, and afterwards the kernel is set as it
//! was.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::ping;
use carp_tests::lab::{Purpose, clock};
use std::process::Command;

const FORWARDS: &str = "[kernel]\nforwarding = true\n";
const V4: &str = "ipv4/ip_forward";
const V6: &str = "ipv6/conf/all/forwarding";

/// A gateway that does not forward, and on which the settings that the kernel changes with that are unusual.
struct Scene {
    carpd: Carpd,
    before: State,
    pair: Pair,
}

impl Scene {
    fn new(config: &Config) -> Result<Self> {
        let pair = Pair::new(Purpose::Test)?;
        for (setting, value) in [
            (V4, "0"),
            (V6, "0"),
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv4/conf/sync0/forwarding", "1"),
            ("ipv6/conf/sync0/forwarding", "1"),
        ] {
            pair.gw1().sysctl(setting, value)?;
        }
        let carpd = Carpd::configure(&pair.lab, pair.gw1(), config)?;
        let before = State::of(pair.gw1(), carpd.instance())?;
        Ok(Self { carpd, before, pair })
    }

    fn are(&self, [v4, v6]: [&str; 2]) -> Result<()> {
        for (setting, wanted) in [(V4, v4), (V6, v6)] {
            let now = value(self.pair.gw1(), setting)?;
            ensure!(now == wanted, "{setting} is {now}, not {wanted}");
        }
        Ok(())
    }

    /// All is as before carpd was started.
    fn nothing_is_left(&self) -> Result<()> {
        let difference = difference_since(&self.before, self.pair.gw1(), self.carpd.instance())?;
        ensure!(difference.is_empty(), "left behind:\n{difference}");
        self.are(["0", "0"])
    }

    fn carpctl(&self, words: &[&str]) -> Result<String> {
        let output = self.carpd.carpctl(words)?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn value(host: &Namespace, setting: &str) -> Result<String> {
    let output = host.output(Command::new("cat").arg(format!("/proc/sys/net/{setting}")))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn it_forwards_while_it_runs_and_leaves_the_settings_as_they_were() -> Result<()> {
    let mut scene = Scene::new(&Config::gateway().with_rules(FORWARDS))?;
    scene.carpd.run()?;
    scene.are(["1", "1"])?;
    scene.carpd.wait_role("MASTER", PATIENCE)?;
    scene.carpd.wait_serving(PATIENCE)?;
    for server in ["10.77.2.10", "fd77:2::10"] {
        let server = server.parse()?;
        clock::wait_for("the server to answer through the gateway", PATIENCE, || {
            ping(&scene.pair.client, server, Span::millis(500)).ok().flatten()
        })?;
    }
    scene.carpd.stop()?;
    scene.nothing_is_left()
}

#[test]
fn a_reload_switches_it_on_and_off_and_check_says_which() -> Result<()> {
    let (without, with) = (Config::gateway(), Config::gateway().with_rules(FORWARDS));
    let mut scene = Scene::new(&without)?;
    let file = scene.carpd.files().carp.to_string_lossy().into_owned();
    let check = |scene: &Scene| {
        let output = scene.carpd.carpctl(&["check", &file])?;
        let said = [output.stdout, output.stderr].concat();
        Ok::<_, anyhow::Error>((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (code, said) = check(&scene)?;
    ensure!(code == Some(4) && said.contains("warning: net.ipv4.ip_forward is 0"), "{said}");
    scene.carpd.run()?;
    scene.are(["0", "0"])?;
    scene.carpd.reload_live(&with)?;
    scene.are(["1", "1"])?;
    let log = scene.carpd.process()?.log();
    ensure!(log.contains("reloaded: forwarding"), "{log}");
    scene.carpd.reload_live(&without)?;
    scene.are(["0", "0"])?;
    for (setting, wanted) in
        [("all/accept_redirects", "0"), ("sync0/forwarding", "1"), ("lan0/forwarding", "0")]
    {
        let now = value(scene.pair.gw1(), &format!("ipv4/conf/{setting}"))?;
        ensure!(now == wanted, "{setting} is {now}, not {wanted}");
    }
    scene.carpd.stop()?;
    with.write(scene.carpd.files().carp.parent().context("a folder")?, scene.carpd.instance())?;
    let (code, said) = check(&scene)?;
    ensure!(code == Some(0) && said.contains("net.ipv4.ip_forward is 0: carpd sets it to 1"), "{said}");
    scene.nothing_is_left()
}

#[test]
fn after_a_kill_it_stays_on_until_cleanup_or_the_end_of_the_next() -> Result<()> {
    let mut scene = Scene::new(&Config::gateway().with_rules(FORWARDS))?;
    scene.carpd.run()?;
    scene.carpd.kill()?;
    scene.are(["1", "1"])?;
    let listed = scene.carpctl(&["cleanup", "--dry-run"])?;
    ensure!(listed.contains("net.ipv4.ip_forward, which was 0"), "{listed}");
    scene.are(["1", "1"])?;
    scene.carpctl(&["cleanup"])?;
    scene.nothing_is_left()?;
    scene.carpd.run()?;
    scene.carpd.kill()?;
    scene.carpd.run()?;
    scene.are(["1", "1"])?;
    scene.carpd.stop()?;
    scene.nothing_is_left()
}

#[test]
fn what_is_on_already_stays_on_and_a_family_without_vips_is_left_alone() -> Result<()> {
    let mut config = Config::gateway().with_rules(FORWARDS);
    config.hosts.iter_mut().for_each(|host| host.addresses.truncate(1));
    let mut scene = Scene::new(&config)?;
    scene.carpd.run()?;
    scene.are(["1", "0"])?;
    scene.carpd.stop()?;
    scene.nothing_is_left()?;
    scene.pair.gw1().sysctl(V4, "1")?;
    scene.carpd.run()?;
    scene.carpd.stop()?;
    scene.are(["1", "0"])
}
