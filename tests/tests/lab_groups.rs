//! A LAN and a WAN side that move as one, with real daemons.

use anyhow::{Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};

/// Longer than a dead time.
const SILENCE: Span = Span::millis(4_500);

#[test]
fn a_switch_that_loses_multicast_on_one_interface_degrades_a_path_and_moves_nothing() -> Result<()> {
    let duo = Duo::elected(&Config::gateway().as_one())?;
    duo.pair.hears_multicast("lan-gw2", false)?;
    clock::sleep(SILENCE);
    ensure!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "roles moved");
    let status = duo.gw2.carpctl(&["status"])?;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.status.code() == Some(10), "{:?}: {text}", status.status);
    ensure!(text.contains("lan0@1: its master is heard elsewhere in the group"), "{text}");
    ensure!(text.contains("group edge: lan0@1, wan0@2"), "{text}");
    let explained = duo.gw2.carpctl(&["explain", "edge"])?;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    ensure!(explained.contains("group: edge: its master is heard there, and not here"), "{explained}");
    duo.pair.hears_multicast("lan-gw2", true)?;
    clock::wait_for("gw2 to hear it again", PATIENCE, || {
        (duo.gw2.carpctl(&["status"]).ok()?.status.code() == Some(0)).then_some(())
    })?;
    // The group can be moved by its name.
    let moved = duo.gw1.carpctl(&["failover", "edge"])?;
    ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    duo.wait_moved()?;
    duo.never_two_masters()
}

#[test]
fn a_lost_lan_moves_the_wan_too_although_nobody_preempts_and_a_dead_node_is_replaced_on_both() -> Result<()> {
    let mut config = Config::gateway().as_one();
    config.preempt = false;
    let mut duo = Duo::elected(&config)?;
    duo.pair.plug("lan-gw1", false)?;
    duo.wait_moved()?;
    ensure!(duo.gw1.has_role(0, "INIT") && duo.gw1.has_role(1, "BACKUP"), "gw1 keeps a part");
    duo.pair.plug("lan-gw1", true)?;
    duo.gw1.wait_role("BACKUP", PATIENCE)?;
    clock::sleep(SILENCE);
    ensure!(duo.gw2.is_all("MASTER"), "it came back although nobody preempts");
    duo.gw2.kill()?;
    duo.gw1.wait_role("MASTER", PATIENCE)?;
    duo.gw1.wait_serving(PATIENCE)?;
    duo.never_two_masters()
}
