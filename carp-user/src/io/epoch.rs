//! The number of this start, which every strict counter begins with, and a session of replication is told: kept on
//! the disk, as it has to be higher than at any start before, whatever the clock says.

use super::disk::{self, Staged};
use super::instance::Instance;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const FILE: &str = "epoch";
/// Longest file that is read, bytes; a number has ten digits at most.
const MOST_BYTES: u64 = 64;

/// Why there is no new epoch. Strict authentication does not go without: peers would refuse every advert
/// as an old one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error(
        "{doing} {}: {source}; it numbers the starts of carpd, and with auth = \"strict\" or \"migrate\" peers \
         refuse adverts with an old number: see to it that this folder can be written, or set auth = \"carp\" and \
         remove [sync]",
        .path.display()
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else in it.
    #[error(
        "{} does not hold a number: write one that is higher than any that peers have seen of this node \
         (their log names it when they refuse its adverts)",
        .path.display()
    )]
    NoNumber {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be counted any higher.
    #[error("{} is at its end: give the virtual hosts another password and remove the file", .path.display())]
    Last {
        /// The file.
        path: PathBuf,
    },
}

/// Counts this start. When it returns the number is on the disk. Whoever has the instance counts alone: of
/// two at once, one could write back the lower number.
///
/// # Errors
/// When it is not.
pub fn next(instance: &Instance) -> Result<u32, Error> {
    next_in(&disk::state_of(instance.name()))
}

fn next_in(folder: &Path) -> Result<u32, Error> {
    let path = folder.join(FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source| Error::Io { doing, path, source }
    };
    disk::make(folder).map_err(failed("making the folder of"))?;
    let last = match read(&path) {
        Ok(text) => text.trim().parse().map_err(|_| Error::NoNumber { path: path.clone() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(
                file = %path.display(),
                "no epoch is kept yet: this is the first start, or the file is lost; with auth = \"strict\" or \
                 \"migrate\" peers that know this node then refuse its adverts as old, and say which number to write"
            );
            0_u32
        }
        Err(error) => return Err(failed("reading")(error)),
    };
    let next = last.checked_add(1).ok_or_else(|| Error::Last { path: path.clone() })?;
    let staged = Staged::write(&path, &format!("{next}\n"), 0o600);
    staged.and_then(Staged::settle).map_err(failed("writing"))?;
    Ok(next)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::disk::tests::Folder;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_start_has_a_higher_number_and_the_first_is_1() {
        let folder = Folder::new("epoch-count");
        let numbers: Vec<u32> = (0..5).map(|_| next_in(&folder.0).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        let mode = fs::metadata(folder.0.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.0.join(FILE), "41\n").unwrap();
        assert_eq!(next_in(&folder.0).unwrap(), 42);
    }

    #[test]
    fn what_is_no_number_or_the_last_one_is_refused_in_words_and_left_as_it_is() {
        let folder = Folder::new("epoch-words");
        fs::create_dir_all(&folder.0).unwrap();
        for (text, word) in
            [("", "not hold a number"), ("-1", "not hold a number"), ("4294967295", "at its end")]
        {
            fs::write(folder.0.join(FILE), text).unwrap();
            let error = next_in(&folder.0).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert_eq!(fs::read_to_string(folder.0.join(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = Folder::new("epoch-closed");
        fs::create_dir_all(&folder.0).unwrap();
        // A file where the folder should be: root, too, cannot write there.
        let path = folder.0.join("file");
        fs::write(&path, "").unwrap();
        let error = next_in(&path.join("gw1")).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("auth = "), "{error}");
    }
}
