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

/// Runs it; what it said, and the measurements.
fn bench(words: &[&str]) -> Result<(Output, Value)> {
    let file =
        std::env::temp_dir().join(format!("carp-bench-{}-{}.json", words.concat(), std::process::id()));
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
        assert!(row["at_most"].is_null() && row["at_least"].is_null(), "{row}");
        assert!(said.contains(row["name"].as_str().context("no name")?), "{row}\n{said}");
    }
    let is_measured = |row: &&Value| row["median"].is_number();
    Ok(rows.iter().filter(is_measured).filter_map(|row| row["part"].as_str()).collect())
}
