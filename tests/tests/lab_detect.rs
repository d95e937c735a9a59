//! Gateways that ask each other whether they serve, with real daemons: what a client notices when a daemon is killed or
//! frozen or a master cut off, and that one which is only hard to hear stays master.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use std::net::{IpAddr, Ipv4Addr};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
/// Longer than a dead time.
const SILENCE: Span = Span::millis(4_500);
/// A take-over by detection takes less on any machine, and one by adverts three seconds.
const SOON: Span = Span::secs(1);

#[test]
fn a_killed_and_a_frozen_daemon_are_replaced_as_their_leases_end_and_never_do_two_serve() -> Result<()> {
    for freeze in [false, true] {
        let mut duo = asking()?;
        let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
        let from = if freeze { duo.gw1.freeze()? } else { duo.gw1.kill()? };
        duo.wait_moved()?;
        let after = duo.served_at(1, from)?.since(from);
        clock::sleep(Span::millis(300));
        let report = echo.report(from, clock::now() - Span::millis(100));
        let what = if freeze { "frozen" } else { "killed" };
        println!(
            "{what}: replaced after {after}, {} of {} probes lost, longest gap {}",
            report.lost, report.sent, report.longest_gap
        );
        ensure!(after < SOON && report.longest_gap < SOON, "{what}: after {after}, {report:?}");
        let why = String::from_utf8_lossy(&duo.gw2.carpctl(&["events"])?.stdout).into_owned();
        ensure!(why.contains("master's lease ended, its daemon does not run"), "{why}");
        if freeze {
            // It has slept, and knows: it listens, and is master again because it preempts.
            let thawed = duo.gw1.thaw()?;
            duo.wait_as_configured()?;
            ensure!(duo.served_at(0, thawed).is_ok(), "it served all the time");
        }
        duo.never_two_masters()?;
    }
    Ok(())
}

#[test]
fn a_master_that_is_cut_off_is_replaced_at_once_and_comes_back() -> Result<()> {
    let duo = asking()?;
    let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
    let from = clock::now();
    duo.pair.connect(0, false)?;
    duo.wait_moved()?;
    let after = duo.served_at(1, from)?.since(from);
    clock::sleep(Span::millis(300));
    let report = echo.report(from, clock::now() - Span::millis(100));
    println!("cut off: replaced after {after}, {} of {} probes lost", report.lost, report.sent);
    ensure!(after < SOON && report.longest_gap < SOON, "after {after}, {report:?}");
    let back = clock::now();
    duo.pair.connect(0, true)?;
    duo.wait_as_configured()?;
    ensure!(duo.watch.two_masters(back, clock::now()) == Span::ZERO, "two served when it came back");
    Ok(())
}

#[test]
fn a_master_whose_adverts_are_lost_on_all_interfaces_answers_and_stays() -> Result<()> {
    let duo = asking()?;
    for port in ["lan-gw2", "wan-gw2"] {
        duo.pair.hears_multicast(port, false)?;
    }
    clock::sleep(SILENCE.times(2));
    ensure!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "roles moved");
    duo.never_two_masters()?;
    // What does not answer is another matter: nothing but probes tells of it now.
    let from = clock::now();
    duo.pair.connect(0, false)?;
    duo.wait_moved()?;
    ensure!(duo.served_at(1, from)?.since(from) < SOON, "by adverts it is not noticed");
    Ok(())
}

#[test]
fn a_master_that_is_heard_over_the_sync_link_alone_stays_until_that_is_cut_or_its_links_are_down()
-> Result<()> {
    let duo = asking_aside()?;
    // Nobody is told that these cables are cut: no carrier is lost.
    for port in ["lan-gw1", "wan-gw1"] {
        duo.pair.carries(port, false)?;
    }
    clock::sleep(SILENCE.times(2));
    ensure!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "roles moved");
    duo.never_two_masters()?;
    let why = String::from_utf8_lossy(&duo.gw2.carpctl(&["status"])?.stdout).into_owned();
    ensure!(why.contains("10.77.9.2 on sync0 is asked every 5 ms: answers"), "{why}");
    for port in ["lan-gw1", "wan-gw1"] {
        duo.pair.carries(port, true)?;
    }
    wait_asking(&duo, 3)?;
    // Its own links are another matter: it knows, and says so by its silence.
    let from = clock::now();
    for port in ["lan-gw1", "wan-gw1"] {
        duo.pair.plug(port, false)?;
    }
    duo.wait_moved()?;
    let after = duo.served_at(1, from)?.since(from);
    println!("links down, sync up: replaced after {after}");
    ensure!(after < SOON, "after {after}");
    duo.never_two_masters()
}

#[test]
fn a_path_without_answers_is_a_degraded_one_and_detection_is_switched_on_and_off_while_it_runs() -> Result<()>
{
    let mut duo = asking_aside()?;
    duo.pair.plug("wan-gw2", false)?;
    clock::wait_for("one interface less", PATIENCE, || (asked(&duo).ok()?.len() <= 2).then_some(()))?;
    duo.pair.plug("wan-gw2", true)?;
    wait_asking(&duo, 3)?;
    let plain = Config::gateway().with_sync().as_one();
    duo.gw2.reload_live(&plain.clone().of_backup())?;
    duo.gw1.reload_live(&plain)?;
    clock::wait_for("nobody to be asked", PATIENCE, || asked(&duo).ok()?.is_empty().then_some(()))?;
    let detecting = Config::gateway().with_sync().detecting(2);
    duo.gw1.reload_live(&detecting)?;
    duo.gw2.reload_live(&detecting.clone().of_backup())?;
    wait_asking(&duo, 3)?;
    ensure!(duo.gw1.is_all("MASTER") && duo.gw2.is_all("BACKUP"), "roles moved");
    let from = duo.gw1.kill()?;
    duo.wait_moved()?;
    ensure!(duo.served_at(1, from)?.since(from) < SOON, "it is not detected");
    duo.never_two_masters()
}

/// Elected, and gw2 asks gw1 over both interfaces and is answered.
fn asking() -> Result<Duo> {
    let duo = Duo::elected(&Config::gateway().detecting(5))?;
    wait_asking(&duo, 2)?;
    Ok(duo)
}

/// The same also over the sync link.
fn asking_aside() -> Result<Duo> {
    let duo = Duo::elected(&Config::gateway().with_sync().detecting(5))?;
    wait_asking(&duo, 3)?;
    Ok(duo)
}

fn wait_asking(duo: &Duo, paths: usize) -> Result<()> {
    clock::wait_for("gw2 to be answered over all interfaces", PATIENCE, || {
        (asked(duo).ok()? == vec![false; paths]).then_some(())
    })?;
    // It has counted its first questions by then.
    clock::sleep(Span::millis(100));
    Ok(())
}

/// Which paths gw2 asks over, and whether each is silent.
fn asked(duo: &Duo) -> Result<Vec<bool>> {
    let status = duo.gw2.status()?;
    let Some(paths) = status.get("probed") else { return Ok(Vec::new()) };
    let silent = paths.as_array().context("a list")?.iter().map(|path| path["silent"].as_bool());
    silent.map(|silent| silent.context("true or false")).collect()
}
