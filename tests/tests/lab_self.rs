//! The lab itself: it carries packets, measures what it claims to, and leaves nothing behind.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::adverts::Listener;
use carp_tests::lab::echo::Echo;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::ping;
use carp_tests::lab::process::run;
use carp_tests::lab::stream::Stream;
use carp_tests::lab::ucarp::{Options, Ucarp};
use carp_tests::lab::{Purpose, clock};
use std::net::IpAddr;
use std::process::Command;

const SERVER_V4: &str = "10.77.2.10";
const SERVER_V6: &str = "fd77:2::10";

#[test]
fn a_client_reaches_the_server_through_whichever_gateway_holds_the_addresses() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    for net in [1, 2] {
        let link = ["", "lan0", "wan0"][net];
        pair.gw1().ip(&format!("address add 10.77.{net}.1/24 dev {link}"))?;
        pair.gw1().ip(&format!("address add fd77:{net}::1/64 dev {link} nodad"))?;
    }
    for target in [SERVER_V4, SERVER_V6].map(address) {
        ping(&pair.client, target, Span::secs(2))?.with_context(|| format!("no reply of {target}"))?;
        let stream = Stream::start(&pair.client, &pair.server, target)?;
        clock::wait_for("ten blocks of TCP", Span::secs(5), || (stream.blocks() >= 10).then_some(()))?;
        assert!(stream.finish()? >= 10);
    }
    Ok(())
}

#[test]
fn the_probes_show_an_outage_as_long_as_the_cable_was_out() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    for (net, link) in [(1, "lan0"), (2, "wan0")] {
        pair.gw1().ip(&format!("address add 10.77.{net}.1/24 dev {link}"))?;
    }
    let echo = Echo::start(&pair.client, &pair.server, address(SERVER_V4))?;
    let start = clock::now();
    clock::wait_for("a probe to come back", Span::secs(3), || echo.answered_since(start).then_some(()))?;
    let before = clock::now();
    clock::sleep(Span::millis(300));
    // Not the gateway's own port: then its kernel would forget the neighbours.
    let out = clock::now();
    pair.plug("lan-client", false)?;
    clock::sleep(Span::millis(200));
    pair.plug("lan-client", true)?;
    let back = clock::now();
    clock::wait_for("probes again", Span::secs(5), || echo.answered_since(back).then_some(()))?;
    clock::sleep(Span::millis(100));
    let quiet = echo.report(before, out);
    assert_eq!(quiet.lost, 0, "lost probes before the fault: {quiet:?}");
    let report = echo.report(before, clock::now() - Span::millis(50));
    assert!(report.longest_gap >= Span::millis(190), "{report:?}");
    assert!(report.lost > 0 && report.lost < report.sent, "{report:?}");
    Ok(())
}

#[test]
fn two_ucarps_elect_one_and_their_adverts_are_read_as_such() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let adverts = Listener::start(&pair.switch, &["lan-gw1", "lan-gw2"])?;
    let folder = pair.lab.folder();
    let first = Ucarp::start(folder, pair.gw1(), &Options::lan("10.77.1.2"))?;
    let second = Ucarp::start(folder, pair.gw2(), &Options { skew: 100, ..Options::lan("10.77.1.3") })?;
    first.wait_master(true, Span::secs(8))?;
    assert!(!second.is_master());
    ping(&pair.client, address("10.77.1.1"), Span::secs(2))?.context("the VIP is silent")?;
    let killed = first.kill()?;
    let last = adverts.last_before("lan-gw1", killed)?;
    let next = adverts.first_after("lan-gw2", killed, Span::secs(12))?;
    assert!(next.at.since(last.at) >= Span::millis(3_390), "{}", next.at.since(last.at));
    assert_eq!(next.pace().map(|pace| pace.skew), Some(100));
    second.wait_master(true, Span::secs(5))?;
    second.stop()?;
    Ok(())
}

#[test]
fn a_dropped_lab_is_gone_with_its_processes() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let (id, folder) = (pair.lab.id().to_owned(), pair.lab.folder().to_owned());
    assert!(run(Command::new("ip").args(["netns", "list"]))?.contains(&id));
    // Not one that the lab knows of: the guard has to find it.
    let mut stray = Command::new("sh");
    stray.args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]);
    let stray = pair.client.output(&mut stray)?.stdout;
    let stray = String::from_utf8(stray)?;
    drop(pair);
    assert!(!run(Command::new("ip").args(["netns", "list"]))?.contains(&id));
    assert!(!folder.exists());
    let process = std::path::Path::new("/proc").join(stray.trim());
    clock::wait_for("the stray process to end", Span::secs(2), || (!process.exists()).then_some(()))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
