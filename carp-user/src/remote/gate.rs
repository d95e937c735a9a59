//! Who calls: an account by its password, checked beside the reactor, a few at a time.

use super::lockout::{Lockout, Who};
use crate::api::remote::Access;
use crate::io::accounts::{Account, Accounts, MOST_NAME, MOST_PASSWORD, Verifier};
use crate::io::clock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carp_common::time::Span;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// An account that has been let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name.
    pub user: String,
    /// From where.
    pub from: IpAddr,
    /// What it may call.
    pub access: Access,
    /// It has shown the pinned certificate.
    pub is_peer: bool,
}

/// For the list of revisions, and for the log.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.from)
    }
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not known by that name and password, or without the pinned certificate.
    Unknown,
    /// There were too many wrong passwords; so long yet.
    Wait(Span),
    /// The accounts cannot be read.
    Broken,
}

/// What was proved once on a connection: the digest of the header, and the account as it was then.
#[derive(Debug)]
pub(super) struct Known {
    header: [u8; 32],
    account: Account,
}

/// Of one instance.
#[derive(Debug)]
pub(super) struct Gate {
    accounts: Accounts,
    lockout: Mutex<Lockout>,
    /// One password at a time: each takes 19 MiB and some hundredths of a second. Policy beyond: requests wait.
    verifier: Arc<tokio::sync::Mutex<Verifier>>,
}

impl Gate {
    pub fn new(instance: &str) -> Self {
        Self { accounts: Accounts::of(instance), lockout: Mutex::default(), verifier: Arc::default() }
    }

    /// Who sends this header. Who has been known on this connection still is, unless the account has changed meanwhile.
    pub async fn admit(
        &self,
        (from, is_peer): (IpAddr, bool),
        header: Option<&[u8]>,
        known: &mut Option<Known>,
    ) -> Result<Caller, Refused> {
        let header = header.ok_or(Refused::Unknown)?;
        let (user, password) = credentials(header).ok_or(Refused::Unknown)?;
        let who = Who { from, is_peer, user };
        if let Some(left) = self.locked(|lockout| lockout.wait(&who, clock::now())) {
            return Err(Refused::Wait(left));
        }
        let digest: [u8; 32] = Sha256::digest(header).into();
        let accounts = self.accounts.list().map_err(|error| {
            tracing::error!("XML-RPC: {error}");
            Refused::Broken
        })?;
        let was_known = known
            .as_ref()
            .filter(|known| bool::from(known.header.ct_eq(&digest)) && accounts.contains(&known.account));
        let account = match was_known {
            Some(known) => Some(known.account.clone()),
            None => self.verify(accounts, &who, password).await,
        };
        // The peer's is good for nobody else, whatever the password.
        let Some(account) = account.filter(|account| is_peer || !account.peer) else {
            self.locked(|lockout| lockout.failed(&who, clock::now()));
            tracing::info!(user = ?who.user, %from, is_peer, "XML-RPC: not known by that name and password");
            return Err(Refused::Unknown);
        };
        self.locked(|lockout| lockout.passed(&who));
        let access = account.access;
        *known = Some(Known { header: digest, account });
        Ok(Caller { user: who.user, from, access, is_peer })
    }

    async fn verify(
        &self,
        accounts: Vec<Account>,
        who: &Who,
        password: Zeroizing<String>,
    ) -> Option<Account> {
        let mut verifier = Arc::clone(&self.verifier).lock_owned().await;
        // Others may have guessed meanwhile.
        if self.locked(|lockout| lockout.wait(who, clock::now())).is_some() {
            return None;
        }
        let user = who.user.clone();
        tokio::task::spawn_blocking(move || verifier.verify(accounts, &user, &password)).await.ok()?
    }

    fn locked<T>(&self, does: impl FnOnce(&mut Lockout) -> T) -> T {
        does(&mut self.lockout.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Name and password of a header; none for one that cannot be anybody's.
fn credentials(header: &[u8]) -> Option<(String, Zeroizing<String>)> {
    let encoded = header.strip_prefix(b"Basic ").or_else(|| header.strip_prefix(b"basic "))?;
    if encoded.len() > 2 * (MOST_NAME + MOST_PASSWORD) {
        return None;
    }
    let plain = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (user, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    let fits = !user.is_empty() && user.len() <= MOST_NAME && password.len() <= MOST_PASSWORD;
    fits.then(|| (user.to_owned(), Zeroizing::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_name_and_password_or_nothing() {
        let header = |plain: &str| format!("Basic {}", STANDARD.encode(plain)).into_bytes();
        let (user, password) = credentials(&header("a:b:c")).expect("right");
        assert_eq!((user.as_str(), password.as_str()), ("a", "b:c"));
        for wrong in [&b"Bearer x"[..], b"Basic !!", b"Basic", b"", &header("nocolon"), &header(":x")] {
            assert_eq!(credentials(wrong), None);
        }
        assert_eq!(credentials(&header(&format!("a:{}", "x".repeat(MOST_PASSWORD + 1)))), None);
    }
}
