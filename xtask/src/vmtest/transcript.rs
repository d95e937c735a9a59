//! What a guest says, line by line, made into a result.

use crate::test::Tally;

use super::guest::MARK;

/// What has been said so far.
#[derive(Debug, Default)]
pub struct Transcript {
    /// `uname -r`, as soon as the guest has started.
    pub release: Option<String>,
    /// The sum that the test program gave.
    pub tally: Option<Tally>,
    /// Names of tests that failed.
    pub failures: Vec<String>,
    /// The test program's exit code, once it has ended.
    pub status: Option<String>,
    /// All that the test program printed.
    pub output: String,
    is_listing: bool,
}

impl Transcript {
    /// Takes in a line.
    pub fn read(&mut self, line: &str) {
        let line = line.trim_end_matches('\r');
        if let Some(said) = line.strip_prefix(MARK) {
            match said.split_once(' ') {
                Some(("BEGIN", release)) => self.release = Some(release.to_owned()),
                Some(("END", status)) => self.status = Some(status.to_owned()),
                Some(_) | None => {}
            }
            return;
        }
        self.output += line;
        self.output += "\n";
        if line == "failures:" {
            // The first list has what the tests printed; the second, and last, their names.
            self.failures.clear();
            self.is_listing = true;
        } else if let Some(tally) = Tally::of_line(line) {
            self.tally = Some(tally);
            self.is_listing = false;
        } else if let (true, Some(name)) = (self.is_listing, line.strip_prefix("    ")) {
            self.failures.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(said: &str) -> Transcript {
        let mut transcript = Transcript::default();
        said.lines().for_each(|line| transcript.read(line));
        transcript
    }

    #[test]
    fn the_names_of_failed_tests_are_the_last_list() {
        let said = "VMTEST-BEGIN 6.1.0-56\r\ntest x ... FAILED\r\nfailures:\r\n\r\n---- x ----\r\n    at line 3\r\n\
                    failures:\r\n    x\r\n\r\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\r\n\
                    VMTEST-END 101\r\n";
        let transcript = transcript(said);
        assert_eq!(transcript.release.as_deref(), Some("6.1.0-56"));
        assert_eq!(transcript.tally, Some(Tally { passed: 2, failed: 1, skipped: 0 }));
        assert_eq!(transcript.failures, ["x"]);
        assert_eq!(transcript.status.as_deref(), Some("101"));
        assert!(transcript.output.contains("    at line 3\n"));
    }

    #[test]
    fn a_guest_that_died_has_no_status() {
        let transcript = transcript("VMTEST-BEGIN 6.1\ntest x ... ");
        assert!(transcript.status.is_none() && transcript.tally.is_none());
    }
}
