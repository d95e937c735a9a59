//! What `carpctl` shows of a pair, and what it exits with: healthy, demoted, in maintenance, fenced, with
//! its daemon killed or stopped; to root and to members of group `carp`.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::pair::Pair;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user and a group of nobody's.
const NOBODY: u32 = 65_534;
/// A password that nothing else looks like.
const SECRET: &str = "Zq7 hush hush";
/// Exit code when the daemon does not answer.
const SILENT: i32 = 14;
/// What group `carp` is in one of the tests.
const GROUP: u32 = 64_977;

#[test]
fn a_healthy_pair_exits_with_0_and_shows_daemon_and_datapath() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    for (node, open) in [(&duo.gw1, true), (&duo.gw2, false)] {
        let (code, text) = carpctl(node, &["status", "--json"])?;
        let status: Value = serde_json::from_str(&text)?;
        assert_eq!(code, Some(0), "{text}");
        assert_eq!((&status["schema"], &status["source"]), (&1.into(), &"daemon".into()));
        assert!(status["age_ms"].as_u64() < Some(2_000), "{text}");
        assert_eq!(status["health"], "healthy");
        for host in 0..2 {
            assert_eq!(status["hosts"][host]["window"]["open"], open, "{text}");
        }
    }
    let (code, text) = carpctl(&duo.gw1, &["counters"])?;
    assert_eq!(code, Some(0));
    assert!(text.contains("arp-answered") && text.contains("lan0@1"), "{text}");
    Ok(())
}

#[test]
fn item_112_status_shows_state_tuples_demotions_peer_counters_and_ages() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    assert_eq!(carpctl(&duo.gw2, &["demote", "test", "--amount", "7", "--reason", "to see it"])?.0, Some(0));
    let (_, text) = carpctl(&duo.gw2, &["status", "--json"])?;
    let status: Value = serde_json::from_str(&text)?;
    let host = &status["hosts"][1];
    let words = |key: &str| host[key].as_str().unwrap_or_default().to_owned();
    assert_eq!([words("interface"), words("role")], ["wan0", "BACKUP"], "{text}");
    assert_eq!(
        ["vhid", "base", "skew", "effective_skew"].map(|key| host[key].as_u64()),
        [2, 1, 100, 107].map(Some)
    );
    assert_eq!(status["demotions"][0]["name"], "user test", "{text}");
    assert_eq!(status["demotions"][0]["reason"], "to see it", "{text}");
    let peer = &host["peer"];
    assert_eq!((&peer["base"], &peer["skew"]), (&1.into(), &0.into()), "{text}");
    assert!(peer["address"].is_string() && peer["age_ms"].as_u64() < Some(1_500), "{text}");
    assert!(host["accepted"].as_u64() > Some(0) && host["refused"]["badauth"] == 0, "{text}");
    assert!(
        host["since_ms"].is_u64() && host["reason"].is_string() && host["datapath"].is_object(),
        "{text}"
    );
    assert!(
        status["abi"].is_u64() && status["build"].as_str().is_some_and(|build| build.len() == 12),
        "{text}"
    );
    Ok(())
}

#[test]
fn item_113_the_key_is_in_no_status_log_or_process_list() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let config = Config { password: SECRET, ..Config::gateway() };
    let mut gw1 = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    gw1.log_everything();
    gw1.run()?;
    gw1.wait_role("MASTER", PATIENCE)?;
    let mut said = String::new();
    for words in [&["status"][..], &["status", "--json"], &["counters", "--json"], &["watch", "--help"]] {
        said += &carpctl(&gw1, words)?.1;
    }
    let process = gw1.process()?;
    said += &process.log();
    for file in ["cmdline", "environ", "comm"] {
        said += &String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{file}", process.id()))?);
    }
    assert!(said.contains("TRACE") || said.contains("DEBUG"), "it does log everything");
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", SECRET.as_bytes());
    for form in [SECRET, &hex, bytes.trim_matches(['[', ']'])] {
        assert!(!said.contains(form), "{form} is in: {said}");
    }
    Ok(())
}

#[test]
fn item_115_nodes_that_are_configured_alike_show_the_same_digests() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut other = Config::gateway();
    other.hosts[0].addresses.reverse();
    other.hosts[1].addresses.pop();
    let gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    let gw2 = Carpd::start(&pair.lab, pair.gw2(), &other)?;
    let digest = |node: &Carpd, slot: usize| -> Result<String> {
        Ok(node.status()?["hosts"][slot]["digest"].as_str().context("a digest")?.to_owned())
    };
    assert_eq!(digest(&gw1, 0)?, digest(&gw2, 0)?, "the order of the VIPs does not matter");
    assert_ne!(digest(&gw1, 1)?, digest(&gw2, 1)?, "a missing VIP does");
    assert!(carpctl(&gw1, &["status"])?.1.contains(&digest(&gw1, 1)?));
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_or_stopped_is_shown_from_the_maps_alone() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    duo.gw1.freeze()?;
    let asked = clock::now();
    let (code, text) = carpctl(&duo.gw1, &["status"])?;
    assert!(clock::now().since(asked) < Span::secs(3), "it waits a second, and not for ever");
    assert_eq!(code, Some(SILENT), "{text}");
    assert_eq!(text.matches("SERVING").count(), 2, "{text}");
    duo.gw1.kill()?;
    let (code, text) = carpctl(&duo.gw1, &["status"])?;
    assert_eq!(code, Some(SILENT), "{text}");
    assert!(text.contains("from the pinned maps alone"), "{text}");
    assert_eq!(text.matches("SERVING").count(), 2, "{text}");
    for seen in ["lan0@1", "wan0@2", "10.77.1.1", "fd77:2::1"] {
        assert!(text.contains(seen), "no {seen}: {text}");
    }
    duo.wait_moved()?;
    let (code, text) = carpctl(&duo.gw1, &["status"])?;
    assert_eq!(code, Some(SILENT), "{text}");
    assert_eq!(text.matches("FENCED").count(), 2, "{text}");
    let (code, text) = carpctl(&duo.gw1, &["counters", "--json"])?;
    let counters: Value = serde_json::from_str(&text)?;
    assert_eq!((code, &counters["source"]), (Some(SILENT), &"maps".into()));
    for (slot, interface) in ["lan0", "wan0"].into_iter().enumerate() {
        let host = &counters["hosts"][slot];
        assert_eq!(host["interface"], interface);
        assert!(host["datapath"]["egress-rewritten"].as_u64() > Some(0), "{text}");
        assert_eq!(counters["interfaces"][interface], host["datapath"], "its only virtual host");
    }
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    clock::wait_for("the pair to be healthy", PATIENCE, || {
        (carpctl(&duo.gw1, &["status"]).ok()?.0 == Some(0)).then_some(())
    })?;
    duo.gw2.kill()?;
    let (code, text) = carpctl(&duo.gw2, &["status"])?;
    assert_eq!(code, Some(SILENT), "{text}");
    assert_eq!(text.matches("NOT SERVING").count(), 2, "{text}");
    Ok(())
}

#[test]
fn an_armed_backup_shows_when_it_would_open_with_its_daemon_and_without() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let armed = clock::wait_for("gw2 to be armed", PATIENCE, || {
        let (_, text) = carpctl(&duo.gw2, &["status", "--json"]).ok()?;
        let status: Value = serde_json::from_str(&text).ok()?;
        let opens = |slot: usize| status["hosts"][slot]["window"]["opens_in_ms"].as_u64();
        Some([opens(0)?, opens(1)?])
    })?;
    assert!(armed.iter().all(|ms| (1..=3_400).contains(ms)), "{armed:?}");
    let (code, text) = carpctl(&duo.gw2, &["status"])?;
    assert!(code == Some(0) && text.matches("opens in ").count() == 2, "{text}");
    duo.gw2.freeze()?;
    let (code, text) = carpctl(&duo.gw2, &["status"])?;
    assert_eq!(code, Some(SILENT), "{text}");
    assert_eq!(text.matches("ARMED").count(), 2, "{text}");
    assert!(text.contains("takes over for a moment when its master is silent"), "{text}");
    Ok(())
}

#[test]
fn a_demoted_node_is_degraded_and_one_in_maintenance_says_that() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    assert_eq!(carpctl(&duo.gw2, &["demote", "test"])?.0, Some(0));
    let (code, text) = carpctl(&duo.gw2, &["status"])?;
    assert_eq!(code, Some(10), "{text}");
    assert!(text.contains("degraded: demoted by user test"), "{text}");
    assert_eq!(carpctl(&duo.gw2, &["demote", "maintenance", "--reason", "new memory"])?.0, Some(0));
    let (code, text) = carpctl(&duo.gw2, &["status"])?;
    assert_eq!(code, Some(13), "{text}");
    assert!(text.contains("maintenance: in maintenance: new memory"), "{text}");
    for name in ["test", "maintenance"] {
        assert_eq!(carpctl(&duo.gw2, &["undemote", name])?.0, Some(0));
    }
    assert_eq!(carpctl(&duo.gw2, &["status"])?.0, Some(0));
    Ok(())
}

#[test]
fn hand_overs_by_maintenance_never_look_like_two_masters_or_a_lost_lease() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    for (verb, master) in [("demote", &duo.gw2), ("undemote", &duo.gw1)] {
        assert_eq!(carpctl(&duo.gw1, &[verb, "maintenance"])?.0, Some(0));
        let end = clock::now() + Span::secs(9);
        while clock::now() < end {
            for node in [&duo.gw1, &duo.gw2] {
                let (code, text) = carpctl(node, &["status"])?;
                assert!(code != Some(11) && code != Some(12), "{text}");
            }
            clock::sleep(Span::millis(100));
        }
        assert!(master.is_all("MASTER"), "{}", master.status()?);
        assert_eq!(carpctl(master, &["status"])?.0, Some(0));
    }
    Ok(())
}

#[test]
fn a_master_whose_adverts_do_not_leave_is_fenced_and_says_so() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    assert_eq!(carpctl(&gw1, &["status"])?.0, Some(0));
    for words in ["qdisc replace dev lan0 root pfifo limit 0", "qdisc replace dev wan0 root pfifo limit 0"] {
        assert!(pair.gw1().output(Command::new("tc").args(words.split(' ')))?.status.success());
    }
    let told = clock::wait_for("gw1 to be fenced", PATIENCE, || {
        let (code, text) = carpctl(&gw1, &["status"]).ok()?;
        (code == Some(12)).then_some(text)
    })?;
    assert!(told.contains("fenced: ") && told.contains("is MASTER and does not serve"), "{told}");
    Ok(())
}

#[test]
fn a_master_that_hears_another_go_on_says_so() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    // gw2 does not hear the LAN's adverts any more, but is heard.
    let mut deafen = Command::new("bridge");
    deafen.args(["link", "set", "dev", "lan-gw2", "mcast_flood", "off"]);
    assert!(duo.pair.switch.output(&mut deafen)?.status.success());
    let told = clock::wait_for("gw1 to tell of two masters", PATIENCE, || {
        let (code, text) = carpctl(&duo.gw1, &["status"]).ok()?;
        (code == Some(11)).then_some(text)
    })?;
    assert!(told.contains("two masters: lan0@1: "), "{told}");
    Ok(())
}

#[test]
fn watch_gives_an_object_a_line_through_a_daemons_death_and_stops_when_nobody_reads() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let mut watch = Command::new(product("carpctl")?)
        .args(["--instance", duo.gw1.instance(), "watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no pipe")?).lines();
    let mut next = || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("no line")??)?) };
    for _ in 0..2 {
        assert_eq!(next()?["health"], "healthy");
    }
    duo.gw1.kill()?;
    // One look may have been on its way.
    let after = [next()?, next()?];
    assert!(after.iter().any(|look| look["source"] == "maps" && look["exit_code"] == SILENT), "{after:?}");
    drop(lines);
    let ended = clock::wait_for("watch to stop", PATIENCE, || watch.try_wait().ok()?);
    watch.kill().ok();
    assert_eq!(ended?.code(), Some(0));
    Ok(())
}

#[test]
fn members_of_the_group_read_daemon_and_maps_and_others_are_told_what_to_do() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut gw1 = Carpd::configure(&pair.lab, pair.gw1(), &Config::gateway())?;
    gw1.with_group(GROUP)?;
    let bpffs = || std::fs::metadata("/sys/fs/bpf").map(|about| (about.mode() & 0o777, about.gid()));
    let before = bpffs()?;
    gw1.run()?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw1.wait_serving(PATIENCE)?;
    let about = std::fs::metadata(format!("/run/carp/{}/control.sock", gw1.instance()))?;
    assert_eq!((about.mode() & 0o777, about.uid(), about.gid()), (0o660, 0, GROUP));
    let guest = Guest::new()?;
    let (code, text) = guest.carpctl(&gw1, NOBODY, &["status"])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("group carp"), "{text}");
    let (code, text) = guest.carpctl(&gw1, GROUP, &["status", "--json"])?;
    assert_eq!(code, Some(0), "{text}");
    let status: Value = serde_json::from_str(&text)?;
    assert_eq!(status["hosts"][1]["window"]["open"], true, "joined with the maps: {text}");
    let (code, text) = guest.carpctl(&gw1, GROUP, &["demote", "test"])?;
    assert!(code == Some(1) && text.contains("only root"), "{text}");
    gw1.kill()?;
    let (code, text) = guest.carpctl(&gw1, GROUP, &["status"])?;
    assert_eq!(code, Some(SILENT), "{text}");
    assert!(text.contains("from the pinned maps alone"), "{text}");
    assert!(text.contains("lan0@1") && text.contains("wan0@2") && text.contains("SERVING"), "{text}");
    let (code, text) = guest.carpctl(&gw1, GROUP, &["counters"])?;
    assert!(code == Some(SILENT) && text.contains("arp-answered"), "{text}");
    let (code, text) = guest.carpctl(&gw1, NOBODY, &["status"])?;
    assert!(code == Some(1) && text.contains("group carp"), "{text}");
    // What is not for reading is root's alone.
    let pins = PathBuf::from("/sys/fs/bpf/carp").join(gw1.instance());
    for pin in std::fs::read_dir(pins)? {
        let (name, mode) = {
            let pin = pin?;
            (pin.file_name(), pin.metadata()?.mode())
        };
        let is_shared = ["COUNTERS", "HEARD", "HOSTS", "LINKS", "PULSE", "VIP_INDEX", "VIPS", "WINDOWS"]
            .iter()
            .any(|map| name == **map);
        let wanted = if is_shared { 0o640 } else { 0o600 };
        assert!(mode & 0o170_000 == 0o120_000 || mode & 0o777 == wanted, "{name:?} {mode:o}");
    }
    gw1.run()?;
    gw1.stop()?;
    assert_eq!(bpffs()?, before, "the way into the BPF file system is as it was");
    Ok(())
}

/// Exit code and output.
fn carpctl(node: &Carpd, words: &[&str]) -> Result<(Option<i32>, String)> {
    run(node, Command::new(product("carpctl")?), words)
}

/// Not root: its carpctl lies where everybody may run it, wherever this was built.
struct Guest(PathBuf);

impl Guest {
    fn new() -> Result<Self> {
        let copy = std::env::temp_dir().join(format!("carpctl-{}", std::process::id()));
        std::fs::copy(product("carpctl")?, &copy)?;
        Ok(Self(copy))
    }

    fn carpctl(&self, node: &Carpd, gid: u32, words: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        command.arg(&self.0);
        run(node, command, words)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn run(node: &Carpd, mut command: Command, words: &[&str]) -> Result<(Option<i32>, String)> {
    command.args(["--instance", node.instance()]).args(words);
    let output = node.namespace().output(&mut command)?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}
