//! The house rules that neither rustc nor clippy knows.

mod purity;
mod rules;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{capture, root};
use source::Source;

/// One breach of one rule, with what to do about it.
#[derive(Debug)]
struct Finding {
    rule: &'static str,
    /// Counted from 1; 0 when the whole file or tree is meant.
    line: usize,
    advice: String,
}

/// `cargo xtask tidy`: prints every finding; fails when there is one.
pub fn verb() -> Result<()> {
    let (files, findings) = check()?;
    for (path, finding) in &findings {
        println!("{path}:{}: {}: {}", finding.line, finding.rule, finding.advice);
    }
    if !findings.is_empty() {
        bail!("tidy has {} findings", findings.len());
    }
    println!("tidy: {files} files, no findings");
    Ok(())
}

fn check() -> Result<(usize, Vec<(String, Finding)>)> {
    let paths = paths()?;
    let mut all = Vec::new();
    all.extend(rules::tree(&paths).into_iter().map(|finding| (".".to_owned(), finding)));
    for path in &paths {
        // Not UTF-8 means a capture or another binary: no rule reads those.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        let mut findings = rules::text(path, &text);
        if path.ends_with(".rs") {
            let source = Source::new(&text);
            findings.extend(rules::rust(path, &source));
            findings.extend(purity::check(path, &source));
        }
        findings.sort_by_key(|finding| finding.line);
        all.extend(findings.into_iter().map(|finding| (path.clone(), finding)));
    }
    Ok((paths.len(), all))
}

/// What is committed or would be: neither ignored nor deleted.
fn paths() -> Result<BTreeSet<String>> {
    let mut git = Command::new("git");
    // The checkout may belong to another user, as in a CI container.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = capture(git.current_dir(root()))?;
    Ok(listed.split('\0').filter(|path| root().join(path).is_file()).map(ToOwned::to_owned).collect())
}
