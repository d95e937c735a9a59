//! Noise NNpsk0: both ends prove that they have the key, and agree on others that only this connection has. One message
//! each way, and a third, empty one by which the end that called shows that it is no recording.

use crate::config::{SyncKey, SyncKeys};
use snow::TransportState;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Named in every handshake, so that no other protocol's messages fit.
const PROTOCOL: &[u8] = b"carp sync 1";
/// Bytes of each of the two messages: an ephemeral key and an authenticator.
pub const MESSAGE: usize = 48;
/// Bytes that an authenticator adds to a message.
pub const TAG: usize = 16;
/// How long a handshake may take. Policy after that: the connection is closed.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Which of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Dials, and speaks first.
    Caller,
    /// Listens.
    Listener,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The other end has another key, or is no node at all.
    #[error("it does not have this node's key: see to it that `key_file` is the same on both")]
    Key,
    /// The other end closed the connection, as a node with another key does.
    #[error("it closed the connection: see to it that `key_file` is the same on both")]
    Closed,
    /// It took too long.
    #[error("it did not answer in time")]
    Slow,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The session's keys, once the other end has proved that it has a shared one, and which that is. The end that calls tries the
/// first of `keys`, the other one takes any of them.
///
/// # Errors
/// When it has not, or is too slow.
pub async fn shake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    keys: &SyncKeys,
    role: Role,
    (own, peer): (IpAddr, IpAddr),
) -> Result<(TransportState, SyncKey), Failure> {
    let ends = match role {
        Role::Caller => (own, peer),
        Role::Listener => (peer, own),
    };
    match tokio::time::timeout(PATIENCE, converse(stream, keys, role, ends)).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Slow),
    }
}

async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shared: &SyncKeys,
    role: Role,
    (caller, listener): (IpAddr, IpAddr),
) -> Result<(TransportState, SyncKey), Failure> {
    let prologue = [PROTOCOL, &octets(caller), &octets(listener)].concat();
    let noise = |_| Failure::Key;
    let mut message = [0; MESSAGE];
    let mut nothing = [0; MESSAGE];
    Ok(match role {
        Role::Caller => {
            let key = &shared.key;
            let mut state =
                builder(&prologue, key).and_then(snow::Builder::build_initiator).map_err(noise)?;
            state.write_message(&[], &mut message).map_err(noise)?;
            say(stream, &message).await?;
            hear(stream, &mut message).await?;
            state.read_message(&message, &mut nothing).map_err(noise)?;
            let mut keys = state.into_transport_mode().map_err(noise)?;
            let mut proof = [0; TAG];
            keys.write_message(&[], &mut proof).map_err(noise)?;
            say(stream, &proof).await?;
            (keys, key.clone())
        }
        Role::Listener => {
            hear(stream, &mut message).await?;
            // Before any agreement on keys: without a shared one nothing is answered.
            let mut opened = |key: &SyncKey| {
                let mut state = builder(&prologue, key).and_then(snow::Builder::build_responder).ok()?;
                state.read_message(&message, &mut nothing).ok().map(|_| (state, key.clone()))
            };
            let (mut state, key) = shared.iter().find_map(&mut opened).ok_or(Failure::Key)?;
            state.write_message(&[], &mut message).map_err(noise)?;
            say(stream, &message).await?;
            let mut keys = state.into_transport_mode().map_err(noise)?;
            let mut proof = [0; TAG];
            hear(stream, &mut proof).await?;
            keys.read_message(&proof, &mut nothing).map_err(noise)?;
            (keys, key)
        }
    })
}

fn builder<'a>(prologue: &'a [u8], key: &'a SyncKey) -> Result<snow::Builder<'a>, snow::Error> {
    snow::Builder::new(PATTERN.parse()?).prologue(prologue)?.psk(0, key.bytes())
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), Failure> {
    let length = u16::try_from(message.len()).unwrap_or(0).to_be_bytes();
    stream.write_all(&[&length, message].concat()).await?;
    stream.flush().await?;
    Ok(())
}

/// A message of exactly this length; of a longer one no byte is read.
async fn hear(stream: &mut (impl AsyncRead + Unpin), message: &mut [u8]) -> Result<(), Failure> {
    let closed = |error: io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let kind = error.kind();
        if [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&kind) {
            Failure::Closed
        } else {
            Failure::Io(error)
        }
    };
    let length = stream.read_u16().await.map_err(closed)?;
    if usize::from(length) != message.len() {
        return Err(Failure::Key);
    }
    stream.read_exact(message).await.map_err(closed)?;
    Ok(())
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
