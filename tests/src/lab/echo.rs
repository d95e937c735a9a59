//! One numbered UDP datagram every millisecond from the client to the server and back, over the
//! virtual addresses: what a user of the gateways sees.

use super::clock;
use super::namespace::Namespace;
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// Time between two probes.
const PACE: Span = Span::millis(1);
/// Probes of one run, about four minutes. Policy when full: it stops probing.
const CAPACITY: usize = 1 << 18;
const PORT: u16 = 7007;

/// Running probes.
pub struct Echo {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of the probes of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Probes sent.
    pub sent: u64,
    /// Probes that no reply came to.
    pub lost: u64,
    /// The longest time between the departures of two probes that were answered, one after the
    /// other. Without any loss that is the noise of the machine.
    pub longest_gap: Span,
    /// Departures of the first and the last probe of each run of lost ones.
    pub outages: Vec<(Instant, Instant)>,
}

struct Shared {
    stop: AtomicBool,
    /// Departure and return by number, nanoseconds of the monotonic clock; 0 is "not".
    sent: Vec<AtomicU64>,
    returned: Vec<AtomicU64>,
}

impl Echo {
    /// Starts probing `target`, an address of `server`.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(client: &Namespace, server: &Namespace, target: IpAddr) -> Result<Self> {
        let any = |port| SocketAddr::new(if target.is_ipv4() { V4_ANY } else { V6_ANY }, port);
        let bind = |port| {
            let socket = UdpSocket::bind(any(port)).context("probe socket")?;
            socket.set_read_timeout(Some(Span::millis(20).std()))?;
            Ok(socket)
        };
        let back = server.enter(|| bind(PORT))?;
        let forth = Arc::new(client.enter(|| bind(0))?);
        let zeros = || (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), sent: zeros(), returned: zeros() });
        let target = SocketAddr::new(target, PORT);
        let (a, b, c) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let listen = Arc::clone(&forth);
        let threads = vec![
            thread::spawn(move || a.reflect(&back)),
            thread::spawn(move || b.listen(&listen)),
            thread::spawn(move || c.send(&forth, target)),
        ];
        Ok(Self { shared, threads })
    }

    /// What became of the probes that left in `from..to`. A probe whose reply is still on its way
    /// counts as lost: leave the last ones a moment.
    pub fn report(&self, from: Instant, to: Instant) -> Report {
        let probes = self.shared.sent.iter().zip(&self.shared.returned);
        let probes = probes.map(|(sent, returned)| (load(sent), load(returned)));
        let probes = probes.take_while(|&(sent, _)| sent != Instant::ZERO);
        let mut report = Report::default();
        let mut answered = None;
        let mut outage = None;
        for (sent, returned) in probes.filter(|&(sent, _)| from <= sent && sent < to) {
            report.sent += 1;
            if returned == Instant::ZERO {
                report.lost += 1;
                outage = Some((outage.map_or(sent, |(first, _)| first), sent));
                continue;
            }
            report.outages.extend(outage.take());
            report.longest_gap = report.longest_gap.max(sent.since(answered.unwrap_or(sent)));
            answered = Some(sent);
        }
        if let Some(outage) = outage {
            report.outages.push(outage);
            report.longest_gap = report.longest_gap.max(to.since(answered.unwrap_or(from)));
        }
        report
    }

    /// The longest time in `from..to` in which no probe came back: what waits in a queue is late, and not lost. Without any
    /// fault that is the noise of the machine.
    pub fn longest_silence(&self, from: Instant, to: Instant) -> Span {
        let probes = self.shared.sent.iter().zip(&self.shared.returned);
        let probes = probes.map(|(sent, returned)| (load(sent), load(returned)));
        let probes = probes.take_while(|&(sent, _)| sent != Instant::ZERO);
        let mut returns: Vec<Instant> =
            probes.map(|(_, returned)| returned).filter(|at| from <= *at && *at < to).collect();
        returns.sort_unstable();
        let ends = std::iter::once(from).chain(returns.iter().copied());
        ends.zip(returns.iter().copied().chain([to]))
            .map(|(one, next)| next.since(one))
            .max()
            .unwrap_or_default()
    }

    /// When the first probe after `moment` left that has come back.
    pub fn answered_after(&self, moment: Instant) -> Option<Instant> {
        let probes = self.shared.sent.iter().zip(&self.shared.returned);
        probes
            .map(|(sent, returned)| (load(sent), load(returned)))
            .take_while(|&(sent, _)| sent != Instant::ZERO)
            .find(|&(sent, returned)| sent > moment && returned != Instant::ZERO)
            .map(|(sent, _)| sent)
    }

    /// When the first probe came back after `moment`.
    pub fn returned_after(&self, moment: Instant) -> Option<Instant> {
        let sent = self.shared.sent.iter().take_while(|sent| load(sent) != Instant::ZERO);
        sent.zip(&self.shared.returned).map(|(_, returned)| load(returned)).filter(|at| *at > moment).min()
    }

    /// Whether a probe that left after `moment` has come back.
    pub fn answered_since(&self, moment: Instant) -> bool {
        self.answered_after(moment).is_some()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A probe thread has nothing that could panic.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn reflect(&self, socket: &UdpSocket) {
        let mut bytes = [0; 16];
        while !self.stopped() {
            // Errors are time-outs, or ICMP about an earlier datagram.
            if let Ok((len, from)) = socket.recv_from(&mut bytes) {
                socket.send_to(bytes.get(..len).unwrap_or_default(), from).ok();
            }
        }
    }

    fn listen(&self, socket: &UdpSocket) {
        let mut bytes = [0; 8];
        while !self.stopped() {
            let Ok((8, _)) = socket.recv_from(&mut bytes) else { continue };
            let number = usize::try_from(u64::from_be_bytes(bytes)).unwrap_or(usize::MAX);
            if let Some(slot) = self.returned.get(number) {
                slot.store(clock::now().nanos(), Ordering::Relaxed);
            }
        }
    }

    fn send(&self, socket: &UdpSocket, target: SocketAddr) {
        let mut next = clock::now();
        for (number, slot) in (0_u64..).zip(&self.sent) {
            if self.stopped() {
                return;
            }
            slot.store(clock::now().nanos(), Ordering::Relaxed);
            // A probe that could not even leave is a lost one.
            socket.send_to(&number.to_be_bytes(), target).ok();
            // After a pause of the whole machine there is no burst to catch up.
            next = clock::now().max(next + PACE);
            clock::sleep_until(next);
        }
    }
}

const V4_ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const V6_ANY: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

fn load(slot: &AtomicU64) -> Instant {
    Instant::from_nanos(slot.load(Ordering::Relaxed))
}
