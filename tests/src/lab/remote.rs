//! Callers of a gateway's XML-RPC.

use super::carpd::Carpd;
use super::clock;
use super::duo::PATIENCE;
use super::pair::Pair;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where gw1 of a pair answers.
pub const PLACE: &str = "10.77.9.2:7113";

/// Adds an account by these words; its new password.
///
/// # Errors
/// When carpctl refuses.
pub fn account(carpd: &Carpd, words: &[&str]) -> Result<String> {
    let said = carpd.carpctl(&[&["account", "add"], words].concat())?;
    ensure!(said.status.success(), "{said:?}");
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

/// The fingerprint of a gateway's certificate.
///
/// # Errors
/// When carpctl refuses.
pub fn fingerprint(carpd: &Carpd) -> Result<String> {
    let said = carpd.carpctl(&["peer", "fingerprint"])?;
    ensure!(said.status.success(), "{said:?}");
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

/// Has a gateway trust this certificate.
///
/// # Errors
/// When carpctl refuses.
pub fn pin(carpd: &Carpd, fingerprint: &str) -> Result<()> {
    let said = carpd.carpctl(&["peer", "pin", fingerprint])?;
    ensure!(said.status.success(), "{said:?}");
    Ok(())
}

/// Writes the certificate of a gateway into a file beside its configuration.
///
/// # Errors
/// When carpctl refuses.
pub fn certificate(carpd: &Carpd) -> Result<PathBuf> {
    let said = carpd.carpctl(&["peer", "certificate"])?;
    ensure!(said.status.success(), "{said:?}");
    let file = carpd.files().carp.with_file_name("certificate.pem");
    fs::write(&file, said.stdout)?;
    Ok(file)
}

/// Writes a file that nobody else may read.
///
/// # Errors
/// When it cannot be written.
pub fn write_secret(file: &Path, text: &str) -> Result<()> {
    fs::write(file, format!("{text}\n"))?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}

/// Waits until gw1 listens for XML-RPC, as seen from the other one.
///
/// # Errors
/// When it does not.
pub fn answers(pair: &Pair, from: &Carpd) -> Result<()> {
    let place: SocketAddr = PLACE.parse()?;
    pair.gw2().enter(|| {
        clock::wait_for("XML-RPC to be there", PATIENCE, || TcpStream::connect(place).ok().map(drop))
    })?;
    // Its own, by its first start.
    ensure!(from.carpctl(&["peer", "fingerprint"])?.status.success(), "no certificate");
    Ok(())
}

/// A script in Python of the tests.
pub fn python(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// Runs a command on a gateway with this on its standard input; what it says, good or bad.
///
/// # Errors
/// When it cannot be started.
pub fn with_input(carpd: &Carpd, mut command: Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = carpd.namespace().enter(move || Ok(command.spawn()?))?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
}
