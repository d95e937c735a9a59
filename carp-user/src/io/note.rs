//! What was before a daemon changed it, noted in the instance's directory first, so that the next daemon of this name, and
//! `carpctl cleanup`, can put it back after a killed one.

use super::disk::Staged;
use super::marks;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Largest note that is read, bytes: thousands of devices. Policy: of a larger one nothing is known.
const MOST_BYTES: u64 = 1 << 20;

/// A note with the inode of the network namespace that it is about.
#[derive(Serialize, Deserialize)]
struct Dated<T> {
    netns: u64,
    #[serde(flatten)]
    what: T,
}

/// What is noted there; nothing, when there is no note, or one of another network namespace.
pub(super) fn read<T: DeserializeOwned + Default>(note: &Path) -> T {
    let mut text = String::new();
    let read = fs::File::open(note).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    let noted: Option<Dated<T>> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let noted = noted.filter(|noted| marks::netns().is_ok_and(|netns| netns == noted.netns));
    noted.map(|noted| noted.what).unwrap_or_default()
}

/// Notes it, in the place of what is noted there, or nothing any more.
///
/// # Errors
/// What the file system says.
pub(super) fn write<T: Serialize>(note: &Path, what: Option<&T>) -> io::Result<()> {
    let Some(what) = what else {
        return match fs::remove_file(note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    };
    let dated = Dated { netns: marks::netns()?, what };
    Staged::write(note, &serde_json::to_string(&dated)?, 0o644)?.settle()
}
