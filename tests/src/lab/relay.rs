//! A bad cable between the two gateways: whatever goes over the sync link goes through this program, which loses, doubles
//! and delays some of it.

use super::namespace::Namespace;
use super::pair::{Pair, interface};
use super::process::run_with_input;
use super::sys::{self, Offload};
use anyhow::Result;
use carp_common::time::Span;
use socket2::Socket;
use std::collections::VecDeque;
use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Of a hundred frames one is lost, one comes twice and one late.
const HUNDRED: u64 = 100;
/// A late frame comes after so many others, or when there have been none for [`PAUSE`].
const OVERTAKEN: usize = 4;
const PAUSE: Span = Span::millis(5);

/// Runs until it is dropped.
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What was done to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Did not arrive.
    pub lost: u64,
    /// Arrived twice.
    pub doubled: u64,
    /// Arrived after others that were sent later.
    pub delayed: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    healed: AtomicBool,
    lost: AtomicU64,
    doubled: AtomicU64,
    delayed: AtomicU64,
}

impl Relay {
    /// Takes the place of the cable between the gateways' `sync0`.
    ///
    /// # Errors
    /// When a step fails.
    pub fn between(pair: &Pair, seed: u64) -> Result<Self> {
        let host = pair.lab.namespace("relay")?;
        pair.gw1().ip("link del sync0")?;
        let mut ends = Vec::new();
        for (gateway, number) in pair.gateways.iter().zip(2..) {
            ends.push(Arc::new(plug(&host, gateway, number)?));
        }
        let shared = Arc::new(Shared::default());
        let pairs = ends.iter().zip(ends.iter().rev()).zip(1..);
        let start = |((from, to), number): ((&Arc<Socket>, &Arc<Socket>), u64)| {
            let (shared, from, to) = (Arc::clone(&shared), Arc::clone(from), Arc::clone(to));
            std::thread::spawn(move || shared.pass_on(&from, &to, seed.wrapping_mul(2) + number))
        };
        let threads = pairs.map(start).collect();
        Ok(Self { shared, threads })
    }

    /// From now on nothing is amiss.
    pub fn heal(&self) {
        self.shared.healed.store(true, Ordering::Relaxed);
    }

    /// What it has done so far.
    pub fn faults(&self) -> Faults {
        let Shared { lost, doubled, delayed, .. } = &*self.shared;
        let [lost, doubled, delayed] = [lost, doubled, delayed].map(|count| count.load(Ordering::Relaxed));
        Faults { lost, doubled, delayed }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing that could panic.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn pass_on(&self, mut from: &Socket, to: &Socket, mut random: u64) {
        let mut late: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        let mut bytes = [0; 2048];
        // A frame for which there is no room is one more that is lost.
        let send = |frame: &[u8]| drop(to.send(frame));
        while !self.stop.load(Ordering::Relaxed) {
            let len = from.read(&mut bytes).unwrap_or(0);
            let frame = bytes.get(..len).unwrap_or_default();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let fate = if self.healed.load(Ordering::Relaxed) { HUNDRED } else { random % HUNDRED };
            match fate {
                _ if len == 0 => late.drain(..).for_each(|(_, frame)| send(&frame)),
                0 => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
                1 => {
                    self.doubled.fetch_add(1, Ordering::Relaxed);
                    send(frame);
                    send(frame);
                }
                2 => {
                    self.delayed.fetch_add(1, Ordering::Relaxed);
                    late.push_back((OVERTAKEN, frame.to_vec()));
                    continue;
                }
                _ => send(frame),
            }
            late.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(1));
            while let Some((_, frame)) = late.pop_front_if(|(left, _)| *left == 0) {
                send(&frame);
            }
        }
    }
}

/// A cable from the relay to a gateway's new `sync0`, and what hears and speaks at its end.
fn plug(host: &Namespace, gateway: &Namespace, number: u8) -> Result<Socket> {
    let (port, name) = (format!("sync-{}", gateway.host()), gateway.name());
    host.ip(&format!("link add {port} up type veth peer name sync0 netns {name}"))?;
    // Without this a packet socket receives what is yet to be cut into segments and summed.
    gateway.enter(|| Ok(sys::set_offload("sync0", Offload::Checksums, false)?))?;
    let words = interface("sync0", 9, number);
    run_with_input(Command::new("ip").args(["-n", name, "-batch", "-"]), &words)?;
    let ifindex = host.ifindex(&port)?;
    host.enter(|| sys::inward_socket(ifindex, PAUSE.std()))
}
