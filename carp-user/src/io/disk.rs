//! Files that a crash and a power cut leave whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where what outlives a boot is kept, one folder an instance.
const STATE: &str = "/var/lib/carp";

/// The folder of an instance there.
pub fn state_of(instance: &str) -> PathBuf {
    Path::new(STATE).join(instance)
}

/// Makes a folder and those above it.
///
/// # Errors
/// What the file system says.
pub fn make(folder: &Path) -> io::Result<()> {
    make_with(folder, sync)
}

/// New content of a file, on the disk beside it. Dropping it leaves the file as it is.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    new: PathBuf,
}

impl Staged {
    /// Writes what shall be at `path`, with these permissions.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(path: &Path, text: &str, mode: u32) -> io::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let staged = Self { path: path.to_owned(), new: new.into() };
        // Left by a crash it may be anything.
        match fs::remove_file(&staged.new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged.new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Puts it in the file's place: a crash leaves the old content or the new one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(self) -> io::Result<()> {
        fs::rename(&self.new, &self.path)?;
        self.path.parent().map_or(Ok(()), sync)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.new);
    }
}

/// Each is on the disk by `sync` of the one that it is in: else a power cut could take what is in it with the
/// folder.
fn make_with(folder: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
    for new in missing.into_iter().rev() {
        DirBuilder::new().recursive(true).mode(0o755).create(new)?;
        new.parent().map_or(Ok(()), &mut sync)?;
    }
    // Says so when it is something else.
    DirBuilder::new().recursive(true).create(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder of a test's own, not made yet; it goes with the test.
    pub(in super::super) struct Folder(pub PathBuf);

    impl Folder {
        pub(in super::super) fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("carp-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_staged_counts_once_it_is_settled() {
        let folder = Folder::new("staged");
        make(&folder.0).unwrap();
        let path = folder.0.join("carp.toml");
        fs::write(&path, "old").unwrap();
        drop(Staged::write(&path, "new", 0o640).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        Staged::write(&path, "new", 0o640).unwrap().settle().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn every_new_folder_is_synced_in_the_one_that_it_is_in_and_no_other() {
        let folder = Folder::new("disk");
        let new = folder.0.join("lib/carp");
        let synced = || {
            let mut synced = Vec::new();
            let sync = |above: &Path| {
                synced.push(above.to_owned());
                Ok(())
            };
            make_with(&new, sync).unwrap();
            synced
        };
        assert_eq!(synced(), [std::env::temp_dir(), folder.0.clone(), folder.0.join("lib")]);
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(synced().is_empty(), "it is there");
        fs::remove_dir(&new).unwrap();
        assert!(make_with(&new, |_| Err(io::ErrorKind::StorageFull.into())).is_err(), "not on the disk");
    }
}
