//! The benchmarks as a person runs them, in brief: that they work, not what they say. A kernel that
//! cannot run them is refused.

use anyhow::{Context, Result};
use carp_tests::lab::carpd::product;
use carp_tests::lab::kernel::runs_live_frames;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn every_part_measures_something_and_nothing_is_judged_in_brief() -> Result<()> {
    let file = std::env::temp_dir().join(format!("carp-bench-{}.json", std::process::id()));
    let mut bench = Command::new(product("bench")?);
    bench.args(["datapath", "--brief", "--runs", "1", "--seconds", "1", "--json"]).arg(&file);
    let output = bench.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !runs_live_frames() {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains("Linux 5.18 is needed"), "{said}{error}");
        return Ok(());
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    std::fs::remove_file(&file)?;
    let rows = json["rows"].as_array().context("no rows")?;
    let parts: BTreeSet<_> = rows.iter().filter_map(|row| row["part"].as_str()).collect();
    assert_eq!(parts, ["dropping", "flood", "forwarding", "scale", "stages"].into());
    for row in rows {
        let is_measured = row["median"].is_number() && row["runs"] != Value::Array(Vec::new());
        assert!(is_measured || row["verdict"] == "absent", "{row}");
        assert!(row["at_most"].is_null() && row["at_least"].is_null(), "{row}");
        assert!(said.contains(row["name"].as_str().context("no name")?), "{row}\n{said}");
    }
    Ok(())
}
