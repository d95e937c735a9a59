//! Who may call this node by XML-RPC: names, and Argon2id hashes of passwords, in a file of the instance.

use super::clock;
use super::disk::{self, Staged};
use crate::api::remote::Access;
use crate::config::private;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Block, Params};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Most accounts of an instance. Policy: one more is refused.
pub const MOST: usize = 32;
/// Longest name, and longest password, bytes. Policy: a longer one is nobody's.
pub const MOST_NAME: usize = 64;
/// See [`MOST_NAME`].
pub const MOST_PASSWORD: usize = 128;
/// More than they all need, bytes.
const MOST_BYTES: usize = 64 * 1024;
/// Random bytes beside each password.
const SALT: usize = 16;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// What it may call.
    pub access: Access,
    /// It is the peer's: good only together with the pinned certificate.
    pub peer: bool,
    /// Argon2id of its password, as a PHC string.
    hash: String,
}

/// Those of one instance.
#[derive(Clone, Debug)]
pub struct Accounts {
    file: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    accounts: Vec<Account>,
}

impl Accounts {
    /// Of the instance of this name.
    pub fn of(instance: &str) -> Self {
        Self { file: disk::state_of(instance).join("accounts.json") }
    }

    /// All of them.
    ///
    /// # Errors
    /// What the file system says; a file that others may read, or that is none of ours.
    pub fn list(&self) -> io::Result<Vec<Account>> {
        if !self.file.exists() {
            return Ok(Vec::new());
        }
        let content = private::read_up_to(&self.file, MOST_BYTES).map_err(|problem| {
            io::Error::other(format!(
                "{}: {}",
                problem.text("accounts file"),
                problem.help(|_| String::new())
            ))
        })?;
        Ok(serde_json::from_slice::<Content>(&content)?.accounts)
    }

    /// Adds one, or replaces that of the same name. Takes a moment, as hashing does.
    ///
    /// # Errors
    /// A name or password that cannot be one, too many accounts, what the file system says.
    pub fn set(&self, name: &str, password: &str, access: Access, peer: bool) -> io::Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MOST_NAME || !name.bytes().all(is_plain) {
            return Err(io::Error::other(format!(
                "a name has 1 to {MOST_NAME} of a-z, A-Z, 0-9, -, _ and ."
            )));
        }
        if !(LEAST_PASSWORD..=MOST_PASSWORD).contains(&password.len()) {
            return Err(io::Error::other(format!(
                "a password has {LEAST_PASSWORD} to {MOST_PASSWORD} bytes"
            )));
        }
        let mut accounts = self.list()?;
        accounts.retain(|account| account.name != name);
        if accounts.len() >= MOST {
            return Err(io::Error::other(format!(
                "there are {MOST} accounts: remove one (carpctl account remove)"
            )));
        }
        accounts.push(Account { name: name.to_owned(), access, peer, hash: hash(password)? });
        self.write(accounts)
    }

    /// Removes one; whether there was one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let mut accounts = self.list()?;
        let before = accounts.len();
        accounts.retain(|account| account.name != name);
        let removed = accounts.len() < before;
        if removed {
            self.write(accounts)?;
        }
        Ok(removed)
    }

    fn write(&self, accounts: Vec<Account>) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            disk::make(folder)?;
        }
        let text = serde_json::to_string_pretty(&Content { accounts })?;
        Staged::write(&self.file, &format!("{text}\n"), 0o600)?.settle()
    }
}

/// Tells right passwords from wrong ones, in memory of its own (19 MiB, once it is used): where each hash had new memory, the
/// allocator would keep much of it.
#[derive(Debug, Default)]
pub struct Verifier {
    memory: Vec<Block>,
}

impl Verifier {
    /// The account of this name, if the password is its. It takes as long when there is no such account.
    pub fn verify(&mut self, accounts: Vec<Account>, name: &str, password: &str) -> Option<Account> {
        let account = accounts.into_iter().find(|account| account.name == name);
        let hash = account.as_ref().map_or(NOBODY, |account| &account.hash);
        let is_right = self.is_right(password, hash).unwrap_or(false);
        account.filter(|_| is_right && password.len() <= MOST_PASSWORD)
    }

    /// None for a hash of another cost than ours.
    fn is_right(&mut self, password: &str, hash: &str) -> Option<bool> {
        let known = PasswordHash::new(hash).ok().filter(|_| hash.starts_with(COST))?;
        let (salt, expected) = (known.salt?, known.hash?);
        self.memory.resize_with(Params::DEFAULT.block_count(), Block::default);
        let mut digest = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
        Argon2::default()
            .hash_password_into_with_memory(
                password.as_bytes(),
                salt.as_ref(),
                &mut digest[..],
                &mut self.memory,
            )
            .ok()?;
        Some(digest[..].ct_eq(expected.as_bytes()).into())
    }
}

/// A new password of 192 random bits, in letters that need no care anywhere.
///
/// # Errors
/// The kernel's, when it has no randomness.
pub fn password() -> Result<Zeroizing<String>, super::error::Error> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut drawn = Zeroizing::new([0_u8; 32]);
    clock::draw(&mut drawn[..])?;
    // Room for all, so that no copy is left behind unwiped.
    let mut text = Zeroizing::new(String::with_capacity(drawn.len()));
    text.extend(drawn.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])));
    Ok(text)
}

const LEAST_PASSWORD: usize = 8;
/// How a hash of ours begins: with what it costs.
const COST: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
/// The hash of a password that nobody has: 64 zero bits would be hard to find.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hash(password: &str) -> io::Result<String> {
    let mut salt = [0; SALT];
    clock::draw(&mut salt).map_err(io::Error::other)?;
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| io::Error::other(error.to_string()))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_account_is_known_by_its_password_and_of_that_only_a_hash_is_kept() {
        let folder = std::env::temp_dir().join(format!("carp-accounts-{}", std::process::id()));
        let accounts = Accounts { file: folder.join("accounts.json") };
        assert_eq!(accounts.list().unwrap(), []);
        let password = password().unwrap();
        accounts.set("gw2", &password, Access::Full, true).unwrap();
        accounts.set("script", "correct horse", Access::Read, false).unwrap();
        let list = accounts.list().unwrap();
        let text = std::fs::read_to_string(&accounts.file).unwrap();
        assert!(
            text.contains("$argon2id$") && !text.contains(&*password) && !text.contains("horse"),
            "{text}"
        );
        assert_eq!(std::fs::metadata(&accounts.file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut verifier = Verifier::default();
        let mut verify = |accounts: &[Account], name: &str, password: &str| {
            verifier.verify(accounts.to_vec(), name, password)
        };
        let known = verify(&list, "script", "correct horse").expect("known");
        assert_eq!((known.access, known.peer), (Access::Read, false));
        assert_eq!(verify(&list, "script", "correct hors"), None);
        assert_eq!(verify(&list, "gw2", "correct horse"), None);
        assert_eq!(verify(&list, "nobody", "correct horse"), None);
        assert!(accounts.set("a b", "correct horse", Access::Read, false).is_err());
        assert!(accounts.set("ab", "short", Access::Read, false).is_err());
        assert!(accounts.remove("gw2").unwrap() && !accounts.remove("gw2").unwrap());
        assert_eq!(accounts.list().unwrap().len(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_is_nobody_costs_as_much_as_an_account() {
        let text = hash("a password").expect("hashed");
        assert!(text.starts_with(COST) && NOBODY.starts_with(COST));
        assert_eq!(
            Verifier::default().is_right("a password", NOBODY),
            Some(false),
            "it is looked at to the end"
        );
    }
}
