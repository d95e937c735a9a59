//! The control socket: a unix stream, one JSON request a line, one JSON response a line.

use super::readers::{self, GROUP};
use crate::api::{Request, Response};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Longest request, bytes. Policy when longer: the connection is closed.
const REQUEST_MAX: u64 = 16 * 1024;
/// Requests waiting for the daemon. Policy when full: the client waits.
const WAITING: usize = 16;
/// Connections at a time. Policy when full: new ones wait in the socket's backlog.
const CONNECTIONS: usize = 32;
/// Policy for a client that connects and says nothing, or asks and does not read: closed after this
/// time.
const IDLE: Duration = Duration::from_secs(10);
/// How long a client waits for a daemon that may be stopped: to be let in, and for its answer.
const ANSWER: Duration = Duration::from_secs(1);
/// The same for a daemon that has to read its files and to prepare what they say first, or to wait for another node.
const RELOAD: Duration = Duration::from_secs(60);

/// A request, and where its answer goes.
pub type Call = (Request, oneshot::Sender<Response>);

/// The way into a daemon, and the way out for what comes in by it.
pub fn door() -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
    mpsc::channel(WAITING)
}

/// Starts to listen at `path`, in place of a dead daemon's socket, for root and [`GROUP`].
/// Requests go to the daemon's [`door`]; it ends the service by dropping the receiver.
///
/// # Errors
/// What the file system says.
pub fn listen(path: &Path, calls: mpsc::Sender<Call>) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Err(error) = readers::give(path, 0o660) {
        tracing::warn!(%error, "the control socket cannot be given to group {GROUP}: only root may read the status");
    }
    tokio::spawn(serve(listener, calls));
    Ok(())
}

/// Asks the daemon behind the socket at `path`. Blocks, for a second as a rule when it is silent; longer when it has work
/// to do first.
///
/// # Errors
/// When nobody listens there, or the answer is none.
pub fn call(path: &Path, request: &Request) -> std::io::Result<Response> {
    // Clients that a stopped daemon has not let in fill its queue, so connecting needs a limit too.
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    let does_work = matches!(
        request,
        Request::Reload { .. }
            | Request::Apply { .. }
            | Request::Confirm
            | Request::Push
            | Request::PeerText
            | Request::Failover { .. }
            | Request::Maintenance { .. }
    );
    socket.set_read_timeout(Some(if does_work { RELOAD } else { ANSWER }))?;
    socket.set_write_timeout(Some(ANSWER))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let mut stream = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(socket));
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = calls.closed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &calls).await {
                        tracing::debug!(%error, "control connection");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, calls: &mpsc::Sender<Call>) -> std::io::Result<()> {
    let client = stream.peer_cred()?;
    let (reader, mut writer) = stream.split();
    let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_MAX));
    let mut line = String::new();
    loop {
        line.clear();
        reader.get_mut().set_limit(REQUEST_MAX);
        let read = tokio::time::timeout(IDLE, reader.read_line(&mut line)).await??;
        if read == 0 || !line.ends_with('\n') {
            return Ok(());
        }
        let response = answer(&line, &client, calls).await;
        let mut text = serde_json::to_string(&response)?;
        text.push('\n');
        tokio::time::timeout(IDLE, writer.write_all(text.as_bytes())).await??;
    }
}

async fn answer(line: &str, client: &UCred, calls: &mpsc::Sender<Call>) -> Response {
    let refuse = |message: String| Response::Error { message };
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return refuse(format!("not a request: {error}")),
    };
    if request.changes_something() && client.uid() != 0 {
        return refuse("only root may change anything: run it with sudo".to_owned());
    }
    let (sender, receiver) = oneshot::channel();
    if calls.send((request, sender)).await.is_err() {
        return refuse("the daemon is stopping".to_owned());
    }
    receiver.await.unwrap_or_else(|_| refuse("the daemon is stopping".to_owned()))
}
