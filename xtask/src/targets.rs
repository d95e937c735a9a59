//! The integration tests of every crate, by name: what they need stands in it. `xdp_` loads programs into the
//! kernel, `lab_` starts daemons in network namespaces; all others need no privilege.

use std::fs;

use anyhow::Result;

use crate::command::root;

/// Names that begin with one of these mean root.
pub const PRIVILEGED: [&str; 2] = ["xdp_", "lab_"];

/// All of them, `tests/NAME.rs` and `tests/NAME/main.rs`, sorted.
pub fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for package in ["carp-common", "carp-ebpf", "carp-user", "tests"] {
        let Ok(entries) = fs::read_dir(root().join(package).join("tests")) else { continue };
        for entry in entries {
            let path = entry?.path();
            let is_target = path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").is_file();
            if let (true, Some(stem)) = (is_target, path.file_stem()) {
                names.push(stem.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Those whose name begins with one of `prefixes`.
pub fn with_prefix(prefixes: &[&str]) -> Result<Vec<String>> {
    let mut names = all()?;
    names.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    Ok(names)
}
