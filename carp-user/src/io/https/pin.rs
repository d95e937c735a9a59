//! The fingerprint of the peer's certificate, by which alone it is trusted.

use crate::io::disk::{self, Staged};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// SHA-256 of a certificate (DER). Compared in any time: it is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// What is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is sha256: and 64 hexadecimal digits, as `carpctl peer fingerprint` on the other node prints it"
)]
pub struct NoFingerprint;

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// With or without `sha256:`, and with or without colons, as openssl writes it.
impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let text = text.trim();
        let digits: Vec<u8> =
            text.strip_prefix(PREFIX).unwrap_or(text).bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        crate::config::private::from_hex(&digits, &mut bytes).ok_or(NoFingerprint)?;
        Ok(Self(bytes))
    }
}

const PREFIX: &str = "sha256:";

/// The peer's, if one is pinned. Read for every handshake, so that a new one counts at once.
///
/// # Errors
/// What the file system says; a file that has no fingerprint.
pub fn read(instance: &str) -> io::Result<Option<Fingerprint>> {
    match fs::read_to_string(file(instance)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text?.parse().map(Some).map_err(io::Error::other),
    }
}

/// Pins this one in place of any other.
///
/// # Errors
/// What the file system says.
pub fn write(instance: &str, fingerprint: Fingerprint) -> io::Result<()> {
    disk::make(&disk::state_of(instance))?;
    Staged::write(&file(instance), &format!("{fingerprint}\n"), 0o600)?.settle()
}

/// Pins none.
///
/// # Errors
/// What the file system says.
pub fn remove(instance: &str) -> io::Result<()> {
    match fs::remove_file(file(instance)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn file(instance: &str) -> PathBuf {
    disk::state_of(instance).join("peer.pin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written_and_as_openssl_writes_it() {
        let fingerprint = Fingerprint([0xab; 32]);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert_eq!(["AB"; 32].join(":").parse(), Ok(fingerprint));
        for wrong in ["", "sha256:", "sha256:abc", &"ab".repeat(31), &"zz".repeat(32)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint));
        }
    }
}
