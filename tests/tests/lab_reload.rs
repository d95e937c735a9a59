//! A configuration that is changed while a pair serves: nothing that it does not name is touched, no packet is lost,
//! and two nodes that learn of new addresses five seconds apart never both serve.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::ping::ping;
use carp_tests::lab::scene::Scene;
use carp_tests::lab::side_by_side;
use std::net::Ipv4Addr;
use std::process::Command;

const KEY: &str = "c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42";
const NEXT_KEY: &str = "decade42decade42decade42decade42decade42decade42decade42decade42";

/// Longer than a backup waits for adverts that it accepts.
const DEAD: Span = Span::secs(5);

fn third(addresses: Vec<&'static str>) -> VirtualHost {
    VirtualHost { interface: "lan", vhid: 3, addresses, base: 1, skew: 0 }
}

#[test]
fn every_kind_of_change_leaves_alone_what_it_does_not_name() -> Result<()> {
    let config = Config::gateway().with_sync();
    let mut scene = Scene::new(&config)?;
    let mut with_third = config.clone();
    with_third.hosts.push(third(vec!["10.77.1.7/24", "fd77:1::7/64"]));
    let mut more_vips = with_third.clone();
    more_vips.hosts[2].addresses.push("10.77.1.8");
    let mut skewed = more_vips.clone();
    (skewed.hosts[2].base, skewed.hosts[2].skew) = (2, 20);
    let steps = [
        ("a virtual host comes", with_third, "3@lan0 is new"),
        ("one of them gets another address", more_vips.clone(), "3@lan0: addresses"),
        ("other timers", skewed.clone(), "3@lan0: base, skew"),
        ("pings are answered", Config { answer_ping: true, ..skewed.clone() }, "answer_ping"),
        (
            "the next password is accepted",
            skewed.clone().with_passwords("lab secret", Some("next")),
            "next_password_file",
        ),
        ("it is sent", skewed.clone().with_passwords("next", Some("lab secret")), "password_file"),
        ("the old one goes", skewed.with_passwords("next", None), "next_password_file"),
        (
            "keys of the sync link",
            config.clone().with_passwords("next", None).with_sync_keys(&[KEY, NEXT_KEY]),
            "3@lan0 leaves",
        ),
    ];
    for (number, (what, config, says)) in steps.into_iter().enumerate() {
        scene.reload(&config, number % 2 == 0, Span::millis(700)).context(what)?;
        let log = scene.duo.gw1.process()?.log();
        let line = log.lines().rfind(|line| line.contains("reloaded")).unwrap_or_default().to_owned();
        assert!(line.contains(says), "{what}: {line}");
        scene.untouched().context(what)?;
        if number == 0 {
            clock::wait_for("the third to be served", PATIENCE, || {
                (scene.duo.gw1.has_role(2, "MASTER") && scene.duo.gw2.has_role(2, "BACKUP")).then_some(())
            })?;
            scene.untouched().context("it is elected")?;
        }
    }
    scene.duo.gw1.stop()?;
    scene.duo.gw2.stop()?;
    Ok(())
}

#[test]
fn new_addresses_reach_the_nodes_five_seconds_apart_and_are_served_without_two_masters() -> Result<()> {
    side_by_side(vec![(true, "carp"), (false, "strict")], |(gw2_first, auth)| {
        let config = Config::gateway().with_auth(auth);
        let mut scene = Scene::new(&config)?;
        let mut more = config.clone();
        more.hosts[0].addresses.push("10.77.1.8");
        scene.reload(&more, gw2_first, Span::secs(5))?;
        let ahead = "adverts are signed for them";
        for gw in [&mut scene.duo.gw1, &mut scene.duo.gw2] {
            clock::wait_for(ahead, Span::secs(60), || {
                gw.process().ok()?.log().contains(ahead).then_some(())
            })?;
        }
        clock::sleep(DEAD);
        scene.untouched()?;
        let client = &scene.duo.pair.client;
        client.ip("neighbour flush all")?;
        clock::wait_for("the new address to answer", PATIENCE, || {
            ping(client, Ipv4Addr::new(10, 77, 1, 8).into(), Span::secs(1)).ok().flatten()
        })?;
        let mac = client.ip("neighbour show 10.77.1.8")?;
        assert!(mac.contains("00:00:5e:00:01:01"), "{mac}");
        // And back: it is nobody's afterwards.
        scene.reload(&config, gw2_first, Span::secs(5))?;
        clock::sleep(DEAD);
        scene.untouched()?;
        for gw in [&scene.duo.gw1, &scene.duo.gw2] {
            let addresses = gw.namespace().ip("address show")?;
            assert!(!addresses.contains("10.77.1.8"), "{addresses}");
        }
        Ok(())
    })
}

#[test]
fn what_is_wrong_with_a_new_configuration_is_told_and_the_old_one_stays() -> Result<()> {
    let config = Config::gateway();
    let mut scene = Scene::new(&config)?;
    let gw1 = &scene.duo.gw1;
    let text = std::fs::read_to_string(&gw1.files().carp)?;
    for (from, to, says) in [
        ("vhid = 1", "vhid = 2000", "2000"),
        ("\"wan\"", "\"wna\"", "wna"),
        ("10.77.1.1/24", "10.77.1.999/24", "10.77.1.999"),
    ] {
        std::fs::write(&gw1.files().carp, text.replacen(from, to, 1))?;
        let output = gw1.carpctl(&["reload"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{said}");
    }
    // It says what it would do, and does it.
    std::fs::write(&gw1.files().carp, text.replacen("skew = 0", "skew = 3", 1))?;
    for (arguments, skew) in [(vec!["reload", "--dry-run"], 0), (vec!["reload"], 3)] {
        let output = gw1.carpctl(&arguments)?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1@lan0: skew\n");
        assert_eq!(gw1.status()?["hosts"][0]["skew"], skew);
    }
    let output = gw1.carpctl(&["reload"])?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing changes\n");
    scene.untouched()
}

const FORWARD: &str = r#"
[[nat.outbound]]
source = ["10.77.1.0/24"]
interface = "wan"
to = "10.77.2.1"

[[nat.forward]]
to = "10.77.2.1"
port = 8080
host = "10.77.1.10"
"#;

/// What carpctl prints of a run that ends well.
fn carpctl(gw: &Carpd, words: &[&str]) -> Result<String> {
    let output = gw.carpctl(words)?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn what_is_applied_counts_from_then_on_and_what_is_not_confirmed_is_taken_back() -> Result<()> {
    let mut scene = Scene::new(&Config::gateway())?;
    let gw1 = &scene.duo.gw1;
    let skew = || gw1.status().unwrap_or_default()["hosts"][0]["skew"].as_u64();
    let file = &gw1.files().carp;
    let old = std::fs::read_to_string(file)?;
    let new = old.replacen("skew = 0", "skew = 7", 1);
    let candidate = file.with_file_name("candidate.toml");
    std::fs::write(&candidate, &new)?;
    let candidate = candidate.to_str().context("a name")?;
    let node = gw1.files().node.to_str().context("a name")?;
    let checked = gw1.carpctl(&["check", candidate, "--node", node])?;
    let checked = String::from_utf8(checked.stdout)?;
    assert!(checked.ends_with("ok, 2 virtual hosts\n1@lan0: skew\n"), "{checked}");
    carpctl(gw1, &["apply", candidate, "--confirm", "3s"])?;
    assert_eq!((skew(), std::fs::read_to_string(file)?), (Some(7), old.clone()), "not in its file yet");
    assert!(carpctl(gw1, &["status"])?.contains("is taken back in"));
    let second = gw1.carpctl(&["apply", candidate])?;
    assert!(String::from_utf8_lossy(&second.stderr).contains("waits to be confirmed"), "{second:?}");
    clock::wait_for("the old one to be back", PATIENCE, || (skew() == Some(0)).then_some(()))?;
    assert!(!gw1.carpctl(&["confirm"])?.status.success(), "there is nothing to confirm any more");
    carpctl(gw1, &["apply", candidate, "--confirm", "60s"])?;
    carpctl(gw1, &["confirm"])?;
    assert_eq!((skew(), std::fs::read_to_string(file)?), (Some(7), new.clone()));
    let log = || carpctl(gw1, &["config", "log"]);
    assert!(log()?.contains("  apply "), "{}", log()?);
    let diff = carpctl(gw1, &["config", "diff"])?;
    assert!(diff.contains("-skew = 0\n") && diff.contains("+skew = 7\n"), "{diff}");
    assert_eq!(carpctl(gw1, &["rollback", "--dry-run"])?, "1@lan0: skew\n");
    carpctl(gw1, &["rollback"])?;
    assert_eq!((skew(), std::fs::read_to_string(file)?), (Some(0), old.clone()));
    assert!(log()?.contains("  rollback to 1"), "{}", log()?);
    assert_eq!(log()?.lines().count(), 4, "{}", log()?);
    // What needs a new start is taken back, too, by another.
    std::fs::write(candidate, old.replace("auth = \"carp\"", "auth = \"migrate\""))?;
    scene.untouched()?;
    let gw1 = &scene.duo.gw1;
    carpctl(gw1, &["apply", candidate, "--confirm", "4s"])?;
    let auth = || gw1.status().unwrap_or_default()["hosts"][0]["auth"].clone();
    clock::wait_for("a new start", PATIENCE, || (auth() == "migrate").then_some(()))?;
    clock::wait_for("the old one to be back", PATIENCE, || (auth() == "carp").then_some(()))?;
    assert_eq!(std::fs::read_to_string(&gw1.files().carp)?, old);
    let folder = std::fs::read_dir(gw1.files().carp.parent().context("a folder")?)?;
    let left: Vec<_> =
        folder.flatten().filter(|entry| entry.path().extension() == Some("new".as_ref())).collect();
    assert!(left.is_empty(), "{left:?}");
    scene.duo.wait_as_configured()?;
    scene.duo.never_two_masters()
}

#[test]
fn rules_of_nftables_change_with_the_rest_or_not_at_all() -> Result<()> {
    let mut config = Config::gateway();
    config.hosts.iter_mut().for_each(|host| host.addresses.truncate(1));
    let mut scene = Scene::new(&config)?;
    scene.reload(&config.clone().with_rules(FORWARD), false, Span::millis(300))?;
    scene.untouched()?;
    let gw1 = &scene.duo.gw1;
    let rules = || gw1.namespace().output(Command::new("nft").args(["list", "table", "inet", "carp"]));
    let before = String::from_utf8(rules()?.stdout)?;
    assert!(before.contains("dnat ip to 10.77.1.10"), "{before}");
    // Both at once: the rules, which can be loaded, and a VIP that cannot be had, as its family is switched off.
    let text = std::fs::read_to_string(&gw1.files().carp)?;
    gw1.namespace().sysctl("ipv6/conf/wan0/disable_ipv6", "1")?;
    let wrong = text.replace("8080", "8081").replace("10.77.2.1/24", "10.77.2.1/24\", \"fd77:2::9/64");
    std::fs::write(&gw1.files().carp, wrong)?;
    let output = gw1.carpctl(&["reload"])?;
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let back = || String::from_utf8(rules().ok()?.stdout).ok().filter(|now| now.contains("8080"));
    clock::wait_for("the rules of before", PATIENCE, back)?;
    scene.untouched()?;
    scene.duo.gw1.stop()?;
    let output = scene.duo.pair.gw1().output(Command::new("nft").args(["list", "tables"]))?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    Ok(())
}
