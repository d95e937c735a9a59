//! Maintenance outlives the daemon and a boot: a file in the node's state folder says since when, until when and why.

use super::clock;
use super::disk::{self, Staged};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const FILE: &str = "maintenance";
/// Longest file that is read, bytes: what the control socket lets through, and then some.
const MOST_BYTES: u64 = 64 * 1024;
/// What is said of a file that tells nothing. A node that was in maintenance had better stay in it.
const UNREADABLE: &str = "its file cannot be read: carpctl maintenance off removes it";

/// What is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Why, in words.
    pub reason: String,
    /// When it began, seconds since 1970.
    pub since: u64,
    /// When it ends by itself, seconds since 1970; not at all when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Maintenance {
    /// From now on, for so many seconds if any are given.
    pub fn begin(reason: String, seconds: Option<u32>) -> Self {
        let since = clock::seconds_since_1970();
        Self { reason, since, until: seconds.map(|seconds| since.saturating_add(seconds.into())) }
    }

    /// That of this instance, if it is not over.
    pub fn read(instance: &str) -> Option<Self> {
        read_in(&disk::state_of(instance), clock::seconds_since_1970())
    }

    /// Keeps it. When this returns it is on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, instance: &str) -> io::Result<()> {
        self.write_in(&disk::state_of(instance))
    }

    /// Seconds until it ends, if it does.
    pub fn left(&self) -> Option<u64> {
        self.until.map(|until| until.saturating_sub(clock::seconds_since_1970()))
    }

    fn write_in(&self, folder: &Path) -> io::Result<()> {
        disk::make(folder)?;
        let text = serde_json::to_string(self).map_err(io::Error::other)? + "\n";
        Staged::write(&file(folder), &text, 0o644)?.settle()
    }
}

/// Forgets it; fine when there is none.
///
/// # Errors
/// What the file system says.
pub fn remove(instance: &str) -> io::Result<()> {
    remove_in(&disk::state_of(instance))
}

/// Forgets it if it is over; a newer one stays.
///
/// # Errors
/// What the file system says.
pub fn remove_if_over(instance: &str) -> io::Result<()> {
    if Maintenance::read(instance).is_some() { Ok(()) } else { remove(instance) }
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn remove_in(folder: &Path) -> io::Result<()> {
    match fs::remove_file(file(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| File::open(folder)?.sync_all()),
    }
}

fn read_in(folder: &Path, now: u64) -> Option<Maintenance> {
    let mut text = String::new();
    let read = File::open(file(folder)).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    let found = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(_) => serde_json::from_str(&text).map_err(io::Error::other),
        Err(error) => Err(error),
    };
    let maintenance = found.unwrap_or_else(|error| {
        tracing::warn!(file = %file(folder).display(), %error, "this node was in maintenance, and stays in it");
        Maintenance { reason: UNREADABLE.to_owned(), since: now, until: None }
    });
    maintenance.until.is_none_or(|until| now < until).then_some(maintenance)
}

#[cfg(test)]
mod tests {
    use super::super::disk::tests::Folder;
    use super::*;

    #[test]
    fn it_is_there_until_it_is_over_or_removed() {
        let folder = Folder::new("maintenance");
        assert_eq!(read_in(&folder.0, 0), None);
        let kept = Maintenance { reason: "new memory".to_owned(), since: 100, until: Some(200) };
        kept.write_in(&folder.0).unwrap();
        assert_eq!(read_in(&folder.0, 199), Some(kept));
        assert_eq!(read_in(&folder.0, 200), None, "it is over");
        fs::write(file(&folder.0), "{").unwrap();
        assert_eq!(read_in(&folder.0, 300).unwrap().reason, UNREADABLE);
        remove_in(&folder.0).unwrap();
        remove_in(&folder.0).unwrap();
        assert_eq!(read_in(&folder.0, 300), None);
    }
}
