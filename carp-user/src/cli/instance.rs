//! Which daemon a `carpctl` talks to.

use super::files::Files;
use crate::api::{Request, Response};
use crate::io::bpf;
use crate::io::control;
use crate::io::instance::{RUN, SOCKET};
use crate::io::readers;
use anyhow::{Result, anyhow, bail};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Nobody answers on the control socket.
#[derive(Debug, thiserror::Error)]
#[error("carpd does not answer on {}: {source}", .socket.display())]
pub struct Silence {
    socket: PathBuf,
    source: io::Error,
}

/// Asks the named instance, or the only one there is.
///
/// # Errors
/// No instance, several, or one that does not answer: each with what to do.
pub fn ask(instance: Option<&str>, request: &Request) -> Result<Response> {
    match call(&resolve(instance)?, request)? {
        Ok(response) => Ok(response),
        Err(silence) => bail!("{silence}: start it, or see `carpctl status`"),
    }
}

/// What it answers is none to what it was asked.
pub fn something_else() -> anyhow::Error {
    anyhow!("carpd answered something else: is it of another version?")
}

/// Asks the instance of this name. The inner error is its silence.
///
/// # Errors
/// When this user may not ask it, or it refuses.
pub fn call(name: &str, request: &Request) -> Result<Result<Response, Silence>> {
    let socket = Path::new(RUN).join(name).join(SOCKET);
    match control::call(&socket, request) {
        Ok(Response::Error { message }) => bail!(message),
        Ok(response) => Ok(Ok(response)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "{} is for root and for group {}: run it with sudo, or join that group (make it, and restart \
             carpd, if there is none)",
            socket.display(),
            readers::GROUP
        ),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            bail!("carpd answered what this carpctl does not understand ({error}): is it of another version?")
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let source =
                io::Error::new(io::ErrorKind::TimedOut, "it takes too long: is it stopped, or starved?");
            Ok(Err(Silence { socket, source }))
        }
        Err(source) => Ok(Err(Silence { socket, source })),
    }
}

/// The name of the instance that is meant, whether it runs or not: this one, or the only one that left a trace, or that of the
/// configuration in its usual place.
///
/// # Errors
/// As [`resolve`], when there is no configuration there either.
pub fn configured(instance: Option<&str>) -> Result<String> {
    resolve(instance).or_else(|error| {
        let files = Files::at(PathBuf::from("/etc/carp/carp.toml"), None);
        files.load().map(|config| config.node.name).map_err(|_| error)
    })
}

/// The name of the instance that is meant: this one, or the only one that left a trace.
///
/// # Errors
/// None, or several: each with what to do. A name that cannot be one.
pub fn resolve(instance: Option<&str>) -> Result<String> {
    if let Some(name) = instance {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) {
            bail!("{name:?} cannot be the name of an instance: use 1 to 32 of a-z, 0-9 and -");
        }
        return Ok(name.to_owned());
    }
    let entries = std::fs::read_dir(RUN).map(|entries| entries.flatten().collect::<Vec<_>>());
    let running = entries.unwrap_or_default().into_iter().filter(|entry| entry.path().join(SOCKET).exists());
    let running = running.filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = running.chain(bpf::pinned_instances()).collect();
    let several = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => bail!("no carpd runs here ({RUN} has no control socket): start `carpd --config FILE`"),
        (Some(_), Some(_)) => bail!("several instances run here ({several}): name one with --instance"),
    }
}
