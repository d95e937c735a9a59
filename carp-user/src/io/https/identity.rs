//! The certificate of this node and its key: made once, and kept.

use super::Fingerprint;
use crate::config::private;
use crate::io::disk;
use anyhow::{Context, Result, anyhow};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a node shows itself by. Blind in `Debug`.
pub struct Identity {
    /// Self-signed; who knows its fingerprint trusts it.
    pub certificate: CertificateDer<'static>,
    /// Of the certificate.
    pub key: PrivateKeyDer<'static>,
    /// The certificate as text.
    pub pem: String,
}

impl Identity {
    /// That of this instance; a new one when it has none.
    ///
    /// # Errors
    /// What the file system says, or a file that is open to others or holds something else: with what to do.
    pub fn of(instance: &str) -> Result<Self> {
        let path = file(instance);
        if !path.exists() {
            make(instance, &path).with_context(|| format!("making {}", path.display()))?;
        }
        let content = private::read(&path).map_err(|problem| {
            let help = problem.help(|_| "start it again".to_owned());
            anyhow!("{}: {help}", problem.text("certificate file"))
        })?;
        Self::parse(&content).with_context(|| {
            format!(
                "{} holds no certificate and key: remove it, and pin the new one on the other node",
                path.display()
            )
        })
    }

    /// Of its certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    fn parse(content: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(content)?;
        let begin = text.find(CERTIFICATE).context("no certificate")?;
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(content)?,
            key: PrivateKeyDer::from_pem_slice(content)?,
            pem: text[begin..].to_owned(),
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The key, then the certificate, in one file: so that there never is one without the other. Whoever comes first makes it.
fn make(instance: &str, path: &Path) -> Result<()> {
    disk::make(&disk::state_of(instance))?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([instance.to_owned(), "carp".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, format!("carp node {instance}"));
    let certificate = params.self_signed(&key)?;
    let text = Zeroizing::new(format!("{}{}", key.serialize_pem(), certificate.pem()));
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let placed = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new);
    match placed {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn file(instance: &str) -> PathBuf {
    disk::state_of(instance).join("identity.pem")
}
