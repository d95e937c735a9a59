//! Files that only their owner may see.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of the file that are looked at; a longer first line is too long anyway.
const READ_LIMIT: usize = 4096;

/// What stands before the name of a credential of systemd's, in the place of a file's name.
const CREDENTIAL: &str = "credential:";
/// The folder of its credentials, for a service.
const FOLDER: &str = "CREDENTIALS_DIRECTORY";
/// The same, for who asks beside the service.
const OF_CARPD: &str = "/run/credentials/carpd.service";
/// Who may read a credential, systemd sees to; for a service with a user it is by an access list, which shows as the
/// group's right to read.
const OTHERS_OF_A_CREDENTIAL: u32 = 0o037;
/// Others than the owner.
const OTHERS: u32 = 0o077;

/// What is in such a file. Wiped when dropped.
pub type Content = Zeroizing<Vec<u8>>;

/// Why one is not read.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be opened or read.
    Unreadable(PathBuf, std::io::Error),
    /// A directory, a device, a pipe.
    NotAFile(PathBuf),
    /// Others than its owner may read or write it; the permission bits.
    TooOpen(PathBuf, u32),
    /// There is no credential of this name.
    NoCredential(String),
}

/// What the configuration names: a file, in this folder unless the name says where, or `credential:NAME`.
///
/// # Errors
/// See [`Problem`].
pub fn read_named(folder: &Path, name: &Path) -> Result<Content, Problem> {
    let Some(credential) = credential(name) else { return read(&folder.join(name)) };
    let folder = std::env::var_os(FOLDER).map_or_else(|| OF_CARPD.into(), PathBuf::from);
    let is_name = !credential.is_empty() && credential != ".." && !credential.contains('/');
    match read_closed_to(&folder.join(credential), OTHERS_OF_A_CREDENTIAL, READ_LIMIT) {
        _ if !is_name => Err(Problem::NoCredential(credential.into())),
        Err(Problem::Unreadable(_, error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Problem::NoCredential(credential.into()))
        }
        read => read,
    }
}

/// The name of the credential that is named in the place of a file.
fn credential(name: &Path) -> Option<&str> {
    name.to_str()?.strip_prefix(CREDENTIAL)
}

/// The first bytes of a regular file that nobody but its owner may read or write.
///
/// # Errors
/// See [`Problem`].
pub fn read(path: &Path) -> Result<Content, Problem> {
    read_up_to(path, READ_LIMIT)
}

/// The same, of which more may be of interest.
///
/// # Errors
/// See [`Problem`].
pub fn read_up_to(path: &Path, limit: usize) -> Result<Content, Problem> {
    read_closed_to(path, OTHERS, limit)
}

fn read_closed_to(path: &Path, others: u32, limit: usize) -> Result<Content, Problem> {
    let unreadable = |error| Problem::Unreadable(path.into(), error);
    // Without NONBLOCK a named pipe would hang here.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(Problem::NotAFile(path.into()));
    }
    if about.mode() & others != 0 {
        return Err(Problem::TooOpen(path.into(), about.mode() & 0o777));
    }
    // One allocation, so that no copy is left behind unwiped.
    let mut content = Zeroizing::new(Vec::with_capacity(limit));
    let limit = u64::try_from(limit).unwrap_or(0);
    file.take(limit).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

/// The first line, without its end.
pub fn first_line(content: &[u8]) -> &[u8] {
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Writes the bytes that these hexadecimal digits say; `None` when they are others, or not as many.
pub fn from_hex(digits: &[u8], bytes: &mut [u8]) -> Option<()> {
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(())
}

impl Problem {
    /// What is wrong with this `kind` of file.
    pub fn text(&self, kind: &str) -> String {
        match self {
            Self::Unreadable(path, error) => format!("cannot read {kind} {}: {error}", path.display()),
            Self::NotAFile(path) => format!("{kind} {} is not a regular file", path.display()),
            Self::TooOpen(path, mode) => {
                format!("{kind} {} is open to others (mode {mode:04o})", path.display())
            }
            Self::NoCredential(name) => format!("there is no credential \"{name}\" to be the {kind}"),
        }
    }

    /// What to do about it; `missing` says it for a file that is not there.
    pub fn help(&self, missing: impl FnOnce(&Path) -> String) -> String {
        match self {
            Self::Unreadable(path, error) if error.kind() == std::io::ErrorKind::NotFound => missing(path),
            Self::Unreadable(path, _) => format!("carpd runs as root; let root read {}", path.display()),
            Self::NotAFile(_) => "name a regular file".into(),
            Self::TooOpen(path, _) => format!("chmod 0600 {}", path.display()),
            Self::NoCredential(name) => format!(
                "write LoadCredential={name}:FILE into the unit of carpd; carpctl finds it while carpd.service runs"
            ),
        }
    }
}
