//! Routes that follow the virtual hosts.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::machine::{State, difference_since};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{Purpose, clock};
use std::process::Command;

/// A default route by the WAN's VIP, of each family, and one by a next hop that is in no network of the node.
const ROUTES: &str = r#"
[[route]]
to = "default"
via = "10.77.2.254"
interface = "wan"
source = "10.77.2.1"

[[route]]
to = "default"
via = "fd77:2::254"
interface = "wan"
source = "fd77:2::1"

[[route]]
to = "198.51.100.0/24"
via = "203.0.113.1"
interface = "lan"
metric = 7
"#;
const OURS: [&str; 3] = [
    "default via 10.77.2.254 dev wan0 proto 112 src 10.77.2.1 onlink",
    "default via fd77:2::254 dev wan0 proto 112 src fd77:2::1 metric 1024 onlink",
    "198.51.100.0/24 via 203.0.113.1 dev lan0 proto 112 metric 7 onlink",
];
/// Somebody else's: beside ours with another metric, by the same link, and with our number on a link that is not ours.
const FOREIGN: [&str; 4] = [
    "default via 10.77.2.9 dev wan0 metric 500",
    "198.51.100.0/24 via 10.77.1.9 dev lan0",
    "198.18.0.0/15 via 10.77.2.9 dev wan0 proto static",
    "192.0.2.0/24 via 10.77.9.9 dev sync0 proto 112",
];

/// All routes of both families, without blanks at the ends of lines and without what the kernel thinks of IPv6 ones.
fn routes(host: &Namespace) -> Result<Vec<String>> {
    let text = [host.ip("route show")?, host.ip("-6 route show")?].concat();
    let words = |line: &str| {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        line.replace(" pref medium", "")
    };
    Ok(text.lines().map(words).collect())
}

fn has(host: &Namespace, expected: &[&str]) -> Result<bool> {
    let there = routes(host)?;
    Ok(expected.iter().all(|route| there.iter().any(|line| line == route)))
}

fn has_any(host: &Namespace, unexpected: &[&str]) -> Result<bool> {
    let there = routes(host)?;
    Ok(unexpected.iter().any(|route| there.iter().any(|line| line == route)))
}

fn wait(host: &Namespace, expected: &[&str]) -> Result<()> {
    let all = || has(host, expected).ok()?.then_some(());
    clock::wait_for("routes", PATIENCE, all).with_context(|| format!("{:?}", routes(host)))
}

fn wait_gone(host: &Namespace, unexpected: &[&str]) -> Result<()> {
    let none = || (!has_any(host, unexpected).ok()?).then_some(());
    clock::wait_for("routes to go", PATIENCE, none).with_context(|| format!("{:?}", routes(host)))
}

fn add_foreign(host: &Namespace) -> Result<()> {
    FOREIGN.iter().try_for_each(|route| host.ip(&format!("route add {route}")).map(drop))
}

fn alone() -> Result<(Pair, Carpd)> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_rules(ROUTES))?;
    wait(pair.gw1(), &OURS)?;
    Ok((pair, carpd))
}

#[test]
fn routes_are_where_the_virtual_hosts_are_served_and_nowhere_else() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    pair.gateways.iter().try_for_each(add_foreign)?;
    let before = pair.gateways.each_ref().map(routes);
    let mut duo = Duo::elected_in(pair, &Config::gateway().with_rules(ROUTES))?;
    let [gw1, gw2] = duo.pair.gateways.clone();
    wait(&gw1, &OURS)?;
    assert!(!has_any(&gw2, &OURS)?, "{:?}", routes(&gw2)?);
    assert!(gw1.ip("route get 192.0.2.99 from 10.77.2.1")?.contains("via"), "it can be used");
    let used = gw1.ip("route get 1.1.1.1")?;
    assert!(used.contains("via 10.77.2.254") && used.contains("src 10.77.2.1"), "{used}");
    duo.gw1.stop()?;
    assert!(!has_any(&gw1, &OURS)?, "{:?}", routes(&gw1)?);
    duo.wait_moved()?;
    wait(&gw2, &OURS)?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    wait(&gw1, &OURS)?;
    wait_gone(&gw2, &OURS)?;
    duo.gw1.stop()?;
    duo.gw2.stop()?;
    for (gateway, before) in duo.pair.gateways.iter().zip(before) {
        assert_eq!(routes(gateway)?, before?);
        assert!(has(gateway, &FOREIGN)?);
    }
    Ok(())
}

#[test]
fn a_route_that_somebody_else_removes_is_back_at_once_and_named() -> Result<()> {
    let (pair, mut carpd) = alone()?;
    // The applier looks by itself every five seconds only.
    let soon = Span::secs(1);
    for (words, lost) in [
        ("route del default via 10.77.2.254", OURS[0]),
        ("-6 route del default via fd77:2::254 dev wan0", OURS[1]),
        ("route flush 198.51.100.0/24", OURS[2]),
        // With an address the kernel takes away, in silence, what has it as its source.
        ("address del 10.77.2.1/32 dev wan0", OURS[0]),
    ] {
        pair.gw1().ip(words)?;
        let back = || has(pair.gw1(), &[lost]).ok()?.then_some(());
        clock::wait_for(lost, soon, back)?;
    }
    let log = carpd.process()?.log();
    for named in ["0.0.0.0/0 via 10.77.2.254", "::/0 via fd77:2::254", "198.51.100.0/24 via 203.0.113.1"] {
        let is_told = |line: &str| line.contains("took a route of ours away") && line.contains(named);
        assert!(log.lines().any(is_told), "{named} is not named in: {log}");
    }
    assert!(has(pair.gw1(), &OURS)?);
    Ok(())
}

#[test]
fn a_reload_changes_routes_and_nothing_else_and_another_ones_route_stays() -> Result<()> {
    let (pair, mut carpd) = alone()?;
    let gw1 = pair.gw1();
    let since = carpd.status()?["hosts"][0]["since_ms"].as_u64();
    gw1.ip("route add 100.64.0.0/10 via 10.77.2.9 dev wan0")?;
    let changed = r#"
[[route]]
to = "default"
via = "10.77.2.253"
interface = "wan"

[[route]]
to = "default"
via = "fd77:2::254"
interface = "wan"
source = "fd77:2::1"
metric = 50

[[route]]
to = "100.64.0.0/10"
via = "10.77.2.254"
interface = "wan"
"#;
    carpd.reload_live(&Config::gateway().with_rules(changed))?;
    let log = carpd.process()?.log();
    assert!(log.lines().any(|line| line.contains("reloaded: routes")), "{log}");
    let new = [
        "default via 10.77.2.253 dev wan0 proto 112 onlink",
        "default via fd77:2::254 dev wan0 proto 112 src fd77:2::1 metric 50 onlink",
    ];
    wait(gw1, &new)?;
    wait_gone(gw1, &OURS)?;
    assert!(has(gw1, &["100.64.0.0/10 via 10.77.2.9 dev wan0"])?);
    let told = "another one there has the same metric";
    let process = carpd.process()?;
    clock::wait_for(told, PATIENCE, || process.log().contains(told).then_some(()))?;
    gw1.ip("route del 100.64.0.0/10")?;
    wait(gw1, &["100.64.0.0/10 via 10.77.2.254 dev wan0 proto 112 onlink"])?;
    assert!(carpd.has_role(0, "MASTER"));
    assert!(carpd.status()?["hosts"][0]["since_ms"].as_u64() > since, "it has kept its role");
    carpd.reload_live(&Config::gateway())?;
    wait_gone(gw1, &new)
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_the_next_start_and_by_cleanup() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let gw1 = pair.gw1();
    add_foreign(gw1)?;
    let config = Config::gateway().with_rules(ROUTES);
    let mut carpd = Carpd::configure(&pair.lab, gw1, &config)?;
    let before = State::of(gw1, carpd.instance())?;
    carpd.run()?;
    wait(gw1, &OURS)?;
    carpd.kill()?;
    assert!(has(gw1, &OURS)?, "the kernel still has them");
    let folder = carpd.files().carp.parent().context("a folder")?.to_owned();
    Config::gateway().write(&folder, carpd.instance())?;
    carpd.run()?;
    wait_gone(gw1, &OURS)?;
    carpd.stop()?;
    config.write(&folder, carpd.instance())?;
    carpd.run()?;
    wait(gw1, &OURS)?;
    carpd.kill()?;
    let cleanup = |words: &[&str]| -> Result<String> {
        let output = gw1.output(Command::new(product("carpctl")?).arg("cleanup").args(words))?;
        Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
    };
    let listed = cleanup(&[carpd.instance(), "--dry-run"])?;
    for route in ["route 0.0.0.0/0 via 10.77.2.254 on wan0", "198.51.100.0/24 via 203.0.113.1 on lan0"] {
        assert!(listed.contains(route), "{route}: {listed}");
    }
    assert!(!listed.contains("10.77.9.9"), "{listed}");
    assert!(has(gw1, &OURS)?, "only looked");
    cleanup(&[carpd.instance()])?;
    assert!(has(gw1, &FOREIGN)?);
    let difference = difference_since(&before, gw1, carpd.instance())?;
    assert!(difference.is_empty(), "left behind:\n{difference}");
    Ok(())
}
