//! What comes over the sync link from a peer gone mad, from strangers, and from somebody with a recording; and a
//! standby that has no room.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::capture::Capture;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::flows::{Room, inject, make, numbered};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::wait_for_state;
use carp_tests::lab::{Purpose, clock};
use carp_user::config::SyncKey;
use carp_user::io::conntrack::count;
use carp_user::io::peer::{Happening, Peer, Place};
use carp_user::proto::flow::Flow;
use carp_user::proto::sync::message::{Hello, Message, begin_batch};
use carp_user::proto::sync::record::{Author, Item, Record, Version};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

/// Most connections of a kernel, and how many the peer says that it has.
const ROOM: u32 = 20_000;
const MAX: &str = "nf_conntrack_max";
const FLOWS: u32 = 1_000_000;
/// A daemon's memory beside its program, which takes the rest of 20 MB: what it takes without a flow, and for each.
const BASE: u64 = 14 << 20;
const EACH: u64 = 100;
const PORT: u16 = 7112;
const GW1: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 9, 2));
const GW2: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 9, 3));
/// Bytes of the answer to a first message.
const ANSWER: usize = 50;

#[test]
fn a_peer_with_a_million_flows_is_refused_those_for_which_there_is_no_room() -> Result<()> {
    let _room = Room::set(&[(MAX, ROOM.into())])?;
    let pair = Pair::new(Purpose::Test)?;
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_sync())?;
    gw1.wait_role("MASTER", PATIENCE)?;
    let changes = gw1.process()?.log().len();
    forget_peak(&mut gw1)?;
    as_gw2(&pair, async |mad| {
        mad.meets().await?;
        let mut odd = [numbered(0)?, numbered(1)?];
        odd[0].helper = Some(std::array::from_fn(|at| *b"no-such-helper".get(at).unwrap_or(&0)));
        (odd[1].key.zone, odd[1].reply_zone) = (3, 4);
        mad.says(&odd).await?;
        for first in (2..FLOWS).step_by(1000) {
            mad.says(&(first..first + 1000).map(numbered).collect::<Result<Vec<_>>>()?).await?;
        }
        mad.is_confirmed().await?;
        let over = counter(&gw1, "over-limit", u64::from(FLOWS - ROOM))?;
        ensure!(over <= u64::from(FLOWS), "{over} flows over the limit");
        // A frame that ends before its record does.
        mad.peer.send([&begin_batch(mad.batch + 1)[..], &[0, 90, 1]].concat());
        while mad.peer.heard().await != Happening::Disconnected {}
        mad.meets().await
    })?;
    let held = pair.gw1().enter(|| Ok(count()?))?;
    assert!((ROOM / 2..=ROOM).contains(&held), "{held} connections in the kernel");
    let most = BASE + EACH * u64::from(ROOM);
    let memory = gw1.most_memory()?.saturating_sub(gw1.code_in_memory()?);
    assert!(memory <= most, "{memory} bytes, and {most} are right");
    let sync = gw1.status()?["sync"].clone();
    for cause in ["refused-helper", "refused-unfit"] {
        assert_eq!(sync["counters"][cause], 1, "{sync}");
    }
    assert!(sync["alarm"].as_str().is_some_and(|alarm| alarm.starts_with("table-full: ")), "{sync}");
    let said = String::from_utf8(gw1.carpctl(&["sync", "status"])?.stdout)?;
    assert!(said.contains("\nalarm: table-full: ") && said.contains("over-limit"), "{said}");
    let log = gw1.process()?.log();
    for (words, times) in [
        ("alarm table-full: ", 1),
        (", tcp 10.0.0.0:1024 > 198.51.100.1:443 for one: it has no such helper", 1),
        (", tcp 10.0.0.0:1025 > 198.51.100.1:443 in zone 3 for one: no kernel can hold it", 1),
        ("the peer sends what makes no sense: it ends too early", 1),
    ] {
        assert_eq!(log.matches(words).count(), times, "{words}: {log}");
    }
    // Neither the election nor what serves has noticed.
    assert!(!log[changes..].contains(" -> ") && gw1.is_all("MASTER"), "{log}");
    gw1.stop().map(drop)
}

#[test]
fn strangers_and_a_recording_get_nothing_and_the_peer_still_does() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    // One frame, one segment: so it fits where it is captured.
    pair.gw1().ip("link set sync0 gso_max_segs 1")?;
    let heard = Capture::start(pair.gw2(), "sync0")?;
    let begun = clock::now();
    let config = Config::gateway().with_sync();
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    let gw2 = Carpd::start(&pair.lab, pair.gw2(), &config.of_backup())?;
    wait_for_state(&gw2, "in-step")?;
    make(pair.gw1(), 0..20)?;
    clock::wait_for("the replicas", PATIENCE, || {
        (gw2.status().ok()?["sync"]["replicated"].as_u64() >= Some(20)).then_some(())
    })?;
    let recording = said_to(&heard, begun)?;
    ensure!(recording.len() > ANSWER + 18 + 20 * 40, "{} bytes of a session", recording.len());
    gw1.stop()?;
    wait_for_state(&gw2, "alone")?;
    gw2.wait_role("MASTER", PATIENCE)?;
    // The replicas are its own now; it tells of itself once a second.
    clock::sleep(Span::millis(1500));
    let before = gw2.status()?["sync"].clone();
    // With the peer's address: the recording, then nonsense, then its beginning only.
    for (words, length) in
        [(&recording[..], ANSWER), (b"GET / HTTP/1.1\r\n\r\n", 0), (&[0, 48, 1], 0), (&[0; 999], 0)]
    {
        let answer = pair.gw1().enter(|| ask(GW1, words))?;
        assert_eq!(answer.len(), length, "in answer to {} bytes", words.len());
    }
    pair.gw1().ip("address add 10.77.9.99/24 dev sync0")?;
    let answer = pair.gw1().enter(|| ask(Ipv4Addr::new(10, 77, 9, 99).into(), &recording))?;
    assert_eq!(answer, b"", "from another address not even the beginning is read");
    clock::sleep(Span::millis(1500));
    // Four handshakes at a time: of twenty that say nothing the others are closed unread.
    let closed = pair.gw1().enter(|| {
        let open = (0..20).map(|_| socket(GW1)).collect::<Result<Vec<_>>>()?;
        Ok(open.iter().map(is_closed).collect::<Result<Vec<bool>>>()?.into_iter().filter(|it| *it).count())
    })?;
    assert!(closed >= 16, "{closed} of 20 were closed");
    let after = gw2.status()?["sync"].clone();
    for what in
        ["/state", "/local", "/replicated", "/counters/stale", "/counters/over-limit", "/counters/refused"]
    {
        assert_eq!(after.pointer(what), before.pointer(what), "{what}");
    }
    gw1.run()?;
    wait_for_state(&gw2, "in-step")
}

#[test]
fn a_standby_whose_table_is_full_says_so_and_catches_up_when_there_is_room() -> Result<()> {
    let config = Config::gateway().with_sync().excluding("{ prefix = \"10.99.0.0/16\" }");
    let mut duo = Duo::elected(&config)?;
    wait_for_state(&duo.gw2, "in-step")?;
    // Three thousand of its own, which nobody else has.
    let mut own = (0..3000).map(numbered).collect::<Result<Vec<_>>>()?;
    for flow in &mut own {
        flow.key.original.source = Ipv4Addr::new(10, 99, 0, 1).into();
        flow.reply.destination = Ipv4Addr::new(192, 0, 9, 1).into();
    }
    inject(duo.pair.gw2(), &own)?;
    let room = Room::set(&[(MAX, 4000)])?;
    make(duo.pair.gw1(), 0..2000)?;
    let alarm = || {
        let sync = duo.gw2.status().ok()?["sync"].clone();
        sync["alarm"].as_str()?.starts_with("table-full: ").then_some(sync)
    };
    let sync = clock::wait_for("the alarm", PATIENCE, alarm)?;
    assert!(sync["counters"]["refused-full"].as_u64() >= Some(900), "{sync}");
    assert_eq!(duo.gw2.carpctl(&["sync", "status"])?.status.code(), Some(10));
    assert_eq!(duo.gw2.carpctl(&["status"])?.status.code(), Some(10));
    // It is offered ever more rarely, not again and again.
    clock::sleep(Span::secs(4));
    let refused = duo.gw2.status()?["sync"]["counters"]["refused-full"].as_u64();
    assert!(refused <= Some(6 * 1100), "{refused:?} in a few seconds");
    drop(room);
    clock::wait_for("all of it to be there", PATIENCE.times(4), || {
        let sync = duo.gw2.status().ok()?["sync"].clone();
        (sync["differing"] == 0 && sync["replicated"].as_u64() >= Some(2000) && sync["alarm"].is_null())
            .then_some(())
    })?;
    let log = duo.gw2.process()?.log();
    for (words, most) in
        [("alarm table-full: ", 1), ("the alarm is over", 1), (" for one: its table is full", 8)]
    {
        let times = log.matches(words).count();
        assert!((1..=most).contains(&times), "{times} times {words}: {log}");
    }
    duo.never_two_masters()
}

/// Who has gw2's address and the key, and is no carpd.
struct Mad {
    peer: Peer,
    batch: u64,
    confirmed: u64,
}

impl Mad {
    /// Batches that it has under way: as many as its own queue holds.
    const AHEAD: u64 = 64;

    /// Waits for a session and says hello.
    async fn meets(&mut self) -> Result<()> {
        while self.peer.heard().await != Happening::Connected {}
        let hello = Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            epoch: 1 << 40,
            clock: Version(0),
            term: Version(0),
            serving: false,
            name: "mad",
        };
        (self.batch, self.confirmed) = (0, 0);
        self.peer.send(hello.encode());
        Ok(())
    }

    /// Tells all of these, when the kernel of gw1 has most of those before.
    async fn says(&mut self, flows: &[Flow]) -> Result<()> {
        self.batch += 1;
        let mut frame = begin_batch(self.batch);
        for flow in flows {
            let (version, author) = (Version(1 << 60), Author::Sender);
            Record { version, author, incarnation: 0, item: Item::Flow(*flow) }.encode(&mut frame);
        }
        self.peer.send(frame);
        self.hears(self.batch.saturating_sub(Self::AHEAD)).await
    }

    async fn is_confirmed(&mut self) -> Result<()> {
        self.hears(self.batch).await
    }

    async fn hears(&mut self, confirmed: u64) -> Result<()> {
        while self.confirmed < confirmed {
            let heard = self.peer.heard().await;
            let Happening::Frame(frame) = &heard else {
                anyhow::bail!("{heard:?} after {} batches", self.batch)
            };
            if let Ok(Some(Message::Ack(number))) = Message::decode(frame) {
                self.confirmed = number;
            }
        }
        Ok(())
    }
}

fn as_gw2(pair: &Pair, act: impl AsyncFnOnce(&mut Mad) -> Result<()> + Send) -> Result<()> {
    let key = hex(Config::gateway().with_sync().sync.context("no sync")?.2)?;
    pair.gw2().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (local, peer) = ((GW2, PORT).into(), (GW1, PORT).into());
            let place = Place { local, peer, device: Some("sync0".to_owned()) };
            let mut mad = Mad { peer: Peer::open(place, SyncKey::from(key).into()), batch: 0, confirmed: 0 };
            tokio::time::timeout(PATIENCE.times(6).std(), act(&mut mad)).await?
        })
    })
}

fn hex(digits: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2).context("too short")?, 16)?;
    }
    Ok(bytes)
}

/// Waits until a counter of replication is at least this.
fn counter(carpd: &Carpd, name: &str, least: u64) -> Result<u64> {
    clock::wait_for(&format!("{least} {name}"), PATIENCE, || {
        carpd.status().ok()?["sync"]["counters"][name].as_u64().filter(|count| *count >= least)
    })
}

/// What it took to start does not count.
fn forget_peak(carpd: &mut Carpd) -> Result<()> {
    let file = format!("/proc/{}/clear_refs", carpd.process()?.id());
    fs::write(&file, "5").context(file)
}

/// The bytes of the first session that came to gw2's port, in their order.
fn said_to(capture: &Capture, since: carp_common::time::Instant) -> Result<Vec<u8>> {
    let mut parts: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut session = None;
    for (_, frame) in capture.since(since) {
        let number = |at: usize, len: usize| {
            frame
                .get(at..at + len)
                .unwrap_or_default()
                .iter()
                .fold(0_u32, |all, byte| all << 8 | u32::from(*byte))
        };
        let (head, from, to) = (14 + 20, number(34, 2), number(36, 2));
        if (number(12, 2), number(23, 1), to) != (0x0800, 6, u32::from(PORT)) {
            continue;
        }
        let payload = head + 4 * usize::try_from(number(46, 1) >> 4)?;
        let end = 14 + usize::try_from(number(16, 2))?;
        let bytes = frame.get(payload..end).unwrap_or_default();
        if !bytes.is_empty() && *session.get_or_insert(from) == from {
            parts.insert(number(38, 4), bytes.to_vec());
        }
    }
    // One connection, made a moment ago: its numbers do not wrap but by chance, once in a million runs.
    let first = parts.keys().next().copied().context("nothing was said")?;
    parts.into_iter().try_fold(Vec::new(), |mut all, (at, bytes)| {
        let known = all.len().saturating_sub(usize::try_from(at.wrapping_sub(first))?);
        ensure!(usize::try_from(at.wrapping_sub(first))? <= all.len(), "a part of the session is missing");
        all.extend(bytes.get(known..).unwrap_or_default());
        Ok(all)
    })
}

/// Whether the other end has closed it.
fn is_closed(mut stream: &TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Span::millis(200).std()))?;
    match stream.read(&mut [0]) {
        Ok(count) => Ok(count == 0),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn socket(from: IpAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&SocketAddr::new(GW2, PORT).into())?;
    Ok(socket.into())
}

/// All that comes in answer to this, until the end.
fn ask(from: IpAddr, words: &[u8]) -> Result<Vec<u8>> {
    let mut stream = socket(from)?;
    stream.set_read_timeout(Some(PATIENCE.std()))?;
    // Who is hung up on in the middle of a word has said enough.
    stream.write_all(words).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) => return Err(error.into()),
        }
    }
}
