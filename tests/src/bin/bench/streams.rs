//! TCP through a gateway that serves, with the programs at both of its links and without: connections as
//! any host makes them, with all that the kernel does by default to make them fast.

use crate::Effort;
use crate::cpu;
use crate::forwarding::{Sides, in_turn};
use crate::receiving::{RECEIVER, SENDER};
use crate::report::{Must, Row, Unit, ratio};
use crate::road::{FAR, Road, SINK};
use anyhow::{Context, Result, anyhow};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Hundredths of the throughput.
const MUST: Must = Must::AtMost(3000);
const CONNECTIONS: usize = 4;
const BLOCK: usize = 1 << 17;
const PATIENCE: Span = Span::secs(10);

/// What carpd serves on the two links, and the gateway's own addresses there.
const VIPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 1, 1), Ipv4Addr::new(10, 77, 2, 1)];
const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 1, 2), Ipv4Addr::new(10, 77, 2, 2)];

/// What `auto` comes to at a veth, and how it might be attached instead. The third way, native XDP, is none
/// here: a veth hands on frames to the virtual MAC that have an skb as somebody else's.
const AUTO: &str = "tcx";
const MODES: [&str; 2] = [AUTO, "generic"];

pub fn measure(effort: &Effort, roads: &[Road; 2]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for mode in MODES {
        let mut sides = Sides::default();
        in_turn(
            roads,
            |road| road,
            mode,
            effort,
            |without, with| {
                sides.without.push(through(without, OWN, effort.stream)?);
                sides.with.push(through(with, VIPS, effort.stream)?);
                Ok(())
            },
        )?;
        let [without, with, loss] = sides.rows("TCP", mode, Unit::Gbps);
        rows.extend([without, with, if mode == AUTO { loss.must(MUST) } else { loss }]);
    }
    Ok(rows)
}

/// Over these addresses of the gateway; thousandths of a Gbit/s.
fn through(road: &Road, [near, far]: [Ipv4Addr; 2], span: Span) -> Result<u64> {
    road.source.ip(&format!("route replace 10.77.2.0/24 via {near} dev {FAR}"))?;
    road.sink.ip(&format!("route replace 10.77.1.0/24 via {far} dev {FAR}"))?;
    let listener = road.sink.enter(|| Ok(TcpListener::bind((SINK, 0))?))?;
    let target = listener.local_addr()?;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CONNECTIONS)
        .map(|_| connection(road, &listener, target))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let begun = clock::now();
    let bytes = carry(senders, receivers, begun + span)?;
    let took = clock::now().since(begun);
    Ok(ratio(bytes * 8, took.as_nanos()))
}

fn connection(road: &Road, listener: &TcpListener, target: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let connect =
        || TcpStream::connect_timeout(&target, PATIENCE.std()).context("connecting through the gateway");
    let sender = road.source.enter(connect)?;
    let (receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE.std()))?;
    sender.set_write_timeout(Some(PATIENCE.std()))?;
    Ok((sender, receiver))
}

/// What has come through until this moment, and what was under way then; bytes.
fn carry(senders: Vec<TcpStream>, receivers: Vec<TcpStream>, end: Instant) -> Result<u64> {
    let senders = senders.into_iter().map(|stream| thread::spawn(move || send(stream, end)));
    let senders: Vec<_> = senders.collect();
    let receivers = receivers.into_iter().map(|stream| thread::spawn(move || receive(stream)));
    let receivers: Vec<_> = receivers.collect();
    for sender in senders {
        sender.join().map_err(|_| anyhow!("a sender panicked"))??;
    }
    receivers
        .into_iter()
        .try_fold(0, |sum, receiver| Ok(sum + receiver.join().map_err(|_| anyhow!("a receiver panicked"))??))
}

/// The gateway works on the sender's CPU: a veth hands frames on where they come from.
fn send(mut stream: TcpStream, end: Instant) -> Result<()> {
    cpu::keep_on(None, SENDER)?;
    let block = vec![0x5a; BLOCK];
    while clock::now() < end {
        stream.write_all(&block).context("sending through the gateway")?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream) -> Result<u64> {
    cpu::keep_on(None, RECEIVER)?;
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        match stream.read(&mut block).context("receiving through the gateway")? {
            0 => return Ok(bytes),
            len => bytes += u64::try_from(len)?,
        }
    }
}
