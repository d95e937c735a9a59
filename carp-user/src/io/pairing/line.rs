//! Messages over the encrypted connection: JSON, in pieces that Noise can seal.

use crate::io::peer::handshake::TAG;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::TransportState;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// Most bytes of a piece before it is sealed.
const PIECE: usize = 32 * 1024;
/// Longest message: more than the largest configuration. Policy: a longer one ends the pairing.
const MOST: usize = 16 << 20;
/// How long a piece may take on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connection of two nodes that are being paired.
pub struct Line {
    stream: TcpStream,
    keys: TransportState,
}

impl Line {
    pub(super) fn new(stream: TcpStream, keys: TransportState) -> Self {
        Self { stream, keys }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn say(&mut self, message: &impl Serialize) -> Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(message)?);
        let length = u32::try_from(text.len())?.to_be_bytes();
        let pieces = [&length[..]].into_iter().chain(text.chunks(PIECE));
        for piece in pieces {
            let mut sealed = vec![0; piece.len() + TAG];
            let length = self.keys.write_message(piece, &mut sealed)?;
            let head = u16::try_from(length)?.to_be_bytes();
            let sent = async {
                self.stream.write_all(&head).await?;
                self.stream.write_all(&sealed[..length]).await?;
                self.stream.flush().await
            };
            tokio::time::timeout(PATIENCE, sent).await.context("the other node does not listen")??;
        }
        Ok(())
    }

    /// The next message, which may take so long to come.
    ///
    /// # Errors
    /// When the connection breaks, or somebody has changed something on the way.
    pub async fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        let head =
            tokio::time::timeout(patience, self.piece()).await.context("the other node does not go on")??;
        let Ok(length) = <[u8; 4]>::try_from(&head[..]) else { bail!("not a message of pairing") };
        let length = usize::try_from(u32::from_be_bytes(length))?;
        if length > MOST {
            bail!("a message of {length} bytes is too long");
        }
        let mut text = Zeroizing::new(Vec::new());
        while text.len() < length {
            let piece = tokio::time::timeout(PATIENCE, self.piece())
                .await
                .context("the other node does not go on")??;
            text.extend_from_slice(&piece);
        }
        // Its words would have what is in it.
        serde_json::from_slice(&text)
            .map_err(|_| anyhow::anyhow!("not a message of pairing: is carpctl there of another version?"))
    }

    async fn piece(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        let closed = "the other node has closed the connection: see what it says";
        let length = usize::from(self.stream.read_u16().await.context(closed)?);
        let mut sealed = vec![0; length];
        self.stream.read_exact(&mut sealed).await.context(closed)?;
        let mut piece = Zeroizing::new(vec![0; length]);
        let length = self.keys.read_message(&sealed, &mut piece);
        let length = length
            .ok()
            .context("somebody has changed what the other node said: the code is spent, pair again")?;
        piece.truncate(length);
        Ok(piece)
    }
}
