//! One daemon per instance: a lock with its pid in `/run/carp/NAME`, next to the control socket.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where every instance has a directory.
pub const RUN: &str = "/run/carp";
/// Name of the control socket in it.
pub const SOCKET: &str = "control.sock";
const LOCK: &str = "lock";

/// Holds the instance for this process, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Instance {
    name: String,
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
    /// Another carpd has an interface.
    #[error(
        "{interface} belongs to carpd instance {instance}, process {pid}: stop that one first (kill {pid}), \
         or take {interface} out of one of the two configurations"
    )]
    Rival {
        /// The interface.
        interface: String,
        /// Name of the other node.
        instance: String,
        /// Its process.
        pid: String,
    },
    /// A killed carpd left its datapath on an interface.
    #[error(
        "{interface} still has the datapath of carpd instance {instance}, which was killed: start it again, \
         or remove what it left (carpctl cleanup {instance})"
    )]
    Orphan {
        /// The interface.
        interface: String,
        /// Name of the other node.
        instance: String,
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
        builder.recursive(true).mode(0o755);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        // Again when one that stops has removed its lock between our opening and locking it, or when
        // another instance is just looking whether a killed one runs ([`Other::running`]).
        for _again in 0..RACES {
            builder.create(&directory).map_err(failed)?;
            let mut lock = options.open(&path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    lock.read_to_string(&mut pid).map_err(failed)?;
                    let pid = pid.trim().to_owned();
                    if Path::new("/proc").join(&pid).exists() {
                        return Err(Error::Taken { name: name.to_owned(), pid });
                    }
                    std::thread::yield_now();
                    continue;
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            if is_at(&lock, &path) {
                lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
                return Ok(Self { name: name.to_owned(), directory, _lock: lock });
            }
        }
        Err(failed(io::ErrorKind::ResourceBusy.into()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its control socket goes.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Where a file of this name goes that is of this instance. A file that is left there keeps the
    /// directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
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

/// Another running instance on this machine.
#[derive(Clone, Debug)]
pub struct Other {
    name: String,
    pid: String,
}

impl Other {
    /// The instance of this name, if it runs.
    pub fn running(name: &str) -> Option<Self> {
        let mut lock = File::open(Path::new(RUN).join(name).join(LOCK)).ok()?;
        // A lock that is to be had is a dead daemon's, and its pid may be another program's by now.
        if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut pid = String::new();
        lock.read_to_string(&mut pid).ok()?;
        Some(Self { name: name.to_owned(), pid: pid.trim().to_owned() })
    }

    /// Its process.
    pub fn pid(&self) -> &str {
        &self.pid
    }

    /// Where its file of this name is.
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new(RUN).join(&self.name).join(name)
    }

    /// What to say when it has an interface that is wanted.
    pub fn of(self, interface: &str) -> Error {
        Error::Rival { interface: interface.to_owned(), instance: self.name, pid: self.pid }
    }
}

/// All running instances but that of this name.
pub fn others(own: &str) -> Vec<Other> {
    let entries = std::fs::read_dir(RUN).map(|entries| entries.flatten().collect::<Vec<_>>());
    let others = entries.unwrap_or_default().into_iter().filter(|entry| entry.file_name() != own);
    others.filter_map(|entry| Other::running(entry.file_name().to_str()?)).collect()
}

/// How often that is tried; each lasts some microseconds only.
const RACES: usize = 64;

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |about: io::Result<std::fs::Metadata>| about.ok().map(|about| (about.dev(), about.ino()));
    let there = inode(std::fs::metadata(path));
    there.is_some() && inode(file.metadata()) == there
}
