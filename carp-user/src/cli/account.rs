//! `carpctl account`: who may call this node by XML-RPC.

use super::instance;
use super::table::columns;
use crate::api::remote::Access;
use crate::config::private::{self, first_line};
use crate::io::accounts::{self, Account, Accounts};
use anyhow::{Context, Result, anyhow, bail};
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Say who may call this node by XML-RPC over HTTPS (docs/xmlrpc.md). Of passwords only Argon2id hashes are kept; carpd knows of
/// a change at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carpctl account add backup-script --read-only\n  \
                        carpctl account add gw2 --peer --password-file gw2.password\n  carpctl account list\n  carpctl account remove backup-script")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Add an account, or give one another password. Without a file the password is a new one, and is printed.
    Add {
        /// Its name: 1 to 64 of a-z, A-Z, 0-9, -, _ and .
        name: String,
        /// It may call only what changes nothing.
        #[arg(long)]
        read_only: bool,
        /// It is the peer's: good only together with the pinned certificate.
        #[arg(long)]
        peer: bool,
        /// File whose first line is the password, mode 0600; - for standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Remove an account.
    Remove {
        /// Its name.
        name: String,
    },
    /// List all accounts.
    List,
}

/// Does it.
///
/// # Errors
/// What the file system says; a name or password that cannot be one.
pub fn run(args: &Args, name: Option<&str>) -> Result<()> {
    let accounts = Accounts::of(&instance::configured(name)?);
    match &args.verb {
        Verb::Add { name, read_only, peer, password_file } => {
            let access = if *read_only { Access::Read } else { Access::Full };
            let password = match password_file {
                Some(file) => read(file)?,
                None => accounts::password()?,
            };
            accounts.set(name, &password, access, *peer).context("adding the account")?;
            if password_file.is_none() {
                super::print(&format!("{}\n", *password));
            }
        }
        Verb::Remove { name } => {
            if !accounts.remove(name).context("removing the account")? {
                bail!("there is no account {name}: see `carpctl account list`");
            }
        }
        Verb::List => {
            let row = |Account { name, access, peer, .. }: &Account| {
                let access = match access {
                    Access::Read => "read-only",
                    Access::Full => "full",
                };
                vec![name.clone(), access.to_owned(), if *peer { "of the peer" } else { "" }.to_owned()]
            };
            let list = accounts.list().context("reading the accounts")?;
            let head = ["NAME", "ACCESS", "WITH"].map(str::to_owned).to_vec();
            super::print(&columns(&[head].into_iter().chain(list.iter().map(row)).collect::<Vec<_>>()));
        }
    }
    Ok(())
}

/// The first line of a file that nobody else may read, or of standard input.
///
/// # Errors
/// What the file system says; what is no text.
pub(super) fn read(file: &Path) -> Result<Zeroizing<String>> {
    let content = if file == Path::new("-") {
        let mut content = Zeroizing::new(Vec::with_capacity(MOST));
        std::io::stdin().take(u64::try_from(MOST)?).read_to_end(&mut content)?;
        content
    } else {
        private::read(file).map_err(|problem| {
            let help = problem.help(|path| format!("write the password into {}, mode 0600", path.display()));
            anyhow!("{}: {help}", problem.text("password file"))
        })?
    };
    let line = std::str::from_utf8(first_line(&content)).context("the password is not UTF-8")?;
    Ok(Zeroizing::new(line.to_owned()))
}

/// Bytes of standard input that are looked at.
const MOST: usize = 4096;
