//! Counting: what `cargo test` prints, while it is shown.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::command::line;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Good.
    pub passed: u32,
    /// Bad.
    pub failed: u32,
    /// Not run.
    pub skipped: u32,
}

impl Tally {
    /// Sums up.
    pub fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }

    /// The counts of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    pub fn of_line(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let count =
            |word: &str| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs a `cargo test`, shows what it prints and counts. A run that fails without a failed test (it does not
/// compile, or a test process died) is an error.
pub fn run(command: &mut Command) -> Result<Tally> {
    let name = line(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{name}`"))?;
    let mut total = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            total.add(Tally::of_line(&line).unwrap_or_default());
        }
    }
    let status = child.wait()?;
    if !status.success() && total.failed == 0 {
        bail!("`{name}` failed ({status})");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 12, failed: 2, skipped: 1 }));
        assert_eq!(Tally::of_line("test wire::emit ... ok"), None);
        assert_eq!(Tally::of_line("test result: ok"), None);
    }

    #[test]
    fn the_last_line_has_its_form() {
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 1 }.to_string(), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_dies_without_a_failed_test_is_an_error() {
        let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured";
        let script = |exit: u8| format!("echo '{result}'; exit {exit}");
        assert_eq!(run(Command::new("sh").args(["-c", &script(0)])).map(|tally| tally.passed).ok(), Some(1));
        assert!(run(Command::new("sh").args(["-c", &script(101)])).is_err());
    }
}
