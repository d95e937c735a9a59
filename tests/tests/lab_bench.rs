//! The benchmarks as a person runs them, in brief: that they work, not what they say. A kernel that
//! cannot run them is refused.

use anyhow::{Context, Result};
use carp_tests::lab::carpd::product;
use carp_tests::lab::kernel::runs_live_frames;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

#[test]
fn every_part_measures_something_and_nothing_is_judged_in_brief() -> Result<()> {
    let words = ["datapath", "--brief", "--runs", "1", "--seconds", "1"];
    let (output, json) = bench(&words)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !runs_live_frames() {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains("Linux 5.18 is needed"), "{said}{error}");
        return Ok(());
    }
    let parts = measured(&output, &json)?;
    assert_eq!(parts, ["dropping", "flood", "forwarding", "scale", "stages"].into());
    Ok(())
}

#[test]
fn so_does_every_part_of_replication() -> Result<()> {
    let (output, json) = bench(&["sync", "--brief"])?;
    let parts = measured(&output, &json)?;
    assert_eq!(parts, ["flows", "table", "traffic"].into());
    // With carpd nothing is lost, not even in a hurry.
    let rows = json["rows"].as_array().context("no rows")?;
    let counted = ["flows that never came", "of these are missing"];
    let is_counted = |row: &&Value| row["name"].as_str().is_some_and(|name| counted.contains(&name));
    let lost: Vec<_> = rows.iter().filter(is_counted).collect();
    assert!(lost.len() == 2 && lost.iter().all(|row| row["median"] == 0.0), "{lost:?}");
    Ok(())
}

#[test]
fn so_does_a_failover_wanted_and_not() -> Result<()> {
    let picture = std::env::temp_dir().join(format!("carp-bench-{}.svg", std::process::id()));
    let faults = ["--only", "sigterm", "--only", "links-down"];
    let file = picture.to_str().context("a path in UTF-8")?;
    let contenders = ["--contender", "carp", "--contender", "keepalived"];
    let words = [&["failover", "--brief", "--svg", file][..], &faults, &contenders].concat();
    let (output, json) = bench(&words)?;
    let parts = measured(&output, &json)?;
    assert_eq!(parts, ["SIGTERM", "SIGTERM: started again", "links down", "links down: up again"].into());
    let rows = json["rows"].as_array().context("no rows")?;
    let of_ours = |name: &str| -> Vec<f64> {
        let such = rows.iter().filter(|row| row["name"] == format!("carp: {name}"));
        such.filter_map(|row| row["median"].as_f64()).collect()
    };
    assert_eq!(of_ours("two masters"), [0.0; 4]);
    assert_eq!(of_ours("connections broken"), [0.0; 4]);
    let lost = of_ours("probes lost");
    assert!(lost.get(2).is_some_and(|lost| *lost > 0.0), "its links were down: {lost:?}");
    let drawn = std::fs::read_to_string(&picture)?;
    std::fs::remove_file(&picture)?;
    assert!(drawn.starts_with("<svg ") && drawn.contains("links down: up again"), "{drawn}");
    Ok(())
}

/// Runs it; what it said, and the measurements.
fn bench(words: &[&str]) -> Result<(Output, Value)> {
    let verb = words.first().context("a verb")?;
    let file = std::env::temp_dir().join(format!("carp-bench-{verb}-{}.json", std::process::id()));
    let mut bench = Command::new(product("bench")?);
    let output = bench.args(words).arg("--json").arg(&file).output()?;
    let json = serde_json::from_slice(&std::fs::read(&file)?).unwrap_or_default();
    std::fs::remove_file(&file)?;
    Ok((output, json))
}

/// The parts of which something was measured. Whatever was not is said to be absent.
fn measured<'a>(output: &Output, json: &'a Value) -> Result<BTreeSet<&'a str>> {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let rows = json["rows"].as_array().context("no rows")?;
    for row in rows {
        let is_measured = row["median"].is_number() && row["runs"] != Value::Array(Vec::new());
        assert!(is_measured || row["verdict"] == "absent", "{row}");
        assert!(["at_most", "at_least", "never_above"].iter().all(|must| row[must].is_null()), "{row}");
        assert!(said.contains(row["name"].as_str().context("no name")?), "{row}\n{said}");
    }
    let is_measured = |row: &&Value| row["median"].is_number();
    Ok(rows.iter().filter(is_measured).filter_map(|row| row["part"].as_str()).collect())
}
