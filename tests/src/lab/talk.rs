//! A TCP connection through a gateway that speaks when told to, every byte checked.

use super::namespace::Namespace;
use anyhow::{Context, Result, anyhow, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes that are on their way at a time: more than a kernel's window at first, so that windows matter.
const CHUNK: usize = 200_000;

/// A connection whose two ends are the test's own.
pub struct Talk {
    /// The end that has connected.
    pub client: TcpStream,
    /// The other one.
    pub server: TcpStream,
    word: u64,
}

impl Talk {
    /// Connects the client to a port of the server (0: any) at this address.
    ///
    /// # Errors
    /// When the connection cannot be made within ten seconds.
    pub fn start(client: &Namespace, server: &Namespace, target: IpAddr, port: u16) -> Result<Self> {
        let listener = server.enter(|| Ok(TcpListener::bind(SocketAddr::new(target, port))?))?;
        let address = listener.local_addr()?;
        let client = client
            .enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)).context("connecting"))?;
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
        Ok(Self { client, server, word: 0x9e37_79b9_7f4a_7c15 })
    }

    /// So many bytes each way.
    ///
    /// # Errors
    /// When none have come for as long as `patience`, or others.
    pub fn exchange(&mut self, bytes: usize, patience: Duration) -> Result<()> {
        for _ in 0..bytes.div_ceil(CHUNK) {
            one_way(&self.client, &self.server, &mut self.word, patience).context("to the server")?;
            one_way(&self.server, &self.client, &mut self.word, patience).context("to the client")?;
        }
        Ok(())
    }
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream, word: &mut u64, patience: Duration) -> Result<()> {
    let mut sent = vec![0; CHUNK];
    for bytes in sent.as_chunks_mut::<8>().0 {
        // xorshift: any change, loss or repetition shows.
        *word ^= *word << 13;
        *word ^= *word >> 7;
        *word ^= *word << 17;
        *bytes = word.to_be_bytes();
    }
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
