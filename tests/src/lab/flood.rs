//! New flows at a steady rate: datagrams of UDP from the client to the server, each the first and only one between its two
//! ports, as queries of DNS are.

use super::clock;
use super::pair::Pair;
use super::replicating::SERVER;
use anyhow::Result;
use carp_common::time::Span;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Ports that a socket sends to, from the first unprivileged one on. Nobody listens there.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;
const PACE: Span = Span::millis(1);

/// Runs from its start until it is dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// So many thousand flows a second.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(pair: &Pair, thousands: u64) -> Result<Self> {
        // Each is good for 64,000 flows; four for all that a kernel tracks by default.
        let bind = |_| Ok(UdpSocket::bind("0.0.0.0:0")?);
        let sockets = pair.client.enter(|| (0..4).map(bind).collect::<Result<Vec<_>>>())?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = Some(std::thread::spawn(move || send(&sockets, thousands, &stopped, &counted)));
        Ok(Self { stop, sent, thread })
    }

    /// Flows so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it and gives the number of its flows.
    pub fn finish(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            thread.join().ok();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(sockets: &[UdpSocket], thousands: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let mut flows = sockets.iter().flat_map(|socket| PORTS.map(move |port| (socket, port)));
    let begun = clock::now();
    while !stop.load(Ordering::Relaxed) {
        let due = clock::now().since(begun).as_millis() * thousands;
        while sent.load(Ordering::Relaxed) < due {
            let Some((socket, port)) = flows.next() else { return };
            // One that could not leave is no flow.
            let left = socket.send_to(b"who is it", (SERVER, port)).is_ok();
            sent.fetch_add(left.into(), Ordering::Relaxed);
        }
        clock::sleep(PACE);
    }
}
