//! Pairing two nodes by a code that a person carries: the connection, and the code. Why this and no PAKE: docs/pairing.md.

mod code;
mod line;
pub mod message;

pub use code::{Code, NoCode};
pub use line::Line;

use crate::io::peer::handshake::{self, Failure, Role};
use crate::io::peer::socket;
use anyhow::{Result, bail};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a code is good.
pub const VALID: Duration = Duration::from_secs(600);
/// Wrong codes, after which the right one is void.
pub const TRIES: u32 = 3;
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
    let guessing = async {
        let mut left = TRIES;
        loop {
            let (mut stream, from) = listener.accept().await?;
            let from = from.ip().to_canonical();
            if from != peer {
                told(&format!("{from} is not the peer of this node ({peer}), and is not listened to"));
                continue;
            }
            socket::tune(&stream)?;
            match handshake::shake(&mut stream, &keys, Role::Listener, (local.ip(), peer)).await {
                Ok((transport, _)) => return Ok(Line::new(stream, transport)),
                Err(Failure::Key) => {
                    left -= 1;
                    if left == 0 {
                        bail!(
                            "{TRIES} wrong codes: this one is void now. If it was not you, somebody is on the sync link; say `carpctl pair` again"
                        );
                    }
                    told(&format!("a wrong code from {from}; {left} more, and the right one is void"));
                }
                Err(Failure::Closed | Failure::Slow | Failure::Io(_)) => {
                    told(&format!("a connection from {from} without a code; that costs no try"));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(VALID, guessing).await {
        Ok(done) => done,
        Err(_) => bail!("nobody came within ten minutes: the code is void; say `carpctl pair` again"),
    }
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
