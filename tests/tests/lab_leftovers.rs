//! A daemon that ends in order leaves its machine as it found it.

use anyhow::Result;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::pair::Pair;
use std::fs;

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
