//! One encrypted TCP connection with the peer on the sync link. The node with the lower address calls, the other one listens, so there
//! is one; it is made anew whenever it ends. Who has not a key gets no answer, and costs next to nothing.

mod channel;
pub(crate) mod handshake;
pub(crate) mod socket;

pub use handshake::{Failure, Role};

use crate::config::{SyncKey, SyncKeys};
use crate::proto::sync::message::MAX_MESSAGE;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Frames that wait to be sent: more than a session has in flight. Policy when full: the connection is given up, as it does
/// not carry what a session sends.
const OUTGOING: usize = 256;
/// Frames that wait to be looked at. Policy when full: nothing more is read, and the peer has to wait.
const INCOMING: usize = 16;
/// Handshakes at a time. Policy when full: further connections are closed unread.
const HANDSHAKES: usize = 4;
/// Handshakes a second, at most. Policy beyond: connections are closed unread.
const HANDSHAKES_A_SECOND: u32 = 10;
/// How long until the first new call, and the longest pause between two.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Where the two nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// This node's address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The device of the sync link; without one any way to the peer will do.
    pub device: Option<String>,
}

/// What comes from the peer.
#[derive(Debug)]
pub enum Heard {
    /// There is a connection, and the peer has proved that it has the key.
    Connected(Line),
    /// It sent this.
    Frame(Vec<u8>),
    /// The connection is over.
    Disconnected,
}

/// The way out of one connection. When it is dropped the connection is closed.
#[derive(Debug)]
pub struct Line {
    out: mpsc::Sender<Vec<u8>>,
    /// What both have proved to have.
    key: SyncKey,
}

/// The handshake is done.
struct Connection {
    stream: TcpStream,
    transport: snow::TransportState,
    key: SyncKey,
}

/// Connections with the peer, one after the other.
#[derive(Debug)]
pub struct Peer {
    incoming: mpsc::Receiver<Heard>,
    line: Option<Line>,
    keys: watch::Sender<SyncKeys>,
    task: AbortHandle,
}

impl Place {
    /// Which end this node is.
    pub fn role(&self) -> Role {
        if self.local.ip() < self.peer.ip() { Role::Caller } else { Role::Listener }
    }
}

impl Peer {
    /// Starts to call or to listen. Call it inside a tokio runtime with IO and time enabled. Dropping it ends everything.
    pub fn open(place: Place, keys: SyncKeys) -> Self {
        let (sender, incoming) = mpsc::channel(INCOMING);
        let (keys, known) = watch::channel(keys);
        let task = match place.role() {
            Role::Caller => tokio::spawn(keep_calling(place, known, sender)),
            Role::Listener => tokio::spawn(keep_listening(place, known, sender)),
        };
        Self { incoming, line: None, keys, task: task.abort_handle() }
    }

    /// These keys are good from now on. A connection that was made with another one is closed.
    pub fn set_keys(&mut self, keys: SyncKeys) {
        self.line.take_if(|line| !keys.iter().any(|key| *key == line.key));
        self.keys.send_replace(keys);
    }

    /// What the connection was made with, if there is one.
    pub fn key(&self) -> Option<&SyncKey> {
        self.line.as_ref().map(|line| &line.key)
    }

    /// The next thing from the peer. Dropping the future loses nothing.
    pub async fn heard(&mut self) -> Happening {
        match self.incoming.recv().await {
            Some(heard) => self.take(heard),
            // The task ends only with this value.
            None => std::future::pending().await,
        }
    }

    /// What has come already, if anything has.
    pub fn waiting(&mut self) -> Option<Happening> {
        self.incoming.try_recv().ok().map(|heard| self.take(heard))
    }

    fn take(&mut self, heard: Heard) -> Happening {
        match heard {
            // The key is good no more: this closes it.
            Heard::Connected(line) if !self.keys.borrow().iter().any(|key| *key == line.key) => {
                self.line = None;
                Happening::Disconnected
            }
            Heard::Connected(line) => {
                self.line = Some(line);
                Happening::Connected
            }
            Heard::Frame(frame) => Happening::Frame(frame),
            Heard::Disconnected => {
                self.line = None;
                Happening::Disconnected
            }
        }
    }

    /// Sends a frame of at most [`MAX_MESSAGE`] bytes. Without a connection it is lost; what is lost with a connection is
    /// the session's to send again.
    pub fn send(&mut self, frame: Vec<u8>) {
        debug_assert!(frame.len() <= MAX_MESSAGE, "a frame of {} bytes", frame.len());
        if let Some(line) = &self.line
            && line.out.try_send(frame).is_err()
        {
            tracing::warn!("the sync connection does not carry what is to be sent: it is made anew");
            self.line = None;
        }
    }

    /// Closes the connection; another one will be made.
    pub fn disconnect(&mut self) {
        self.line = None;
    }
}

/// What happens on the sync link.
#[derive(Debug, PartialEq, Eq)]
pub enum Happening {
    /// There is a connection, and the peer has proved that it has the key.
    Connected,
    /// The peer sent this.
    Frame(Vec<u8>),
    /// The connection is over.
    Disconnected,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_calling(place: Place, keys: watch::Receiver<SyncKeys>, incoming: mpsc::Sender<Heard>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    let mut turn = 0;
    loop {
        let known: Vec<SyncKey> = keys.borrow().iter().cloned().collect();
        match call(&place, known[turn.min(known.len() - 1)].clone()).await {
            Ok(connection) => {
                (pause, told, turn) = (FIRST_PAUSE, false, 0);
                converse(connection, &incoming).await;
            }
            // Who has another key says so by its silence.
            Err(Failure::Key | Failure::Closed) if turn + 1 < known.len() => turn += 1,
            Err(failure) => {
                turn = 0;
                if std::mem::replace(&mut told, true) {
                    tracing::debug!(peer = %place.peer, "no sync connection: {failure}");
                } else {
                    tracing::warn!(peer = %place.peer, "no sync connection: {failure}; this node keeps trying");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn call(place: &Place, key: SyncKey) -> Result<Connection, Failure> {
    let stream = socket::call(place.local, place.peer, place.device.as_deref()).await?;
    shake(stream, place, &key.into(), Role::Caller).await
}

async fn shake(
    mut stream: TcpStream,
    place: &Place,
    keys: &SyncKeys,
    role: Role,
) -> Result<Connection, Failure> {
    socket::tune(&stream)?;
    let ends = (place.local.ip(), place.peer.ip());
    let (transport, key) = handshake::shake(&mut stream, keys, role, ends).await?;
    Ok(Connection { stream, transport, key })
}

async fn keep_listening(place: Place, keys: watch::Receiver<SyncKeys>, incoming: mpsc::Sender<Heard>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    let listener = loop {
        match socket::listen(place.local, place.device.as_deref()) {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(local = %place.local, "cannot listen for the sync peer: {error}; this node keeps trying");
                }
                tokio::time::sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
    };
    listen(&listener, &place, &keys, &incoming).await;
}

/// Accepts for ever. A new connection takes the place of the one that is: the peer makes one only when it has none.
async fn listen(
    listener: &TcpListener,
    place: &Place,
    keys: &watch::Receiver<SyncKeys>,
    incoming: &mpsc::Sender<Heard>,
) {
    let mut handshakes = JoinSet::new();
    let mut conversation = JoinSet::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut left = HANDSHAKES_A_SECOND;
    let mut told = false;
    loop {
        tokio::select! {
            _ = second.tick() => left = HANDSHAKES_A_SECOND,
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, from)) if from.ip().to_canonical() == place.peer.ip() => stream,
                    Ok((_, from)) => {
                        tracing::debug!(%from, "a stranger at the sync port");
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accepting at the sync port");
                        // Out of descriptors, say: not at once again.
                        tokio::time::sleep(FIRST_PAUSE).await;
                        continue;
                    }
                };
                if left == 0 || handshakes.len() >= HANDSHAKES {
                    tracing::debug!("too many handshakes at the sync port");
                    continue;
                }
                left -= 1;
                let (place, keys) = (place.clone(), keys.borrow().clone());
                handshakes.spawn(async move { shake(stream, &place, &keys, Role::Listener).await });
            }
            Some(done) = handshakes.join_next() => match done {
                Ok(Ok(connection)) => {
                    told = false;
                    // Ends the one before; a second `Connected` tells so.
                    conversation.shutdown().await;
                    let incoming = incoming.clone();
                    conversation.spawn(async move { converse(connection, &incoming).await });
                }
                Ok(Err(failure)) if !told => {
                    told = true;
                    tracing::warn!(peer = %place.peer, "a sync connection was refused: {failure}");
                }
                Ok(Err(failure)) => tracing::debug!(peer = %place.peer, "a sync connection was refused: {failure}"),
                Err(error) => tracing::debug!(%error, "a handshake ended"),
            },
            Some(_) = conversation.join_next() => {}
        }
    }
}

/// Tells of a connection, carries its frames, and tells of its end.
async fn converse(connection: Connection, incoming: &mpsc::Sender<Heard>) {
    let Connection { stream, transport, key } = connection;
    let (out, outgoing) = mpsc::channel(OUTGOING);
    if incoming.send(Heard::Connected(Line { out, key })).await.is_err() {
        return;
    }
    if let Err(error) = channel::carry(stream, transport, outgoing, incoming).await {
        tracing::debug!(%error, "the sync connection broke");
    }
    let _ = incoming.send(Heard::Disconnected).await;
}

#[cfg(test)]
mod tests;
