//! The advertisements on the wire, as they come out of the gateways into the switch.

use super::clock;
use super::namespace::Namespace;
use super::sys;
use anyhow::{Context, Result};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Refusal;
use carp_common::wire::advert::Heard;
use socket2::Socket;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// By how much a difference between two of its stamps may be too small: a loaded kernel stamps a frame at
/// one port late, and they are of another clock than the daemon's, converted.
pub const STAMPS: Span = Span::millis(5);

/// An advertisement that came into the switch.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the kernel got it.
    pub at: Instant,
    /// Into which port: `lan-gw1`.
    pub port: &'static str,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// What it says, or why not.
    pub heard: Result<Heard, Refusal>,
}

/// Listens at some ports from its start until it is dropped. Claims that are announced to nodes of
/// ours are no advertisements.
pub struct Listener {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Seen {
    /// The sender's base and skew.
    pub fn pace(&self) -> Option<Pace> {
        self.heard.ok().map(|heard| heard.advert.pace)
    }

    /// Whether it came over IPv4.
    pub fn is_v4(&self) -> bool {
        self.heard.is_ok_and(|heard| heard.source.is_ipv4())
    }

    /// Whether it is a farewell.
    pub fn is_bow_out(&self) -> bool {
        self.pace() == Some(Pace::BOW_OUT)
    }
}

impl Listener {
    /// Starts to listen at these ports of the switch.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn start(switch: &Namespace, ports: &[&'static str]) -> Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut listener = Self { stop, seen, threads: Vec::new() };
        for &port in ports {
            let ifindex = switch.ifindex(port)?;
            let socket = switch.enter(|| sys::advert_socket(ifindex, Span::millis(20).std()))?;
            // Only switches the stamps on: nothing has come yet.
            sys::arrival(&socket).ok();
            let (stop, seen) = (Arc::clone(&listener.stop), Arc::clone(&listener.seen));
            listener.threads.push(std::thread::spawn(move || listen(socket, port, &stop, &seen)));
        }
        Ok(listener)
    }

    /// Everything heard so far, in the order of arrival.
    pub fn all(&self) -> Vec<Seen> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by_key(|seen| seen.at);
        all
    }

    /// The last one of IPv4 into a port before a moment. A sender's IPv4 advert comes first: from it
    /// on its lease runs, and its backup's patience.
    ///
    /// # Errors
    /// When there is none.
    pub fn last_before(&self, port: &str, moment: Instant) -> Result<Seen> {
        let before = |seen: &Seen| seen.port == port && seen.at < moment && seen.is_v4();
        let found = self.all().into_iter().rfind(before);
        found.with_context(|| format!("no advertisement came into {port}"))
    }

    /// Waits for the first one into a port at or after a moment.
    ///
    /// # Errors
    /// When there is none within `limit` from now.
    pub fn first_after(&self, port: &str, moment: Instant, limit: Span) -> Result<Seen> {
        clock::wait_for(&format!("an advertisement into {port}"), limit, || {
            self.all().into_iter().find(|seen| seen.port == port && seen.at >= moment)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn listen(mut socket: Socket, port: &'static str, stop: &AtomicBool, seen: &Mutex<Vec<Seen>>) {
    let mut bytes = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = socket.read(&mut bytes) else { continue };
        let at = sys::arrival(&socket).map_or_else(|_| clock::now(), clock::from_wall);
        let frame = bytes.get(..len).unwrap_or_default().to_vec();
        let is_announcement = |heard: &Result<Heard, _>| heard.is_ok_and(|heard| heard.is_announcement());
        if let Some(heard) = Heard::parse(&frame).filter(|heard| !is_announcement(heard)) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(Seen { at, port, frame, heard });
        }
    }
}
