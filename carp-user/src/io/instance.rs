//! One daemon per instance: a lock with its pid in `/run/carp/NAME`, next to the control socket.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where every instance has a directory.
pub const RUN: &str = "/run/carp";
/// Name of the control socket in it.
pub const SOCKET: &str = "control.sock";
const LOCK: &str = "lock";

/// Holds the instance for this process, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    _lock: File,
}

/// Why an instance is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another carpd has this name.
    #[error(
        "node {name} runs already, as process {pid}: stop it first (kill {pid}), or give this one another \
         name in [node]"
    )]
    Taken {
        /// Name of the node.
        name: String,
        /// Its process.
        pid: String,
    },
    /// The directory or the lock cannot be made.
    #[error("{path}: {source}: carpd needs to write there; run it as root")]
    Io {
        /// Which file.
        path: String,
        /// What the file system says.
        source: io::Error,
    },
}

impl Instance {
    /// Takes the instance of this name.
    ///
    /// # Errors
    /// [`Error::Taken`] with the pid of the daemon that has it, or what the file system says.
    pub fn take(name: &str) -> Result<Self, Error> {
        let directory = Path::new(RUN).join(name);
        let path = directory.join(LOCK);
        let failed = |source| Error::Io { path: path.display().to_string(), source };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(&directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut lock = options.open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(failed)?;
                return Err(Error::Taken { name: name.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where its control socket goes.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }
}

/// Removes what it has in the file system; the parent too when no other instance is left.
impl Drop for Instance {
    fn drop(&mut self) {
        for file in [SOCKET, LOCK] {
            let _ = std::fs::remove_file(self.directory.join(file));
        }
        let _ = std::fs::remove_dir(&self.directory);
        let _ = std::fs::remove_dir(RUN);
    }
}

/// The pid in the lock of a running instance.
pub fn pid_of(name: &str) -> Option<String> {
    let pid = std::fs::read_to_string(Path::new(RUN).join(name).join(LOCK)).ok()?;
    Some(pid.trim().to_owned())
}
