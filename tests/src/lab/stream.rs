//! TCP connections from the client to the server that live through a fail-over, every byte
//! checked.

use super::clock;
use super::namespace::Namespace;
use super::tcp::{self, Noise};
use anyhow::{Context, Result, anyhow, ensure};
use carp_common::time::Span;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// Longest silence of the connection: several retransmissions, each twice as late as the last.
const PATIENCE: Span = Span::secs(20);

/// How much a connection has to say.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes that are on their way at a time, in steps of eight. Both ends have room for 32 KiB in their sockets.
    pub block: usize,
    /// From when they have come back until the next leave.
    pub pause: Span,
}

impl Default for Load {
    fn default() -> Self {
        Self { block: 64, pause: Span::millis(5) }
    }
}

/// A connection in use.
pub struct Stream {
    stop: Arc<AtomicBool>,
    blocks: Arc<AtomicU64>,
    broke: Arc<OnceLock<String>>,
    client: JoinHandle<Result<u64>>,
    server: JoinHandle<Result<()>>,
}

impl Stream {
    /// Connects to a new echo server at `target`, an address of `server`.
    ///
    /// # Errors
    /// When the connection cannot be made within ten seconds.
    pub fn start(client: &Namespace, server: &Namespace, target: IpAddr) -> Result<Self> {
        Self::start_with(client, server, target, Load::default())
    }

    /// The same with more or less to say.
    ///
    /// # Errors
    /// As [`Stream::start`].
    pub fn start_with(client: &Namespace, server: &Namespace, target: IpAddr, load: Load) -> Result<Self> {
        let (stream, listener) = tcp::call(client, server, target, 0)?;
        Self::between(stream, listener, load)
    }

    /// Over a connection that is made already, and that an echo server is to accept here.
    ///
    /// # Errors
    /// When it is over.
    pub fn between(stream: TcpStream, listener: TcpListener, load: Load) -> Result<Self> {
        let server = thread::spawn(move || echo(&listener));
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE.std()))?;
        let (stop, blocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&blocks));
        let broke = Arc::new(OnceLock::new());
        let told = Arc::clone(&broke);
        let client = thread::spawn(move || {
            talk(stream, load, &stopped, &counted).inspect_err(|why| drop(told.set(format!("{why:#}"))))
        });
        Ok(Self { stop, blocks, broke, client, server })
    }

    /// Blocks that have come back right so far.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Ends it when it speaks next, or else is given up, and does not wait for that.
    pub fn abandon(self) {
        self.stop.store(true, Ordering::Relaxed);
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

/// Waits until each has had so many blocks come back that left after this moment.
///
/// # Errors
/// When one is silent or broke, with all of which that is so.
pub fn all_talk(streams: &[Stream], blocks: u64) -> Result<()> {
    // One may be on its way.
    let wanted: Vec<u64> = streams.iter().map(|stream| stream.blocks() + 1 + blocks).collect();
    let missing = || {
        let all = streams.iter().zip(&wanted).enumerate();
        all.filter(|(_, (stream, wanted))| stream.blocks() < **wanted)
    };
    let end = clock::now() + PATIENCE;
    while missing().next().is_some() {
        let broken = streams.iter().filter_map(|stream| stream.broke.get()).collect::<Vec<_>>();
        ensure!(broken.is_empty(), "{} connections broke: {broken:?}", broken.len());
        let silent = || missing().map(|(number, _)| number).collect::<Vec<_>>();
        ensure!(clock::now() < end, "silent after {PATIENCE}: {:?} of {}", silent(), streams.len());
        clock::sleep(Span::millis(10));
    }
    Ok(())
}

/// Which of them have a block come back within `patience` that left after this moment.
pub fn talking(streams: &[Stream], patience: Span) -> Vec<bool> {
    // One may be on its way.
    let wanted: Vec<u64> = streams.iter().map(|stream| stream.blocks() + 2).collect();
    let talk = || -> Vec<bool> {
        streams.iter().zip(&wanted).map(|(stream, wanted)| stream.blocks() >= *wanted).collect()
    };
    let all = || talk().iter().all(|talks| *talks).then_some(());
    // That some do not is an answer, too.
    clock::wait_for("all connections", patience, all).ok();
    talk()
}

/// Closes all in order.
///
/// # Errors
/// When one broke or something came back changed; names all of which that is so.
pub fn finish_all(streams: Vec<Stream>) -> Result<()> {
    // Each goes on to the end of its pause.
    streams.iter().for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
    let ends = streams.into_iter().map(Stream::finish).enumerate();
    let broken: Vec<_> = ends
        .filter_map(|(number, end)| end.err().map(|why| format!("connection {number}: {why:#}")))
        .collect();
    ensure!(broken.is_empty(), "{} broke:\n{}", broken.len(), broken.join("\n"));
    Ok(())
}

fn echo(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut block = vec![0; 1 << 15];
    loop {
        let len = stream.read(&mut block)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(block.get(..len).unwrap_or_default())?;
    }
}

fn talk(mut stream: TcpStream, load: Load, stop: &AtomicBool, blocks: &AtomicU64) -> Result<u64> {
    let mut noise = Noise::default();
    let (mut block, mut back) = (vec![0; load.block], vec![0; load.block]);
    while !stop.load(Ordering::Relaxed) {
        noise.fill(&mut block);
        stream.write_all(&block).context("the TCP connection broke")?;
        stream.read_exact(&mut back).context("the TCP connection broke, or was silent too long")?;
        ensure!(back == block, "block {} came back changed", blocks.load(Ordering::Relaxed));
        blocks.fetch_add(1, Ordering::Relaxed);
        clock::sleep(load.pause);
    }
    Ok(blocks.load(Ordering::Relaxed))
}
