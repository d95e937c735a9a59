//! The addresses and routes that this node should hold now, a level: an applier makes the kernel agree, as
//! often as needed, and can be killed and started again at any time.
//!
//! A request waits for the kernel's lock for links, so the applier has a thread of its own.

use super::address::{self, Addresses, Held};
use super::error::Error;
use super::neighbour;
use super::netlink::{DATAGRAM, Reply, events_of, replies};
use super::raw::Ready;
use super::route::{self, Route, Routes};
use rustix::net::RecvFlags;
use std::collections::BTreeSet;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// What the kernel shall hold of ours, and nothing else of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The VIPs that are served.
    pub addresses: BTreeSet<Held>,
    /// The routes that follow them.
    pub routes: BTreeSet<Route>,
}

/// What the kernel did not add or remove.
#[derive(Debug)]
pub struct Failure {
    /// An address, or a route.
    pub what: String,
    /// What the kernel said, and what to do.
    pub error: Error,
}

/// What makes the kernel agree, for the applier or without one. Blocks.
#[derive(Debug)]
pub struct Kernel {
    /// Of addresses.
    pub addresses: Addresses,
    /// Of routes.
    pub routes: Routes,
}

impl Kernel {
    /// Adds what is wanted and missing, removes what is ours and not wanted, leaves everything else. Routes go before
    /// addresses and come after them: one may have an address as its source, and the kernel would take it away with
    /// that. Some may fail; the same call again tries only what is left to do.
    pub fn apply(&mut self, wanted: &Wanted) -> Vec<Failure> {
        let mut failures = self.routes.retain(&wanted.routes);
        let addresses = self.addresses.apply(&wanted.addresses).into_iter();
        failures.extend(
            addresses.map(|failed| Failure { what: failed.held.address.to_string(), error: failed.error }),
        );
        failures.extend(self.routes.add(&wanted.routes));
        failures
    }
}

/// A running applier.
#[derive(Debug)]
pub struct Applier {
    thread: JoinHandle<Vec<Failure>>,
    /// What could not be done at the last try; empty when the kernel agrees.
    pub failures: watch::Receiver<Vec<Failure>>,
    /// The last set that was applied, and may have failed in part.
    pub applied: watch::Receiver<Wanted>,
    /// How many addresses somebody else has taken away so far. Each was named in the log, and put back.
    pub taken: watch::Receiver<u64>,
}

impl Applier {
    /// How often an unchanged set is applied again, for what could not be done before. What others take away is put
    /// back as soon as the kernel tells of it.
    pub const AGAIN: Duration = Duration::from_secs(5);

    /// Applies every value of `wanted`, on a thread of its own in the caller's network namespace.
    /// Ends when the sender is dropped, and then removes all that is ours.
    ///
    /// # Errors
    /// The kernel's, when it has no thread left.
    pub fn start(kernel: Kernel, wanted: watch::Receiver<Wanted>) -> io::Result<Self> {
        let (told, failures) = watch::channel(Vec::new());
        let (count, taken) = watch::channel(0);
        let (done, applied) = watch::channel(Wanted::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().enable_io().build()?;
        let listen = || {
            let _inside = runtime.enter();
            events_of([libc::RTM_DELADDR, libc::RTM_DELROUTE], GROUPS)
        };
        let events = match listen() {
            Ok(events) => events,
            Err(error) => {
                // One that is dropped waits for its threads, which it must not do inside of another one.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let thread = std::thread::Builder::new()
            .name("carp-address".to_owned())
            .spawn(move || runtime.block_on(follow(kernel, wanted, events, (told, done, count))))?;
        Ok(Self { thread, failures, applied, taken })
    }

    /// Waits until everything is removed, and returns what could not be. Drop the sender of the
    /// wanted set before, or this waits forever.
    pub fn finish(self) -> Vec<Failure> {
        // A panic over there has been written to standard error already.
        self.thread.join().unwrap_or_default()
    }
}

async fn follow(
    mut kernel: Kernel,
    mut wanted: watch::Receiver<Wanted>,
    events: Ready,
    (told, done, count): (watch::Sender<Vec<Failure>>, watch::Sender<Wanted>, watch::Sender<u64>),
) -> Vec<Failure> {
    let mut datagram = vec![0; DATAGRAM].into_boxed_slice();
    loop {
        let set = wanted.borrow_and_update().clone();
        forget_neighbours(&done.borrow(), &set);
        let failures = kernel.apply(&set);
        told.send_if_modified(|last| {
            let worth_telling = !(last.is_empty() && failures.is_empty());
            *last = failures;
            worth_telling
        });
        done.send_if_modified(|last| {
            let changed = *last != set;
            last.clone_from(&set);
            changed
        });
        count.send_replace(kernel.addresses.taken());
        let next = async {
            tokio::select! {
                changed = wanted.changed() => changed,
                () = removed(&events, &mut datagram, &set) => Ok(()),
            }
        };
        if let Ok(Err(_closed)) = tokio::time::timeout(Applier::AGAIN, next).await {
            return kernel.apply(&Wanted::default());
        }
    }
}

/// Takes over on some links: what could not be resolved there may be by now.
fn forget_neighbours(before: &Wanted, after: &Wanted) {
    let links: BTreeSet<_> = after.addresses.difference(&before.addresses).map(|held| held.link).collect();
    if links.is_empty() {
        return;
    }
    match neighbour::forget_unresolved(&links) {
        Ok(count) => tracing::debug!(count, "neighbours that were not resolved are forgotten"),
        Err(error) => tracing::warn!(%error, "forgetting neighbours that were not resolved"),
    }
}

/// Waits until one of these may have been removed, and reads what else there is to read: of a thousand that go at
/// once, one look is enough.
async fn removed(events: &Ready, datagram: &mut [u8], wanted: &Wanted) {
    let is_one = |reply: Reply<'_>| {
        address::is_gone(&reply, &wanted.addresses) || route::is_gone(&reply, &wanted.routes)
    };
    let mut hit = false;
    loop {
        let read = events.read(|fd| match rustix::net::recv(fd, &mut *datagram, RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::WOULDBLOCK) if hit => Ok(None),
            received => Ok(Some(received?.0)),
        });
        match read.await {
            Ok(None) => return,
            Ok(Some(len)) => hit |= replies(datagram.get(..len).unwrap_or(&[])).any(is_one),
            // Events were lost, so one may have been among them.
            Err(_overflow) => hit = true,
        }
    }
}

/// Bits of `RTNLGRP_IPV4_IFADDR`, `_IPV6_IFADDR`, `_IPV4_ROUTE` and `_IPV6_ROUTE`.
const GROUPS: u32 = 1 << 4 | 1 << 8 | 1 << 6 | 1 << 10;
