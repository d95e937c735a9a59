//! The key that two nodes share: 32 bytes in a file that only its owner may read.

use crate::proto::sync::identity::Identity;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the key.
pub const KEY_LEN: usize = 32;
/// Bytes of the file that are looked at.
const READ_LIMIT: usize = 256;

/// The shared key. Wiped when dropped, blind in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_LEN]);

/// Why a file gives no key. `Display` says it without a word of the content.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be opened or read.
    Unreadable(PathBuf, std::io::Error),
    /// A directory, a device, a pipe.
    NotAFile(PathBuf),
    /// Others than its owner may read or write it; the permission bits.
    TooOpen(PathBuf, u32),
    /// There is something else in it than 64 hexadecimal digits.
    NoKey(PathBuf),
    /// All its bytes are the same: it was not drawn.
    Weak(PathBuf),
}

impl Key {
    /// Reads a file of mode 0600: one line of 64 hexadecimal digits.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let unreadable = |error| Problem::Unreadable(path.into(), error);
        // Without NONBLOCK a named pipe would hang here.
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(Problem::NotAFile(path.into()));
        }
        if about.mode() & 0o077 != 0 {
            return Err(Problem::TooOpen(path.into(), about.mode() & 0o777));
        }
        // One allocation, so that no copy is left behind unwiped.
        let mut content = Zeroizing::new(Vec::with_capacity(READ_LIMIT));
        file.take(u64::try_from(READ_LIMIT).unwrap_or(0)).read_to_end(&mut content).map_err(unreadable)?;
        let key = Self::from_digits(content.trim_ascii()).ok_or_else(|| Problem::NoKey(path.into()))?;
        if key.0.iter().all(|byte| *byte == key.0[0]) {
            return Err(Problem::Weak(path.into()));
        }
        Ok(key)
    }

    /// From its bytes.
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// What a key file holds: its digits and the end of the line.
    pub fn to_line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 1));
        for digit in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            line.extend(char::from_digit(digit.into(), 16));
        }
        line.push('\n');
        line
    }

    /// The key of the flows' numbers, which follows from this one and does not tell it.
    pub fn identity(&self) -> Identity {
        let mut hash = Sha256::new();
        hash.update(b"carp sync: numbers of flows");
        hash.update(self.0);
        let digest: [u8; 32] = hash.finalize().into();
        let [first, second, ..] = digest.as_chunks::<8>().0 else { return Identity::new([0; 2]) };
        Identity::new([u64::from_be_bytes(*first), u64::from_be_bytes(*second)])
    }

    pub(super) const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn from_digits(digits: &[u8]) -> Option<Self> {
        if digits.len() != 2 * KEY_LEN {
            return None;
        }
        let mut key = Self([0; KEY_LEN]);
        for (byte, pair) in key.0.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        Some(key)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Problem {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable(path, error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("make one with `carpctl genkey > {}` and copy it to the other node", path.display())
            }
            Self::Unreadable(path, _) => format!("carpd runs as root; let root read {}", path.display()),
            Self::NotAFile(_) => "name a regular file".into(),
            Self::TooOpen(path, _) => format!("chmod 0600 {}", path.display()),
            Self::NoKey(_) => "write 64 hexadecimal digits, as `carpctl genkey` prints them".into(),
            Self::Weak(_) => "use a key that `carpctl genkey` has drawn".into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read key file {}: {error}", path.display()),
            Self::NotAFile(path) => write!(f, "key file {} is not a regular file", path.display()),
            Self::TooOpen(path, mode) => {
                write!(f, "key file {} is open to others (mode {mode:04o})", path.display())
            }
            Self::NoKey(path) => write!(f, "key file {} does not hold a key of 32 bytes", path.display()),
            Self::Weak(path) => write!(f, "the key in {} is one byte, 32 times", path.display()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_holds_64_digits_and_is_closed_to_others() {
        let path = std::env::temp_dir().join(format!("carp-sync-key-{}", std::process::id()));
        let key = Key::new(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        std::fs::write(&path, key.to_line().as_bytes()).unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Key::read(&path).map_err(|problem| format!("{problem}; {}", problem.help()))
        };
        let name = path.display();
        assert_eq!(
            with_mode(0o640).unwrap_err(),
            format!("key file {name} is open to others (mode 0640); chmod 0600 {name}")
        );
        assert_eq!(with_mode(0o600).unwrap(), key);
        let with_content = |content: &str| {
            std::fs::write(&path, content).unwrap();
            Key::read(&path).map_err(|problem| problem.to_string())
        };
        let line = key.to_line();
        assert_eq!(with_content(&line.to_uppercase()).unwrap(), key);
        assert_eq!(with_content(line.trim_end()).unwrap(), key);
        for wrong in ["", "\n", &line[1..], &format!("{}0\n", line.trim_end()), &line.replace('1', "g")] {
            let error = with_content(wrong).unwrap_err();
            assert!(error.ends_with("does not hold a key of 32 bytes"), "{wrong:?}: {error}");
        }
        assert!(with_content(&"00".repeat(32)).unwrap_err().contains("one byte, 32 times"));
        std::fs::remove_file(&path).unwrap();
        let gone = Key::read(&path).unwrap_err();
        assert!(gone.help().contains("carpctl genkey"), "{gone}");
        assert!(matches!(Key::read(&std::env::temp_dir()), Err(Problem::NotAFile(_))));
    }

    #[test]
    fn a_key_is_blind_in_debug_and_its_numbers_are_another_secret() {
        let key = Key::new([7; KEY_LEN]);
        assert_eq!(format!("{key:?} {:?}", key.identity()), "Key(…) Identity(…)");
    }
}
