//! A TCP connection through a gateway that speaks when told to, every byte checked.

use super::namespace::Namespace;
use super::tcp::{self, Noise};
use anyhow::{Context, Result, anyhow, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

/// Bytes that are on their way at a time: more than a kernel's window at first, so that windows matter.
const CHUNK: usize = 200_000;

/// A connection whose two ends are the test's own.
pub struct Talk {
    /// The end that has connected.
    pub client: TcpStream,
    /// The other one.
    pub server: TcpStream,
    noise: Noise,
}

impl Talk {
    /// Connects the client to a port of the server (0: any) at this address.
    ///
    /// # Errors
    /// When the connection cannot be made within ten seconds.
    pub fn start(client: &Namespace, server: &Namespace, target: IpAddr, port: u16) -> Result<Self> {
        let (client, listener) = tcp::call(client, server, target, port)?;
        let (server, _) = listener.accept()?;
        Self::between(client, server)
    }

    /// A connection that is there.
    ///
    /// # Errors
    /// When it is over.
    pub fn between(client: TcpStream, server: TcpStream) -> Result<Self> {
        for end in [&client, &server] {
            end.set_nodelay(true)?;
        }
        Ok(Self { client, server, noise: Noise::default() })
    }

    /// So many bytes each way.
    ///
    /// # Errors
    /// When none have come for as long as `patience`, or others.
    pub fn exchange(&mut self, bytes: usize, patience: Duration) -> Result<()> {
        for _ in 0..bytes.div_ceil(CHUNK) {
            one_way(&self.client, &self.server, &mut self.noise, patience).context("to the server")?;
            one_way(&self.server, &self.client, &mut self.noise, patience).context("to the client")?;
        }
        Ok(())
    }
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream, noise: &mut Noise, patience: Duration) -> Result<()> {
    let mut sent = vec![0; CHUNK];
    noise.fill(&mut sent);
    from.set_write_timeout(Some(patience))?;
    to.set_read_timeout(Some(patience))?;
    let mut received = vec![0; CHUNK];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| from.write_all(&sent));
        to.read_exact(&mut received).context("silence")?;
        writer.join().map_err(|_| anyhow!("the writer panicked"))?.context("stuck")
    })?;
    ensure!(sent == received, "it came changed");
    Ok(())
}
