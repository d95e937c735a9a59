//! A TCP connection from the client to the server that lives through a fail-over, every byte
//! checked.

use super::clock;
use super::namespace::Namespace;
use anyhow::{Context, Result, anyhow, ensure};
use carp_common::time::Span;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

const PACE: Span = Span::millis(5);
/// Longest silence of the connection: several retransmissions, each twice as late as the last.
const PATIENCE: Span = Span::secs(20);
const BLOCK: usize = 64;

/// A connection in use.
pub struct Stream {
    stop: Arc<AtomicBool>,
    blocks: Arc<AtomicU64>,
    client: JoinHandle<Result<u64>>,
    server: JoinHandle<Result<()>>,
}

impl Stream {
    /// Connects to a new echo server at `target`, an address of `server`.
    ///
    /// # Errors
    /// When the connection cannot be made within ten seconds.
    pub fn start(client: &Namespace, server: &Namespace, target: IpAddr) -> Result<Self> {
        let listener =
            server.enter(|| TcpListener::bind(SocketAddr::new(target, 0)).context("echo server"))?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || echo(&listener));
        let stream = client.enter(|| {
            TcpStream::connect_timeout(&address, Span::secs(10).std())
                .context("connecting through the gateways")
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE.std()))?;
        let (stop, blocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&blocks));
        let client = thread::spawn(move || talk(stream, &stopped, &counted));
        Ok(Self { stop, blocks, client, server })
    }

    /// Blocks that have come back right so far.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Closes it in order and gives the number of blocks that came back.
    ///
    /// # Errors
    /// When the connection broke, or a block came back changed.
    pub fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let blocks = self.client.join().map_err(|_| anyhow!("the client's thread panicked"))??;
        self.server.join().map_err(|_| anyhow!("the server's thread panicked"))??;
        Ok(blocks)
    }
}

fn echo(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut block = [0; BLOCK];
    loop {
        let len = stream.read(&mut block)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(block.get(..len).unwrap_or_default())?;
    }
}

fn talk(mut stream: TcpStream, stop: &AtomicBool, blocks: &AtomicU64) -> Result<u64> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    while !stop.load(Ordering::Relaxed) {
        let mut block = [0; BLOCK];
        for bytes in block.as_chunks_mut::<8>().0 {
            // xorshift: any change, loss or repetition shows.
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *bytes = word.to_be_bytes();
        }
        stream.write_all(&block).context("the TCP connection broke")?;
        let mut back = [0; BLOCK];
        stream.read_exact(&mut back).context("the TCP connection broke, or was silent too long")?;
        ensure!(back == block, "block {} came back changed", blocks.load(Ordering::Relaxed));
        blocks.fetch_add(1, Ordering::Relaxed);
        clock::sleep(PACE);
    }
    Ok(blocks.load(Ordering::Relaxed))
}
