//! A long download over TCP, from the server to the client, as somebody fetches a file.

use super::clock;
use super::namespace::Namespace;
use super::tcp::{self, Noise};
use anyhow::{Context, Result, anyhow};
use carp_common::time::Span;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The server sends so much at a time ...
const CHUNK: usize = 32 * 1024;
/// ... and so often: 26 Mbit/s leave the machine to others.
const PACE: Span = Span::millis(10);
/// Longest silence: several retransmissions, each twice as late as the last.
const PATIENCE: Span = Span::secs(30);

/// A running download.
pub struct Download {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Received>,
    server: JoinHandle<Result<Sum>>,
}

type Sum = [u8; 32];

/// What the client got.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How much came.
    pub bytes: u64,
    /// The longest time in which nothing came.
    pub longest_stall: Span,
    /// All that was sent came, and as it was sent.
    pub is_whole: bool,
    /// How the connection broke, if it did: a reset, or a silence without end.
    pub broke: Option<String>,
}

struct Received {
    bytes: u64,
    longest_stall: Span,
    sum: Sum,
    broke: Option<String>,
}

impl Download {
    /// Begins it, from `source`, an address of `server`.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn start(client: &Namespace, server: &Namespace, source: IpAddr) -> Result<Self> {
        let (stream, listener) = tcp::call(client, server, source, 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let server = thread::spawn(move || send(&listener, &stopped));
        stream.set_read_timeout(Some(PATIENCE.std()))?;
        let client = thread::spawn(move || receive(stream));
        Ok(Self { stop, client, server })
    }

    /// Has the server end the file, and waits for its last byte.
    ///
    /// # Errors
    /// When a thread panicked. That the connection broke is an outcome.
    pub fn finish(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let Received { bytes, longest_stall, sum, broke } =
            self.client.join().map_err(|_| anyhow!("the client's thread panicked"))?;
        let sent = self.server.join().map_err(|_| anyhow!("the server's thread panicked"))?;
        let broke = broke.or_else(|| sent.as_ref().err().map(|error| format!("{error:#}")));
        Ok(Outcome { bytes, longest_stall, is_whole: sent.is_ok_and(|sent| sent == sum), broke })
    }
}

/// Something else each time, until it is to stop. Gives its checksum.
fn send(listener: &TcpListener, stop: &AtomicBool) -> Result<Sum> {
    let (mut stream, _) = listener.accept()?;
    stream.set_write_timeout(Some(PATIENCE.std()))?;
    let (mut sum, mut noise) = (Sha256::new(), Noise::default());
    let mut chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        noise.fill(&mut chunk);
        stream.write_all(&chunk).context("sending")?;
        sum.update(&chunk);
        clock::sleep(PACE);
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sum.finalize().into())
}

fn receive(mut stream: TcpStream) -> Received {
    let (mut sum, mut bytes, mut longest_stall) = (Sha256::new(), 0, Span::ZERO);
    let mut chunk = vec![0; CHUNK];
    let mut last = clock::now();
    let broke = loop {
        let read = stream.read(&mut chunk);
        let now = clock::now();
        longest_stall = longest_stall.max(now.since(last));
        last = now;
        match read {
            Ok(0) => break None,
            Ok(count) => {
                sum.update(chunk.get(..count).unwrap_or_default());
                bytes += u64::try_from(count).unwrap_or(0);
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    Received { bytes, longest_stall, sum: sum.finalize().into(), broke }
}
