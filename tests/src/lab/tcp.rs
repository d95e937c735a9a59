//! What each TCP connection of a test begins with, and what it says.

use super::namespace::Namespace;
use anyhow::{Context, Result};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the server listen at this address and port (0: any) and the client connect to it. Who accepts is not said.
///
/// # Errors
/// When the connection cannot be made within ten seconds.
pub fn call(
    client: &Namespace,
    server: &Namespace,
    target: IpAddr,
    port: u16,
) -> Result<(TcpStream, TcpListener)> {
    let listener = server.enter(|| TcpListener::bind(SocketAddr::new(target, port)).context("listening"))?;
    let address = listener.local_addr()?;
    let connect =
        || TcpStream::connect_timeout(&address, PATIENCE).context("connecting through the gateways");
    Ok((client.enter(connect)?, listener))
}

/// Bytes of which no part is like another, so that any change, loss or repetition shows: xorshift.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// The next ones, in whole steps of eight.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.as_chunks_mut::<8>().0 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *eight = self.0.to_be_bytes();
        }
    }
}
