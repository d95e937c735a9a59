//! Packets of real connections through the gateway that serves: a client that makes one new connection after the other,
//! a server that answers, a gateway that translates their sources.

use super::couple::{By, Couple};
use super::flows::{held, rate, settled};
use super::{Effort, TRAFFIC, of};
use crate::report::{Must, Row, Unit};
use anyhow::{Context, Result, anyhow, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::process::run_with_input;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A firewall that follows connections, and translates.
pub const RULES: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname lan0 ct state new accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 snat to 10.77.2.1
    }
}
";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 10);
/// Ports of the server: after as many connections as the client has ports it goes on with the next one.
const PORTS: std::ops::Range<u16> = 5300..5308;
/// Queries that wait for their answer.
const WAITING: usize = 64;
/// Connections that are made at a time.
const CALLERS: usize = 8;
/// Longest wait for an answer: what takes longer is lost.
const PATIENCE: Span = Span::millis(200);
/// The client's ports that are used, each once for each of the server's.
const FIRST_PORT: u16 = 2000;
const CLIENT_PORTS: u16 = 60_000;

/// Of what kind the connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A query and its answer.
    Udp,
    /// Opened and closed by the server.
    Tcp,
}

/// Of one kind of connections with one who replicates them, one number for each run.
#[derive(Default)]
struct Side {
    /// Thousandths of a thousand a second through the gateway.
    through: Vec<u64>,
    /// ... and into the standby's kernel.
    arrived: Vec<u64>,
    /// Nanoseconds of both daemons' CPU for each.
    spent: Vec<u64>,
    missing: Vec<u64>,
}

/// With nobody, with carpd, with conntrackd.
type Sides = [Side; 3];

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let mut all = [Kind::Udp, Kind::Tcp].map(|kind| (kind, Sides::default()));
    for run in 0..effort.runs {
        let mut turns = [(By::Nobody, 0), (By::Carp, 1), (By::Conntrackd, 2)];
        turns.rotate_left(run % 3);
        for (by, side) in turns.into_iter().filter(|(by, _)| by.is_there()) {
            let mut couple = Couple::start(by)?;
            couple.pair.gateways.iter().try_for_each(firewall)?;
            clock::sleep(Span::millis(500));
            for (kind, sides) in &mut all {
                couple.burst(*kind, by, effort.traffic, &mut sides[side])?;
            }
            couple.end()?;
        }
    }
    Ok(all.into_iter().flat_map(|(kind, sides)| rows(kind, sides)).collect())
}

/// Puts the rules on a gateway.
pub fn firewall(gateway: &Namespace) -> Result<()> {
    run_with_input(Command::new("ip").args(["netns", "exec", gateway.name(), "nft", "--file", "-"]), RULES)
}

fn rows(kind: Kind, [nobody, ours, theirs]: Sides) -> Vec<Row> {
    let name = kind.name();
    let share =
        |side: &Side| of(&side.through, &nobody.through).into_iter().map(|share| share * 100).collect();
    let (own, rival) = (share(&ours), share(&theirs));
    let (times, work) = (of(&ours.arrived, &theirs.arrived), of(&ours.spent, &theirs.spent));
    let many = Row::new(TRAFFIC, "as many as with conntrackd", Unit::Times, times);
    vec![
        Row::new(TRAFFIC, format!("{name} a second, not replicated"), Unit::Kilo, nobody.through),
        Row::new(TRAFFIC, "... replicated", Unit::Kilo, ours.through),
        Row::new(TRAFFIC, "... with conntrackd", Unit::Kilo, theirs.through),
        Row::new(TRAFFIC, "replicated, of not", Unit::Percent, own).must(Must::AtLeast(60_000)),
        Row::new(TRAFFIC, "... with conntrackd", Unit::Percent, rival),
        Row::new(TRAFFIC, "into the standby's kernel", Unit::Kilo, ours.arrived),
        Row::new(TRAFFIC, "... with conntrackd", Unit::Kilo, theirs.arrived),
        match kind {
            Kind::Udp => many.must(Must::AtLeast(2500)),
            // Not replicated at all they are three times as many: the gateway's own work for a connection is too much.
            Kind::Tcp => many,
        },
        Row::new(TRAFFIC, "CPU of both daemons for each", Unit::Micros, ours.spent),
        Row::new(TRAFFIC, "... of both conntrackd", Unit::Micros, theirs.spent),
        Row::new(TRAFFIC, "as much as conntrackd", Unit::Times, work).must(Must::AtMost(400)),
        Row::new(TRAFFIC, "that the standby never had", Unit::Count, ours.missing).must(Must::AtMost(0)),
        Row::new(TRAFFIC, "... with conntrackd", Unit::Count, theirs.missing),
    ]
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP flows",
            Self::Tcp => "TCP connections",
        }
    }
}

impl Couple {
    /// As many as go through in this time.
    fn burst(&mut self, kind: Kind, by: By, span: Span, side: &mut Side) -> Result<()> {
        let before = held(self.pair.gw2())?;
        let (spent, begun) = (self.spent()?, clock::now());
        let made = match kind {
            Kind::Udp => queries(&self.pair, begun + span)?,
            Kind::Tcp => calls(&self.pair, begun + span)?,
        };
        ensure!(made > 0, "no packet goes through the gateway");
        let took = clock::now().since(begun);
        side.through.push(rate(made, took));
        if by == By::Nobody {
            return Ok(());
        }
        let wanted = before + u32::try_from(made)?;
        let (took, missing) = settled(self.pair.gw2(), wanted, begun)?;
        side.arrived.push(rate(made - u64::from(missing), took));
        side.spent.push(self.spent()?.less(spent).as_nanos() / made);
        side.missing.push(u64::from(missing) * 1000);
        Ok(())
    }
}

/// Where the connection of this number begins and ends.
fn ends(number: u64) -> Result<(SocketAddr, SocketAddr)> {
    let port = FIRST_PORT + u16::try_from(number % u64::from(CLIENT_PORTS))?;
    let target = PORTS.start + u16::try_from(number / u64::from(CLIENT_PORTS))?;
    ensure!(PORTS.contains(&target), "more connections than there are ports");
    Ok(((CLIENT, port).into(), (SERVER, target).into()))
}

/// Queries that were answered.
fn queries(pair: &Pair, end: Instant) -> Result<u64> {
    let sockets = pair.server.enter(|| {
        let bind = |port| {
            let socket = UdpSocket::bind((SERVER, port))?;
            socket.set_read_timeout(Some(PATIENCE.std()))?;
            Ok(socket)
        };
        PORTS.map(bind).collect::<Result<Vec<_>>>()
    })?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| answer(socket, &over));
        }
        let answered = pair.client.enter(|| ask(end));
        over.store(true, Ordering::Relaxed);
        answered
    })
}

fn answer(socket: &UdpSocket, over: &AtomicBool) {
    let mut query = [0; 16];
    while !over.load(Ordering::Relaxed) {
        // Errors are time-outs.
        if let Ok((_, from)) = socket.recv_from(&mut query) {
            socket.send_to(b"answer", from).ok();
        }
    }
}

fn ask(end: Instant) -> Result<u64> {
    let (mut waiting, mut answered) = (VecDeque::with_capacity(WAITING), 0);
    let mut take = |socket: UdpSocket| answered += u64::from(socket.recv(&mut [0; 16]).is_ok());
    for number in 0.. {
        if clock::now() > end {
            break;
        }
        if waiting.len() == WAITING {
            waiting.pop_front().into_iter().for_each(&mut take);
        }
        let (from, to) = ends(number)?;
        let socket = UdpSocket::bind(from).context("a port of the client")?;
        socket.set_read_timeout(Some(PATIENCE.std()))?;
        socket.send_to(b"query", to).context("asking")?;
        waiting.push_back(socket);
    }
    waiting.into_iter().for_each(take);
    Ok(answered)
}

/// Connections that were opened and closed.
fn calls(pair: &Pair, end: Instant) -> Result<u64> {
    let listeners = pair.server.enter(|| PORTS.map(listen).collect::<Result<Vec<_>>>())?;
    let (over, next, made) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // What it accepts is closed at once. An error is a connection that was given up.
                    listener.accept().ok();
                }
            });
        }
        let done = pair.client.enter(|| {
            thread::scope(|scope| {
                let callers = [(); CALLERS].map(|()| scope.spawn(|| call(end, &next, &made)));
                callers
                    .into_iter()
                    .try_for_each(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?)
            })
        });
        over.store(true, Ordering::Relaxed);
        // They see it when they have accepted once more.
        let woken = pair.server.enter(|| {
            listeners.iter().try_for_each(|listener| {
                TcpStream::connect(listener.local_addr()?)?;
                Ok(())
            })
        });
        done.and(woken)
    })?;
    Ok(made.into_inner())
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(SERVER, port)))?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn call(end: Instant, next: &AtomicU64, made: &AtomicU64) -> Result<()> {
    while clock::now() < end {
        let (from, to) = ends(next.fetch_add(1, Ordering::Relaxed))?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into()).context("a port of the client")?;
        socket.set_read_timeout(Some(PATIENCE.std()))?;
        // One that is not made in time is none.
        let through = socket.connect_timeout(&to.into(), PATIENCE.times(5).std());
        let mut stream = TcpStream::from(socket);
        if through.is_ok() && stream.read(&mut [0; 1]).is_ok_and(|len| len == 0) {
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
