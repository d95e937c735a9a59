//! The key of the sync link.

use super::private::{self, first_line, from_hex};
use crate::proto::sync::identity::Identity;
use carp_common::auth::ProbeKey;
use carp_common::map::ProbeKeys;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// Bytes of the key.
pub const SYNC_KEY_LEN: usize = 32;

/// What the two nodes of a pair prove themselves to each other with. Wiped when dropped, blind in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncKey([u8; SYNC_KEY_LEN]);

/// The keys that are good for a session: while keys change there are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncKeys {
    /// Tried first.
    pub key: SyncKey,
    /// As good.
    pub next: Option<SyncKey>,
}

impl SyncKeys {
    /// By which probes of this group are signed on the sync link, the one that is tried first by who asks.
    pub fn probe_keys(&self, group: &str) -> ProbeKeys {
        let next = self.next.as_ref().map(|next| next.probe_key(group));
        let count = if next.is_some() { 2 } else { 1 };
        ProbeKeys { keys: [self.key.probe_key(group), next.unwrap_or_default()], count, epoch: 0 }
    }

    /// In the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &SyncKey> {
        [&self.key].into_iter().chain(&self.next)
    }
}

impl From<SyncKey> for SyncKeys {
    fn from(key: SyncKey) -> Self {
        Self { key, next: None }
    }
}

/// Why a file gives no key. `Display` says it without a word of the content.
#[derive(Debug)]
pub enum Problem {
    /// The file itself.
    File(private::Problem),
    /// Its first line is not 64 hexadecimal digits.
    NotAKey(PathBuf),
    /// It is all zeros, which is no secret.
    Zero(PathBuf),
}

impl SyncKey {
    /// The key in a file with this content; `path` is for the message only.
    ///
    /// # Errors
    /// [`Problem::NotAKey`], [`Problem::Zero`].
    pub fn from_content(path: &Path, content: &[u8]) -> Result<Self, Problem> {
        let mut key = Self([0; SYNC_KEY_LEN]);
        from_hex(first_line(content), &mut key.0).ok_or_else(|| Problem::NotAKey(path.into()))?;
        if key.0 == [0; SYNC_KEY_LEN] { Err(Problem::Zero(path.into())) } else { Ok(key) }
    }

    /// Makes the numbers of flows, which follow from the key and do not tell it.
    pub fn identity(&self) -> Identity {
        let digest: [u8; 32] =
            Sha256::new().chain_update(b"carp sync: numbers of flows").chain_update(self.0).finalize().into();
        let word =
            |at| digest.as_chunks::<8>().0.get(at).map_or(0, |bytes: &[u8; 8]| u64::from_be_bytes(*bytes));
        Identity::new([word(0), word(1)])
    }

    /// By which probes of this group are signed on the sync link.
    pub fn probe_key(&self, group: &str) -> ProbeKey {
        let hash = Sha256::new().chain_update(b"carp sync: probes of a group").chain_update(self.0);
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] =
            hash.chain_update(group).finalize().into();
        ProbeKey::of(key)
    }

    /// For whom must encrypt with it.
    pub const fn bytes(&self) -> &[u8; SYNC_KEY_LEN] {
        &self.0
    }
}

impl From<[u8; SYNC_KEY_LEN]> for SyncKey {
    fn from(bytes: [u8; SYNC_KEY_LEN]) -> Self {
        Self(bytes)
    }
}

impl Drop for SyncKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SyncKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncKey(…)")
    }
}

impl Problem {
    /// What to do about it.
    pub fn help(&self) -> String {
        let make = |path: &Path| {
            let path = path.display();
            format!("make one with carpctl genkey {path}, and copy it to the other node")
        };
        match self {
            Self::File(problem) => problem.help(make),
            Self::NotAKey(path) | Self::Zero(path) => make(path),
        }
    }
}

impl From<private::Problem> for Problem {
    fn from(problem: private::Problem) -> Self {
        Self::File(problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(problem) => f.write_str(&problem.text("key file")),
            Self::NotAKey(path) => {
                write!(f, "the first line of key file {} is not 64 hexadecimal digits", path.display())
            }
            Self::Zero(path) => write!(f, "the key in {} is all zeros", path.display()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixty_four_digits_and_not_all_zeros() {
        let path = Path::new("k");
        let key = SyncKey::from_content(path, format!("{}\n", "0a".repeat(32)).as_bytes());
        assert_eq!(key.expect("right").bytes(), &[10; 32]);
        for wrong in ["", "hex:00", &"0a".repeat(31), &"0g".repeat(32), &"00".repeat(32)] {
            let problem = SyncKey::from_content(path, wrong.as_bytes()).expect_err(wrong);
            assert!(problem.help().contains("carpctl genkey k"), "{problem}");
        }
    }

    #[test]
    fn a_key_is_blind_in_debug() {
        assert_eq!(format!("{:?}", SyncKey::from([7; 32])), "SyncKey(…)");
    }
}
