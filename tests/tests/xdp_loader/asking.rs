//! A neighbour that asks for a VIP, a question a millisecond, and counts who answers.

use carp_common::id::{IfIndex, Mac};
use carp_common::wire::arp::{self, Arp};
use carp_common::wire::eth::{self, Ethernet};
use carp_user::io::raw::{bind_packet, ignore_outgoing, packet_address, packet_socket};
use socket2::Socket;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub asked: u32,
    /// With the virtual MAC: by XDP.
    pub virtual_mac: u32,
    /// With another: by the kernel, past XDP.
    pub other_mac: u32,
}

/// Asks until it is told to stop, in the network namespace of the thread that starts it.
pub struct Asker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

impl Asker {
    pub fn start(link: IfIndex, vip: Ipv4Addr, virtual_mac: Mac) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || ask(link, vip, virtual_mac, &told));
        Self { stop, thread }
    }

    pub fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask(link: IfIndex, vip: Ipv4Addr, virtual_mac: Mac, stop: &AtomicBool) -> Answers {
    const OWN: Mac = Mac([2, 0, 0, 0, 0, 0xc1]);
    let mut socket = packet_socket().unwrap();
    ignore_outgoing(&socket).unwrap();
    bind_packet(&socket, link).unwrap();
    let question = Arp::new(arp::REQUEST, (OWN, [10, 9, 0, 10]), (Mac([0; 6]), vip.octets()));
    let head = Ethernet::new(Mac::BROADCAST, OWN, eth::ARP);
    let frame = [head.as_bytes(), question.as_bytes()].concat();
    let to = packet_address(link, eth::ARP).unwrap();
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&frame, &to).unwrap();
        answers.asked += 1;
        pause(1);
        hear(&mut socket, vip, virtual_mac, &mut answers);
    }
    pause(100);
    hear(&mut socket, vip, virtual_mac, &mut answers);
    answers
}

fn hear(socket: &mut Socket, vip: Ipv4Addr, virtual_mac: Mac, answers: &mut Answers) {
    let mut frame = [0; 2048];
    while let Ok(len) = socket.read(&mut frame) {
        let Ok((head, rest)) = Ethernet::read_from_prefix(&frame[..len]) else { continue };
        let Ok((reply, _)) = Arp::read_from_prefix(rest) else { continue };
        if head.ethertype.get() == eth::ARP && reply.sender_ip == vip.octets() {
            match reply.sender_mac == virtual_mac.0 {
                true => answers.virtual_mac += 1,
                false => answers.other_mac += 1,
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "real frames take real time")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
