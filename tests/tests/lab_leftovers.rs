//! A daemon that ends in order leaves its machine as it found it.

use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::kernel::has_tcx;
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::ping;
use carp_tests::lab::{Purpose, clock};
use std::fs;
use std::process::Command;

#[test]
fn after_sigterm_nothing_is_left_of_a_master() -> Result<()> {
    leaves_nothing(&Config::gateway(), |carpd| carpd.wait_role("MASTER", PATIENCE))
}

#[test]
fn after_sigterm_nothing_is_left_of_a_daemon_that_was_never_elected() -> Result<()> {
    leaves_nothing(&Config::gateway().with_skew(200), |_| Ok(()))
}

#[test]
fn after_sigterm_nothing_is_left_with_generic_xdp() -> Result<()> {
    leaves_nothing(&Config::gateway().with_xdp("generic"), |carpd| carpd.wait_role("MASTER", PATIENCE))
}

#[test]
fn after_sigterm_nothing_is_left_at_tc() -> Result<()> {
    leaves_nothing(&Config::gateway().with_xdp("tcx"), |carpd| carpd.wait_role("MASTER", PATIENCE))
}

#[test]
fn after_sigterm_nothing_is_left_without_xdp() -> Result<()> {
    leaves_nothing(&Config::gateway().with_xdp("off"), |carpd| carpd.wait_role("MASTER", PATIENCE))
}

#[test]
fn what_a_killed_daemon_left_is_taken_over_and_removed_by_the_next() -> Result<()> {
    leaves_nothing(&Config::gateway(), |carpd| {
        carpd.wait_role("MASTER", PATIENCE)?;
        carpd.kill()?;
        carpd.run()?;
        carpd.wait_role("MASTER", PATIENCE)
    })
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_one_with_fewer_virtual_hosts() -> Result<()> {
    let mut fewer = Config::gateway();
    fewer.hosts.truncate(1);
    leaves_nothing_after_a_kill(&fewer)
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_one_without_xdp() -> Result<()> {
    leaves_nothing_after_a_kill(&Config::gateway().with_xdp("off"))
}

/// Killed as a master, and started again with another configuration.
fn leaves_nothing_after_a_kill(next: &Config) -> Result<()> {
    leaves_nothing(&Config::gateway(), |carpd| {
        carpd.wait_role("MASTER", PATIENCE)?;
        carpd.kill()?;
        fs::write(&carpd.files().carp, next.carp_toml())?;
        fs::write(&carpd.files().node, next.node_toml(carpd.instance()))?;
        carpd.run()?;
        carpd.wait_role("MASTER", PATIENCE)
    })
}

fn leaves_nothing(config: &Config, life: impl FnOnce(&mut Carpd) -> Result<()>) -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::configure(&pair.lab, pair.gw1(), config)?;
    let instance = carpd.instance().to_owned();
    let before = State::of(pair.gw1(), &instance)?;
    carpd.run()?;
    life(&mut carpd)?;
    assert_ne!(before, State::of(pair.gw1(), &instance)?, "it left no trace even while it ran");
    carpd.stop()?;
    let difference = difference_since(&before, pair.gw1(), &instance)?;
    assert!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}

#[test]
fn what_a_killed_daemon_left_is_listed_and_removed_by_cleanup_but_not_while_it_runs() -> Result<()> {
    for xdp in ["auto", "off"] {
        let pair = Pair::new(Purpose::Test)?;
        let config = Config::gateway().with_xdp(xdp).with_auth("migrate");
        let mut carpd = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
        let instance = carpd.instance().to_owned();
        let before = State::of(pair.gw1(), &instance)?;
        carpd.run()?;
        carpd.wait_role("MASTER", PATIENCE)?;
        carpd.wait_serving(PATIENCE)?;
        clock::wait_for("the VIPs", PATIENCE, || {
            pair.gw1().ip("address show dev lan0").ok()?.contains("10.77.1.1/32").then_some(())
        })?;
        let running = State::of(pair.gw1(), &instance)?;
        let pid = carpd.process()?.id();
        // Stopped is not dead.
        carpd.freeze()?;
        let (code, text) = cleanup(pair.gw1(), &["--instance", &instance, "cleanup"])?;
        assert!(code == Some(1) && text.contains(&format!("as process {pid}")), "{text}");
        assert!(running.difference(&State::of(pair.gw1(), &instance)?).is_empty());
        carpd.kill()?;
        let killed = State::of(pair.gw1(), &instance)?;
        let (code, text) = cleanup(pair.gw2(), &["cleanup", &instance])?;
        assert!(code == Some(1) && text.contains(&format!("/run/netns/{}", pair.gw1().name())), "{text}");
        let (code, text) = cleanup(pair.gw1(), &["cleanup", &instance, "--dry-run"])?;
        println!("{text}");
        assert_eq!(code, Some(0), "{text}");
        let coming = if has_tcx() { "/ingress-lan0" } else { "/clsact_in-lan0" };
        let leaving = if has_tcx() { "/egress-wan0" } else { "/clsact-wan0" };
        let of_datapath = ["00:00:5e:00:01:02 on wan0", "/WINDOWS", coming, leaving];
        let always = ["10.77.1.1 on lan0", "fd77:2::1 on wan0", "/marks", "/lock", "/control.sock"];
        assert!(always.iter().all(|seen| text.contains(seen)), "{text}");
        assert!(of_datapath.iter().all(|seen| text.contains(seen) == (xdp != "off")), "{text}");
        assert!(killed.difference(&State::of(pair.gw1(), &instance)?).is_empty(), "only looked");
        let (code, text) = cleanup(pair.gw1(), &["cleanup"])?;
        assert_eq!(code, Some(0), "the only one that left something: {text}");
        let difference = difference_since(&before, pair.gw1(), &instance)?;
        assert!(difference.is_empty(), "left behind:\n{difference}");
        let (code, text) = cleanup(pair.gw1(), &["cleanup", &instance])?;
        assert!(code == Some(0) && text.contains("nothing"), "{text}");
        let epoch = fs::read_to_string(format!("/var/lib/carp/{instance}/epoch"))?;
        assert_eq!(epoch, "1\n", "the number of its starts stays");
    }
    Ok(())
}

#[test]
fn item_96_a_killed_master_answers_for_no_vip_after_its_lease_nor_after_cleanup() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    carpd.wait_role("MASTER", PATIENCE)?;
    carpd.wait_serving(PATIENCE)?;
    let answers = || -> Result<bool> {
        pair.client.ip("neigh flush all")?;
        Ok(ping(&pair.client, "10.77.1.1".parse()?, Span::millis(300))?.is_some())
    };
    clock::wait_for("the VIP to answer", PATIENCE, || answers().ok()?.then_some(()))?;
    carpd.kill()?;
    let mut windows = carpd.windows();
    clock::wait_for("the lease to end", PATIENCE, || windows.serves_none().then_some(()))?;
    assert!(pair.gw1().ip("address show dev lan0")?.contains("10.77.1.1/32"), "the kernel still has the VIP");
    assert!(!answers()?, "the fence");
    let (code, text) = cleanup(pair.gw1(), &["cleanup", carpd.instance()])?;
    assert_eq!(code, Some(0), "{text}");
    assert!(!pair.gw1().ip("address show dev lan0")?.contains("10.77.1.1"));
    assert!(!answers()?, "nobody has the VIP any more");
    Ok(())
}

/// Exit code and output of carpctl.
fn cleanup(host: &Namespace, words: &[&str]) -> Result<(Option<i32>, String)> {
    let output = host.output(Command::new(product("carpctl")?).args(words))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}
