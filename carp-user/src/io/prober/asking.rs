//! One master that is asked: a raw socket for each path, and what was answered over it.

use super::Means;
use crate::io::bpf::Beat;
use crate::io::clock;
use crate::proto::detect::{Answered, By, Detector, Path, Sign, Watched};
use carp_common::auth::ProbeKey;
use carp_common::time::{Instant, Span};
use carp_common::wire::ip::{CARP, UNROUTED};
use carp_common::wire::probe::{Ends, Probe, Subject, ends_v4, ends_v6};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use zerocopy::IntoBytes;

/// A master.
pub(super) struct Asking {
    detector: Detector,
    session: u64,
    interval: Span,
    paths: Vec<Line>,
    /// Which of them are silent, as it was shown last.
    shown: Vec<bool>,
}

/// A path with what it takes to ask.
struct Line {
    path: Path,
    number: u16,
    ends: Ends,
    key: ProbeKey,
    socket: Socket,
}

impl Asking {
    /// Over these paths, with a key for each, under numbers that are free.
    ///
    /// # Errors
    /// When there are not enough numbers; what the kernel says of a socket.
    pub(super) fn begin(
        watched: &Watched,
        (means, free): (&[Means], &[u16]),
        beat: &Beat,
        now: Instant,
    ) -> io::Result<Self> {
        let session = clock::seed().map_err(io::Error::other)?.max(1);
        let paths = watched.paths.iter().zip(means).zip(free);
        let paths: io::Result<Vec<Line>> =
            paths.map(|((path, means), number)| Line::open(*path, *means, *number)).collect();
        let paths = paths?;
        if paths.len() < watched.paths.len() {
            return Err(io::Error::other("it has more interfaces than can be asked over"));
        }
        paths.iter().for_each(|line| beat.begin(line.number, session));
        let shown = vec![false; paths.len()];
        Ok(Self { detector: Detector::new(watched, now), session, interval: watched.interval, paths, shown })
    }

    /// What there is to tell, by what has been answered.
    pub(super) fn look(&mut self, beat: &Beat, now: Instant) -> Option<Sign> {
        let session = self.session;
        let answers = self.paths.iter().map(|line| {
            let probed = beat.answered(line.number);
            let is_ours = probed.session == session;
            let [asked_at, until] = [probed.sent_at, probed.until].map(Instant::from_nanos);
            if is_ours { Answered { asked_at, until } } else { Answered::default() }
        });
        self.detector.look(answers, now)
    }

    /// Asks, if that is due.
    pub(super) fn ask(&mut self, now: Instant) {
        if !self.detector.asks(now) {
            return;
        }
        for (index, line) in self.paths.iter().enumerate() {
            let at = clock::now();
            let subject = match line.path.by {
                By::Host { vhid, .. } => Subject::Host(vhid),
                By::Sync(number) => Subject::Group(number),
            };
            let probe = Probe::ask((subject, line.number), self.session, at, line.ends, line.key);
            // A neighbour that is not found is silent, too. What this machine has no room for was not asked.
            let is_full = |error: &io::Error| {
                error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
            };
            if !line.socket.send(probe.as_bytes()).is_err_and(|error| is_full(&error)) {
                self.detector.asked(index, at);
            }
        }
    }

    /// When to come back.
    pub(super) fn deadline(&self) -> Instant {
        self.detector.deadline()
    }

    /// Whether other paths are silent than when this was asked last.
    pub(super) fn has_changed(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for (shown, is_silent) in self.shown.iter_mut().zip(self.detector.silent(now)) {
            changed |= std::mem::replace(shown, is_silent) != is_silent;
        }
        changed
    }

    /// Its paths, and which of them are silent.
    pub(super) fn paths(&self) -> impl Iterator<Item = (Path, bool)> {
        self.paths.iter().map(|line| line.path).zip(self.shown.iter().copied())
    }

    /// From one question to the next.
    pub(super) const fn interval(&self) -> Span {
        self.interval
    }

    /// The numbers of its paths.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.paths.iter().map(|line| line.number)
    }
}

impl Line {
    fn open(path: Path, Means { link, key }: Means, number: u16) -> io::Result<Self> {
        let scope = link.0;
        let (domain, ends, [source, master]) = match (path.source, path.master) {
            (IpAddr::V4(source), IpAddr::V4(master)) => {
                let address = |ip| SockAddr::from(SocketAddrV4::new(ip, 0));
                (Domain::IPV4, ends_v4(source.octets(), master.octets()), [source, master].map(address))
            }
            (IpAddr::V6(source), IpAddr::V6(master)) => {
                let address = |ip| SockAddr::from(SocketAddrV6::new(ip, 0, 0, scope));
                (Domain::IPV6, ends_v6(source.octets(), master.octets()), [source, master].map(address))
            }
            (_, _) => return Err(io::Error::other("its addresses are of two families")),
        };
        let socket =
            Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(i32::from(CARP))))?;
        // It only sends.
        const RETURN: u16 = 0x06;
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        let link = NonZeroU32::new(scope);
        if domain == Domain::IPV4 {
            socket.bind_device_by_index_v4(link)?;
            socket.set_ttl_v4(u32::from(UNROUTED))?;
            socket.set_tos_v4(u32::from(CONTROL))?;
        } else {
            socket.bind_device_by_index_v6(link)?;
            socket.set_unicast_hops_v6(u32::from(UNROUTED))?;
            socket.set_tclass_v6(u32::from(CONTROL))?;
        }
        socket.bind(&source)?;
        socket.connect(&master)?;
        Ok(Self { path, number, ends, key, socket })
    }
}

/// As adverts have it: network control (CS7).
const CONTROL: u8 = 0xe0;
