//! Everything that a host sends into a port of the switch.

use super::clock;
use super::namespace::Namespace;
use super::sys;
use anyhow::Result;
use carp_common::time::{Instant, Span};
use socket2::Socket;
use std::io::Read;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A frame, and when it came, from its Ethernet header on.
pub type Frame = (Instant, Vec<u8>);

/// Captures from its start until it is dropped. Keeps everything: for short tests.
pub struct Capture {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Frame>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts at one port.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn start(switch: &Namespace, port: &str) -> Result<Self> {
        let ifindex = switch.ifindex(port)?;
        let socket = switch.enter(|| sys::inward_socket(ifindex, Span::millis(20).std()))?;
        // Only switches the stamps on: nothing has come yet.
        sys::arrival(&socket).ok();
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let inside = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || listen(socket, &inside.0, &inside.1));
        Ok(Self { stop, seen, thread: Some(thread) })
    }

    /// Everything that came at or after a moment.
    pub fn since(&self, moment: Instant) -> Vec<Frame> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(at, _)| *at >= moment).cloned().collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Whether a frame says that it comes from an address: as the source of IP, the sender of ARP, or
/// what a neighbour advertisement is about.
pub fn speaks_for(frame: &[u8], address: IpAddr) -> bool {
    let at = |from: usize, len: usize| frame.get(from..from + len).unwrap_or_default();
    match (address, at(12, 2)) {
        (IpAddr::V4(ip), [8, 6]) => at(28, 4) == ip.octets(),
        (IpAddr::V4(ip), [8, 0]) => at(26, 4) == ip.octets(),
        (IpAddr::V6(ip), [0x86, 0xdd]) => {
            let is_advertisement = at(20, 1) == [58] && at(54, 1) == [136];
            at(22, 16) == ip.octets() || (is_advertisement && at(62, 16) == ip.octets())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    }
}

fn listen(mut socket: Socket, stop: &AtomicBool, seen: &Mutex<Vec<Frame>>) {
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = socket.read(&mut bytes) else { continue };
        let at = sys::arrival(&socket).map_or_else(|_| clock::now(), clock::from_wall);
        let frame = bytes.get(..len).unwrap_or_default().to_vec();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((at, frame));
    }
}
