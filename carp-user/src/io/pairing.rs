//! Pairing two nodes by a code that a person carries: the connection, and the code. Why this and no PAKE: docs/pairing.md.

mod code;
mod line;
pub mod message;

pub use code::{Code, NoCode};
pub use line::Line;

use crate::config::SyncKeys;
use crate::io::clock;
use crate::io::peer::handshake::{self, Failure, Role};
use crate::io::peer::socket;
use crate::proto::pairing::Validity;
use anyhow::{Result, bail};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

/// Pause between two handshakes: nobody guesses faster.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits at `local` for the node that has the code, and for it alone: others from its address are guessers. `told` hears of each
/// of those.
///
/// # Errors
/// The code is void: too many were wrong, or its time is over. What the kernel says.
pub async fn wait(
    local: SocketAddr,
    device: &str,
    peer: IpAddr,
    code: &Code,
    mut told: impl FnMut(&str),
) -> Result<Line> {
    let listener = socket::listen(local, Some(device))?;
    let keys = code.key().into();
    let mut validity = Validity::new(clock::now());
    loop {
        let left = validity.check(clock::now())?;
        let knock = knock(&listener, &keys, (local.ip(), peer));
        // Whoever is not done in time has come too late: the next look says so.
        let Ok(knocked) = tokio::time::timeout(left.std(), knock).await else { continue };
        match knocked? {
            Knock::Stranger(from) => {
                told(&format!("{from} is not the peer of this node ({peer}), and is not listened to"));
                continue;
            }
            Knock::Peer(line) => return Ok(line),
            Knock::Wrong => {
                let more = validity.guessed()?;
                told(&format!("a wrong code from {peer}; {more} more, and the right one is void"));
            }
            Knock::Silent => {
                told(&format!("a connection from {peer} without a code; that costs no try"));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Somebody has come.
enum Knock {
    /// From another address.
    Stranger(IpAddr),
    /// The one that has the code.
    Peer(Line),
    /// With another code.
    Wrong,
    /// Without one.
    Silent,
}

async fn knock(listener: &TcpListener, keys: &SyncKeys, (local, peer): (IpAddr, IpAddr)) -> Result<Knock> {
    let (mut stream, from) = listener.accept().await?;
    let from = from.ip().to_canonical();
    if from != peer {
        return Ok(Knock::Stranger(from));
    }
    socket::tune(&stream)?;
    Ok(match handshake::shake(&mut stream, keys, Role::Listener, (local, peer)).await {
        Ok((transport, _)) => Knock::Peer(Line::new(stream, transport)),
        Err(Failure::Key) => Knock::Wrong,
        Err(Failure::Closed | Failure::Slow | Failure::Io(_)) => Knock::Silent,
    })
}

/// Calls the node that has made the code. Gives the address that this one has on the way there, too.
///
/// # Errors
/// When it is not to be reached, or has another code.
pub async fn call(place: SocketAddr, device: &str, own: IpAddr, code: &Code) -> Result<Line> {
    let mut stream = match socket::call((own, 0).into(), place, Some(device)).await {
        Ok(stream) => stream,
        Err(error) => bail!("nobody pairs at {place}: {error}; is `carpctl pair` running there?"),
    };
    socket::tune(&stream)?;
    match handshake::shake(&mut stream, &code.key().into(), Role::Caller, (own, place.ip())).await {
        Ok((transport, _)) => Ok(Line::new(stream, transport)),
        Err(Failure::Key | Failure::Closed) => {
            bail!(
                "{place} has another code, or waits for a node of another address: compare with what `carpctl pair` says there"
            )
        }
        Err(failure @ (Failure::Slow | Failure::Io(_))) => bail!("{place}: {failure}"),
    }
}

#[cfg(test)]
mod tests;
