//! Which daemon a `carpctl` talks to.

use crate::api::{Request, Response};
use crate::io::control;
use crate::io::instance::{RUN, SOCKET};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Asks the named instance, or the only one there is.
///
/// # Errors
/// No instance, several, or one that does not answer: each with what to do.
pub fn ask(instance: Option<&str>, request: &Request) -> Result<Response> {
    let socket = match instance {
        Some(name) => Path::new(RUN).join(name).join(SOCKET),
        None => only_socket()?,
    };
    let response = control::call(&socket, request).with_context(|| {
        format!("no answer from {}: is carpd running (and are you root, or in its group)?", socket.display())
    })?;
    match response {
        Response::Error { message } => bail!(message),
        Response::Status(_) | Response::Done => Ok(response),
    }
}

fn only_socket() -> Result<PathBuf> {
    let entries = std::fs::read_dir(RUN).map(|entries| entries.flatten().collect::<Vec<_>>());
    let sockets = entries.unwrap_or_default().into_iter().map(|entry| entry.path().join(SOCKET));
    let mut sockets: Vec<PathBuf> = sockets.filter(|socket| socket.exists()).collect();
    sockets.sort();
    match sockets.as_slice() {
        [only] => Ok(only.clone()),
        [] => bail!("no carpd runs here ({RUN} has no control socket): start `carpd --config FILE`"),
        several => {
            let names: Vec<String> = several.iter().filter_map(|socket| instance_of(socket)).collect();
            bail!("several instances run here ({}): name one with --instance", names.join(", "))
        }
    }
}

fn instance_of(socket: &Path) -> Option<String> {
    Some(socket.parent()?.file_name()?.to_string_lossy().into_owned())
}
