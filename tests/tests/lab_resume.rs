//! A daemon that is killed and started again while its lease runs: the datapath has gone on serving,
//! and the new daemon goes on with it.

use anyhow::Result;
use carp_common::time::{Instant, Span};
use carp_tests::lab::age_build;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use carp_tests::lab::stream::Stream;
use std::net::{IpAddr, Ipv4Addr};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
/// Probes that are still on their way are no lost ones.
const UNDER_WAY: Span = Span::millis(100);
/// What is left of a lease of 2.95 s at the end of an interval of 1 s, and then some.
const IN_TIME: Span = Span::millis(1_800);

#[test]
fn a_daemon_that_is_killed_and_started_within_its_lease_loses_no_packet() -> Result<()> {
    killed_and_started(|_| Ok(()))
}

#[test]
fn so_does_one_of_another_build_whose_programs_take_the_place_of_the_old_ones() -> Result<()> {
    killed_and_started(|gateway| age_build(gateway.instance()))
}

fn killed_and_started(before_start: impl Fn(&Carpd) -> Result<()>) -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, SERVER)?;
    let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
    let begun = clock::now();
    clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
    let mut resumed = 0;
    for _ in 0..5 {
        let killed = duo.gw1.kill()?;
        before_start(&duo.gw1)?;
        duo.gw1.run()?;
        // On a loaded machine the kernel may take longer than the lease to verify the programs.
        if clock::now().since(killed) > IN_TIME {
            duo.wait_as_configured()?;
            continue;
        }
        duo.gw1.wait_role("MASTER", PATIENCE)?;
        // Longer than the old lease and the backup's patience: what serves now is the new daemon's.
        clock::sleep_until(killed + Span::secs(4));
        duo.watch.catch_up()?;
        let changes = duo.watch.changes(killed, Instant::MAX);
        assert!(changes.is_empty(), "nothing begins or ceases to serve: {changes:?}");
        let report = echo.report(killed - UNDER_WAY, clock::now() - UNDER_WAY);
        assert_eq!(report.lost, 0, "{report:?}");
        assert!(duo.gw2.is_all("BACKUP"));
        resumed += 1;
        if resumed == 2 {
            break;
        }
    }
    assert!(resumed > 0, "it never started within its lease");
    let blocks = stream.blocks() + 20;
    clock::wait_for("the connection to go on", PATIENCE, || (stream.blocks() >= blocks).then_some(()))?;
    stream.finish()?;
    duo.never_two_masters()
}
