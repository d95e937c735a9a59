//! Who owns a virtual address, as the network sees it: both networks are asked by ARP for theirs every other millisecond,
//! and by the port that an answer comes from it is known whose it is. So nodes of any make are judged alike.

use super::clock;
use super::namespace::Namespace;
use super::pair::Pair;
use super::sys;
use anyhow::Result;
use carp_common::id::{IfIndex, Mac};
use carp_common::time::{Instant, Span};
use carp_common::wire::Frame;
use carp_common::wire::arp::{Arp, REPLY, REQUEST};
use carp_common::wire::eth::{ARP, Ethernet};
use carp_user::io::advert::Sender;
use socket2::Socket;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use zerocopy::{FromBytes, IntoBytes};

/// Between two questions.
pub const PACE: Span = Span::millis(2);
/// Questions of one run, about half an hour. Policy when full: it asks no more.
const CAPACITY: usize = 1 << 20;
/// Last bytes of the addresses that ask in turn: an answer says by whom, and so when, it was asked for.
const ASKERS: usize = 64;
const FIRST_ASKER: u8 = 128;
const LAST_ASKER: u8 = 191;
/// Both networks.
const NETS: [&str; 2] = ["lan", "wan"];
const GATEWAYS: [&str; 2] = ["gw1", "gw2"];

/// Asks from its start until it is dropped.
pub struct Owners {
    nets: Vec<Arc<Net>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What was asked on one network, and who answered.
struct Net {
    /// When each question left, by number, nanoseconds of the monotonic clock; 0 is "not".
    asked: Vec<AtomicU64>,
    /// A bit for each gateway that has answered it.
    answered: Vec<AtomicU8>,
    /// How many were asked.
    count: AtomicU64,
}

/// One moment of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When the question left.
    pub at: Instant,
    /// Which of the gateways answered it.
    pub owners: [bool; 2],
}

impl Owners {
    /// Begins to ask for 10.77.1.1 and 10.77.2.1.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(pair: &Pair) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut owners = Self { nets: Vec::new(), stop, threads: Vec::new() };
        for (number, (net, host)) in (1_u8..).zip(NETS.iter().zip([&pair.client, &pair.server])) {
            let asked = (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
            let answered = (0..CAPACITY).map(|_| AtomicU8::new(0)).collect();
            let shared = Arc::new(Net { asked, answered, count: AtomicU64::new(0) });
            for (bit, gateway) in [1_u8, 2].iter().zip(GATEWAYS) {
                let ifindex = pair.switch.ifindex(&format!("{net}-{gateway}"))?;
                let timeout = Span::millis(20).std();
                let socket = pair.switch.enter(|| sys::arp_socket(ifindex, timeout))?;
                let (shared, stop, bit) = (Arc::clone(&shared), Arc::clone(&owners.stop), *bit);
                owners.threads.push(std::thread::spawn(move || shared.listen(socket, bit, &stop)));
            }
            owners.nets.push(Arc::clone(&shared));
            owners.ask(host, number, shared)?;
        }
        Ok(owners)
    }

    fn ask(&mut self, host: &Namespace, number: u8, net: Arc<Net>) -> Result<()> {
        let link = IfIndex(host.ifindex("eth0")?);
        let sender = host.enter(|| Ok(Sender::open()?))?;
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || net.ask(&sender, link, number, &stop)));
        Ok(())
    }

    /// What was seen of each network in `from..to`: the LAN, then the WAN.
    pub fn looks(&self, from: Instant, to: Instant) -> Vec<Vec<Look>> {
        self.nets.iter().map(|net| net.looks(from, to)).collect()
    }

    /// For how long both nodes owned an address, on any network, in `from..to`.
    pub fn two(&self, from: Instant, to: Instant) -> Span {
        self.spent(from, to, [true; 2])
    }

    /// For how long nobody owned one, on any network.
    pub fn nobody(&self, from: Instant, to: Instant) -> Span {
        self.spent(from, to, [false; 2])
    }

    /// The worse of the two networks: from each such question until the next one.
    fn spent(&self, from: Instant, to: Instant, owners: [bool; 2]) -> Span {
        let of_one = |looks: Vec<Look>| {
            let times = looks.iter().zip(looks.iter().skip(1));
            let such = times.filter(|(look, _)| look.owners == owners);
            Span::nanos(such.map(|(look, next)| next.at.since(look.at).as_nanos()).sum())
        };
        self.looks(from, to).into_iter().map(of_one).max().unwrap_or_default()
    }

    /// Whether in `from..to` every question was answered by this node (0 or 1) and by no other.
    pub fn is_only(&self, node: usize, from: Instant, to: Instant) -> bool {
        let mut wanted = [false; 2];
        if let Some(one) = wanted.get_mut(node) {
            *one = true;
        }
        let is_so = |looks: &Vec<Look>| !looks.is_empty() && looks.iter().all(|look| look.owners == wanted);
        self.looks(from, to).iter().all(is_so)
    }

    /// When this node (0 or 1) had begun to answer on both networks, after `since`.
    pub fn begun(&self, node: usize, since: Instant) -> Option<Instant> {
        let answers = |look: &Look| look.owners.get(node) == Some(&true);
        let first = |looks: Vec<Look>| looks.into_iter().find(answers).map(|look| look.at);
        let firsts: Option<Vec<Instant>> = self.looks(since, Instant::MAX).into_iter().map(first).collect();
        firsts?.into_iter().max()
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // These threads have nothing that could panic.
            thread.join().ok();
        }
    }
}

impl Net {
    fn looks(&self, from: Instant, to: Instant) -> Vec<Look> {
        let asked = |at: &AtomicU64| Instant::from_nanos(at.load(Ordering::Relaxed));
        // They are in order: the first of them is found by halving.
        let newest = usize::try_from(self.count.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let all = self.asked.get(..newest).unwrap_or(&self.asked);
        let first = all.partition_point(|at| asked(at) < from);
        let those = all.iter().zip(&self.answered).skip(first);
        let looks = those.map(|(at, bits)| {
            let bits = bits.load(Ordering::Relaxed);
            Look { at: asked(at), owners: [bits & 1 != 0, bits & 2 != 0] }
        });
        looks.take_while(|look| look.at < to).collect()
    }

    fn ask(&self, sender: &Sender, link: IfIndex, net: u8, stop: &AtomicBool) {
        let mac = Mac([2, 0, 0, 0, 0x77, net]);
        let mut next = clock::now();
        for (number, slot) in self.asked.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let asker = FIRST_ASKER + u8::try_from(number % ASKERS).unwrap_or(0);
            let ethernet = Ethernet::new(Mac([0xff; 6]), mac, ARP);
            let (asker, wanted) = ([10, 77, net, asker], [10, 77, net, 1]);
            let question = Arp::new(REQUEST, (mac, asker), (Mac([0; 6]), wanted));
            slot.store(clock::now().nanos(), Ordering::Relaxed);
            // Before it leaves: the answer comes at once.
            self.count.store(number as u64 + 1, Ordering::Relaxed);
            // A question that could not even leave is one that nobody answers.
            sender.send(link, &Frame::of(&[ethernet.as_bytes(), question.as_bytes()])).ok();
            next = clock::now().max(next + PACE);
            clock::sleep_until(next);
        }
    }

    fn listen(&self, mut socket: Socket, bit: u8, stop: &AtomicBool) {
        let mut bytes = [0; 128];
        while !stop.load(Ordering::Relaxed) {
            let Ok(len) = socket.read(&mut bytes) else { continue };
            let Some(arp) = bytes.get(14..len) else { continue };
            let Ok((arp, _)) = Arp::read_from_prefix(arp) else { continue };
            let [.., asker] = arp.target_ip;
            if arp.operation.get() == REPLY && (FIRST_ASKER..=LAST_ASKER).contains(&asker) {
                self.note(usize::from(asker - FIRST_ASKER), bit);
            }
        }
    }

    /// The newest question of the asker of this number has an answer.
    fn note(&self, asker: usize, bit: u8) {
        let Some(newest) =
            usize::try_from(self.count.load(Ordering::Relaxed)).ok().and_then(|next| next.checked_sub(1))
        else {
            return;
        };
        let ago = (newest + ASKERS - asker) % ASKERS;
        if let Some(slot) = newest.checked_sub(ago).and_then(|number| self.answered.get(number)) {
            slot.fetch_or(bit, Ordering::Relaxed);
        }
    }
}
