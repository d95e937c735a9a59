//! The demonstration as a person runs it.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::carpd::product;
use carp_tests::lab::clock;
use carp_tests::lab::process::run;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn it_is_edited_and_moves_three_ways_without_two_masters_and_writes_what_it_measured() -> Result<()> {
    let file = std::env::temp_dir().join(format!("carp-demo-{}.json", std::process::id()));
    let begun = clock::now();
    let output = Command::new(product("demo")?).arg("--json").arg(&file).output()?;
    let took = clock::now().since(begun);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < Span::secs(90), "it took {took}");
    assert!(!said.contains('\r'), "a moving line where there is no terminal");
    let json: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    std::fs::remove_file(&file)?;
    let download = &json["download"];
    assert!(
        download["bytes"].as_u64() > Some(1_000_000) && download["longest_stall_ms"].is_number(),
        "{download}"
    );
    assert!(download["checksum_right"] == true && download["broke"] == false, "{download}");
    assert!(said.contains("checksum right, no reset"), "{said}");
    assert!(said.contains("NAT as carp.toml says: the LAN leaves as 10.77.2.1"), "{said}");
    let forward = &json["forward"];
    assert!(forward["answers"].as_u64() > Some(500) && forward["broke"] == false, "{forward}");
    let edits = json["edits"].as_array().context("no edits")?;
    assert_eq!(edits.len(), 2);
    for edit in edits {
        assert!(edit["probes_sent"].as_u64() > Some(500) && edit["lost"] == 0, "{edit}");
        assert!(edit["roles_moved"] == 0 && edit["two_masters_ms"].as_f64() == Some(0.0), "{edit}");
    }
    assert!(
        said.contains("neither node uses it: gw2") && said.contains("both nodes have revision 2"),
        "{said}"
    );
    let moves = json["moves"].as_array().context("no moves")?;
    assert_eq!(moves.len(), 3);
    for movement in moves {
        assert!(movement["name"].is_string(), "{movement}");
        assert_eq!(movement["two_masters_ms"].as_f64(), Some(0.0), "{movement}");
        for field in ["probes_sent", "lost", "longest_gap_ms", "takeover_ms"] {
            assert!(movement[field].is_number(), "{field} in {movement}");
        }
    }
    Ok(())
}

#[test]
fn interrupted_it_leaves_nothing_behind() -> Result<()> {
    for signal in [Signal::INT, Signal::KILL] {
        let mut demo = Command::new(product("demo")?).stdout(Stdio::null()).spawn()?;
        let mark = format!("carplab-{}-", demo.id());
        let daemons =
            || processes().unwrap_or_default().into_iter().filter(|line| line.contains(&lab_of(&mark)));
        let up = || (namespaces().ok()?.contains(&mark) && daemons().count() >= 2).then_some(());
        clock::wait_for("the demo's gateways", Span::secs(10), up)?;
        rustix::process::kill_process(Pid::from_child(&demo), signal)?;
        demo.wait()?;
        let gone = || (!namespaces().ok()?.contains(&mark) && daemons().count() == 0).then_some(());
        clock::wait_for("everything to be gone", Span::secs(5), gone)?;
        let folder = Path::new("/run/carp-lab").join(format!("{}-0", demo.id()));
        clock::wait_for("its folder to be gone", Span::secs(2), || (!folder.exists()).then_some(()))?;
    }
    Ok(())
}

#[test]
fn kept_it_stays_until_it_is_cleaned() -> Result<()> {
    let demo = Command::new(product("demo")?).arg("--keep").stdout(Stdio::piped()).spawn()?;
    let mark = format!("carplab-{}-", demo.id());
    let output = demo.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    // Another lab does not sweep it away.
    drop(carp_tests::lab::Lab::new(carp_tests::lab::Purpose::Test)?);
    assert!(namespaces()?.contains(&mark));
    let status = said.lines().find(|line| line.contains("--instance gw1-")).context("no hint at carpctl")?;
    assert!(run(Command::new("sh").args(["-c", status]))?.contains("MASTER"));
    run(Command::new(product("demo")?).arg("--clean"))?;
    assert!(!namespaces()?.contains(&mark));
    Ok(())
}

fn namespaces() -> Result<String> {
    run(Command::new("ip").args(["netns", "list"]))
}

/// The command lines of all processes.
fn processes() -> Result<Vec<String>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    Ok(lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect())
}

/// `carplab-12-` gives `/carp-lab/12-`, which is in its daemons' command lines.
fn lab_of(mark: &str) -> String {
    format!("/carp-lab/{}", mark.trim_start_matches("carplab-"))
}
