//! `fuzz`: every target of tests/fuzz for a while, on the stable toolchain.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::bpf;
use crate::command::{cache_dir, capture, cargo, line, root, run, which};
use crate::setup::{self, Scope};

/// The release that is installed when there is no other.
const CARGO_FUZZ: &str = "0.13.2";
const FUZZ_DIR: &str = "tests/fuzz";

/// What to fuzz, and for how long.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --seconds 60           every target for a minute
  cargo xtask fuzz --seconds 600 advert   one target for ten minutes
  cargo xtask fuzz --list                 which targets there are")]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Show the targets and stop
    #[arg(long)]
    list: bool,
    /// Targets to run; none means all
    targets: Vec<String>,
}

/// Runs the targets one after the other; a crash in one does not keep the next from running.
pub fn verb(args: &Args) -> Result<ExitCode> {
    setup::ensure(Scope::Fuzz)?;
    bpf::build()?; // a target may use the daemon's parsers, and the daemon embeds the programs
    let tool = cargo_fuzz()?;
    let known = capture(Command::new(&tool).args(["list", "--fuzz-dir", FUZZ_DIR]).current_dir(root()))?;
    let known: Vec<&str> = known.split_whitespace().collect();
    if args.list {
        println!("{}", known.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(wrong) = args.targets.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no fuzz target `{wrong}`; there are: {}", known.join(", "));
    }
    let wanted =
        known.iter().filter(|name| args.targets.is_empty() || args.targets.iter().any(|one| one == *name));
    let mut summary = Vec::new();
    let mut is_good = true;
    for name in wanted {
        println!("==> fuzz {name} for {} s", args.seconds);
        let end = fuzz(&tool, name, args.seconds)?;
        is_good &= end.is_good;
        summary.push(end.summary(&tool, name));
    }
    println!("==> summary");
    println!("{}", summary.join("\n"));
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a target ended.
struct End {
    is_good: bool,
    /// Inputs that were run; none when it crashed before it could say so.
    runs: Option<String>,
    /// The input that crashed it, in a file.
    artifact: Option<String>,
}

impl End {
    fn summary(&self, tool: &Path, name: &str) -> String {
        if self.is_good {
            return format!("{name}: {} runs, no crash", self.runs.as_deref().unwrap_or("?"));
        }
        let again = match &self.artifact {
            Some(file) => {
                format!("RUSTC_BOOTSTRAP=1 {} run --fuzz-dir {FUZZ_DIR} {name} {file}", tool.display())
            }
            None => "it said why above".to_owned(),
        };
        format!("{name}: FAILED; again with: {again}")
    }
}

fn fuzz(tool: &Path, name: &str, seconds: u32) -> Result<End> {
    let mut command = Command::new(tool);
    command.args(["run", "--fuzz-dir", FUZZ_DIR, name, "--"]).current_dir(root());
    command.arg(format!("-max_total_time={seconds}"));
    // The sanitizer's flags are unstable, and nothing else here needs a nightly.
    command.env("RUSTC_BOOTSTRAP", "1");
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(&command)))?;
    let mut end = End { is_good: false, runs: None, artifact: None };
    if let Some(said) = child.stderr.take() {
        for line in BufReader::new(said).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            end.read(&line);
        }
    }
    end.is_good = child.wait()?.success();
    Ok(end)
}

impl End {
    /// Picks up what libFuzzer says of itself.
    fn read(&mut self, line: &str) {
        if let Some((runs, _)) = line.strip_prefix("Done ").and_then(|rest| rest.split_once(" runs in ")) {
            self.runs = Some(runs.to_owned());
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.artifact = Some(file.trim().to_owned());
        }
    }
}

/// cargo-fuzz from the search path, else from the cache, else built into it.
fn cargo_fuzz() -> Result<PathBuf> {
    if let Some(present) = which("cargo-fuzz") {
        return Ok(present);
    }
    let place = cache_dir()?.join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let tool = place.join("bin/cargo-fuzz");
    if !tool.exists() {
        eprintln!("building cargo-fuzz {CARGO_FUZZ} ...");
        let mut install = cargo();
        install.args(["install", "cargo-fuzz", "--quiet", "--locked", "--version", CARGO_FUZZ]);
        run(install.arg("--root").arg(&place).env_remove("CARGO_TARGET_DIR").current_dir(cache_dir()?))?;
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_and_the_crashing_input_are_read_from_what_the_fuzzer_says() {
        let mut end = End { is_good: true, runs: None, artifact: None };
        end.read("Done 123456 runs in 61 second(s)");
        assert_eq!(end.summary(Path::new("cargo-fuzz"), "advert"), "advert: 123456 runs, no crash");
        end.is_good = false;
        end.read("artifact_prefix='x/'; Test unit written to tests/fuzz/artifacts/advert/crash-1");
        assert!(
            end.summary(Path::new("cargo-fuzz"), "advert")
                .ends_with("tests/fuzz advert tests/fuzz/artifacts/advert/crash-1")
        );
    }
}
