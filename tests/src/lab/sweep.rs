//! Removing what labs of dead programs left behind.

use super::{GUARD, PREFIX, ROOT};
use anyhow::Result;
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Name of the mark in a lab's folder that says: leave it up.
pub const KEPT: &str = "kept";

/// How much to sweep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Labs whose program is gone without having cleaned up.
    Dead,
    /// And those that were kept on purpose.
    DeadAndKept,
}

/// Removes the namespaces, pins and folders of labs that nobody holds.
///
/// # Errors
/// When the namespaces cannot be listed.
pub fn sweep(which: Which) -> Result<()> {
    for id in ids()? {
        let folder = Path::new(ROOT).join(&id);
        let kept = which == Which::Dead && folder.join(KEPT).exists();
        if !kept && !in_use(&folder, &id) {
            let mut shell = Command::new("sh");
            shell.args(["-c", GUARD, "sweep"]).args([PREFIX, ROOT, &id]);
            shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        }
    }
    Ok(())
}

/// The labs that there are traces of: a folder, or a namespace.
fn ids() -> Result<BTreeSet<String>> {
    let listed = Command::new("ip").args(["netns", "list"]).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut ids: BTreeSet<String> = listed.lines().filter_map(id_of_namespace).collect();
    if let Ok(folders) = fs::read_dir(ROOT) {
        ids.extend(folders.flatten().filter_map(|entry| entry.file_name().into_string().ok()));
    }
    Ok(ids)
}

/// `carplab-PID-N-HOST (id: 3)` gives `PID-N`.
fn id_of_namespace(line: &str) -> Option<String> {
    let mut parts = line.strip_prefix(PREFIX)?.splitn(3, '-');
    Some(format!("{}-{}", parts.next()?, parts.next()?))
}

/// The folder's lock says so; for a lab so young that it has no lock yet, its process.
fn in_use(folder: &Path, id: &str) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else {
        let pid = id.split('-').next().unwrap_or_default();
        return Path::new("/proc").join(pid).exists();
    };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_namespace_name_gives_the_lab_it_belongs_to() {
        assert_eq!(super::id_of_namespace("carplab-123-4-gw1 (id: 7)"), Some("123-4".to_owned()));
        assert_eq!(super::id_of_namespace("somebody-elses"), None);
    }
}
