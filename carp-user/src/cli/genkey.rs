//! `carpctl genkey`: the key of the sync link.

use crate::config::SYNC_KEY_LEN;
use crate::io::clock;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Make the key that the two nodes of a pair share.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carpctl genkey /etc/carp/sync.key\n  \
                        scp -p /etc/carp/sync.key gw2:/etc/carp/   # by a way that nobody listens to")]
pub struct Args {
    /// File to write it to, mode 0600. One that is there already is left alone.
    file: PathBuf,
}

/// Writes a new key.
///
/// # Errors
/// When the file is there already or cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let text = key()?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let mut file = opened.with_context(|| format!("making {}", args.file.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", args.file.display()))
}

/// A new key as its file has it, with the end of the line.
///
/// # Errors
/// The kernel's, when it has no randomness.
pub(super) fn key() -> Result<Zeroizing<String>> {
    let mut key = Zeroizing::new([0_u8; SYNC_KEY_LEN]);
    clock::draw(&mut key[..])?;
    // Room for all, so that no copy is left behind unwiped.
    let mut text = Zeroizing::new(String::with_capacity(2 * SYNC_KEY_LEN + 1));
    // Writing to a String cannot fail.
    key.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap_or_default());
    text.push('\n');
    Ok(text)
}
