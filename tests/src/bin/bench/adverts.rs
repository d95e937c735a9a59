//! What an advert takes: accepted and on its way to the daemon, or refused for its digest.

use crate::Effort;
use crate::fence::Fence;
use crate::report::{Must, Row, Unit, median};
use crate::road::{GATEWAY, GATEWAY6, LAN, LAN_MAC, Road, SOURCE, SOURCE_MAC, SOURCE6};
use crate::stages::PART;
use anyhow::{Context, Result, bail, ensure};
use carp_common::id::{IfIndex, Mac};
use carp_common::time::Instant;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_user::config::{self, Source};
use carp_user::proto::event::{Action, Errand, Event, Family, HostSetup, LinkState, Setup};
use carp_user::proto::node::Node;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Adverts that are accepted one after the other; the ring holds some more.
const ACCEPTED: usize = 256;

/// A way to authenticate, and the longest that it may take.
struct Auth {
    name: &'static str,
    /// The value of the key `auth`.
    mode: &'static str,
    must: Must,
}

const AUTHS: [Auth; 2] = [
    Auth { name: "SHA-1", mode: "carp", must: Must::AtMost(1_500_000) },
    Auth { name: "SHA-256", mode: "strict", must: Must::AtMost(3_000_000) },
];

/// One number a run.
#[derive(Default)]
struct Nanos {
    accepted: Vec<u64>,
    waking: Vec<u64>,
    refused: Vec<u64>,
}

pub fn measure(road: &Road, effort: &Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for auth in &AUTHS {
        let Nanos { accepted, waking, refused } = one(road, auth, effort)?;
        let row =
            |name: &str, nanos| Row::new(PART, format!("advert {name}, {}", auth.name), Unit::Nanos, nanos);
        rows.push(row("accepted", accepted).must(auth.must));
        rows.push(row("accepted and the daemon woken", waking));
        rows.push(row("refused", refused).must(auth.must));
    }
    Ok(rows)
}

fn one(road: &Road, auth: &Auth, effort: &Effort) -> Result<Nanos> {
    let text = Config { auth: auth.mode, ..Config::gateway() }.carp_toml();
    let hosts = setup(&text, |name| road.index(name))?;
    let mut fence = Fence::raise(&road.lab.instance("adverts"), &road.gateway, &hosts)?;
    let link = road.gateway.ifindex(LAN)?;
    let mut peer = Peer::new(&hosts)?;
    let nanos = road.gateway.enter(|| {
        let forged = peer.forged()?;
        peer.prove(&mut fence, &hosts, link)?;
        let mut nanos = Nanos::default();
        for _ in 0..effort.runs {
            nanos.accepted.push(accept(&mut fence, &mut peer, link, false)?);
            nanos.waking.push(accept(&mut fence, &mut peer, link, true)?);
            nanos.refused.push(u64::from(fence.ingress.run(&forged, link, effort.repeat)?.nanos) * 1000);
            ensure!(fence.heard() == 0, "a forged advert was accepted");
        }
        Ok(nanos)
    })?;
    fence.lower(&road.gateway)?;
    Ok(nanos)
}

/// The median of single runs, since a digest is good for one advert only. A ring that is read up wakes
/// its reader for the next advert, one that is not does not.
fn accept(fence: &mut Fence, peer: &mut Peer, link: u32, read: bool) -> Result<u64> {
    let (mut nanos, mut heard) = (Vec::new(), 0);
    let before = fence.accepted()?;
    for _ in 0..ACCEPTED {
        let ran = fence.ingress.run(&peer.advert()?, link, 1)?;
        nanos.push(u64::from(ran.nanos) * 1000);
        heard += if read { fence.heard() } else { 0 };
    }
    heard += fence.heard();
    let accepted = fence.accepted()? - before;
    ensure!(heard == ACCEPTED, "{heard} of {ACCEPTED} adverts were heard");
    ensure!(accepted == ACCEPTED as u64, "{accepted} of {ACCEPTED} adverts were accepted");
    Ok(median(&nanos).unwrap_or(0))
}

/// The virtual hosts of a configuration, with the numbers of their links.
pub fn setup(carp_toml: &str, index_of: impl Fn(&str) -> Option<IfIndex>) -> Result<Vec<HostSetup>> {
    let source = |name: &str, text: String| Source { name: name.to_owned(), text };
    let lab = Config::gateway();
    let node = source("node.toml", lab.node_toml("bench"));
    let secret = |_: &Path| Ok(lab.password.as_bytes().to_vec().into());
    let config = config::parse(source("carp.toml", carp_toml.to_owned()), Some(node), secret)?;
    Ok(config.setup(index_of, 1)?.hosts)
}

/// An advert for the LAN's virtual host, good but for its digest: what a flood is made of.
pub fn forged(road: &Road) -> Result<Vec<u8>> {
    Peer::new(&setup(&Config::gateway().carp_toml(), |name| road.index(name))?)?.forged()
}

/// A node with the first of these virtual hosts and these addresses.
fn node(hosts: &[HostSetup], mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Node> {
    let host = hosts.first().context("no virtual hosts")?.clone();
    let (link, now) = (host.link, clock::now());
    let mut node = Node::new(Setup { hosts: vec![host], seed: 7, epoch: 1 }, now);
    let (source_v4, source_v6) = (Some(v4), Some(v6));
    let state = LinkState { up: true, mac, source_v4, source_v6, shielded: true, router: true };
    node.handle(Event::Link { link, state }, now);
    Ok(node)
}

/// A master on the LAN, in a time of its own.
struct Peer {
    node: Node,
    now: Instant,
}

impl Peer {
    fn new(hosts: &[HostSetup]) -> Result<Self> {
        Ok(Self { node: node(hosts, SOURCE_MAC, SOURCE, SOURCE6)?, now: clock::now() })
    }

    /// With strict authentication it has to answer a greeting before its adverts are taken.
    fn prove(&mut self, fence: &mut Fence, hosts: &[HostSetup], link: u32) -> Result<()> {
        let (mut gateway, now) = (node(hosts, LAN_MAC, GATEWAY, GATEWAY6)?, clock::now());
        let advert = self.advert()?;
        for action in gateway.handle(Event::Frame { link: IfIndex(link), at: now, frame: &advert }, now) {
            match action {
                Action::Challenge { challenge, .. } => fence.challenge(challenge)?,
                Action::Advertise { errand: Errand::Greeting(_), frame, .. } => {
                    let greeting = Event::Frame { link: IfIndex(link), at: self.now, frame: frame.bytes() };
                    for answer in self.node.handle(greeting, self.now) {
                        if let Action::Send { frame, .. } = answer {
                            fence.ingress.run(frame.bytes(), link, 1)?;
                        }
                    }
                }
                Action::Advertise { .. }
                | Action::Watch { .. }
                | Action::Send { .. }
                | Action::Announce { .. }
                | Action::Window { .. }
                | Action::Changed(_)
                | Action::Tell { .. }
                | Action::Ask(_)
                | Action::Demoted(_)
                | Action::Peer { .. }
                | Action::Serving { .. }
                | Action::Warn { .. } => {}
            }
        }
        fence.heard();
        Ok(())
    }

    /// Its next one over IPv4.
    fn advert(&mut self) -> Result<Vec<u8>> {
        /// It listens and claims first, and has more to do than to advertise.
        const MOST_TICKS: usize = 100;
        for _ in 0..MOST_TICKS {
            self.now = self.node.deadline().context("a peer with nothing to do")?;
            let mut advert = None;
            for action in self.node.handle(Event::Tick, self.now) {
                if let Action::Advertise { host, errand, frame, .. } = action {
                    self.node.handle(Event::Sent { host, errand, at: self.now, ok: true }, self.now);
                    advert = advert
                        .or_else(|| (errand == Errand::Advert(Family::V4)).then(|| frame.bytes().to_vec()));
                }
            }
            if let Some(advert) = advert {
                return Ok(advert);
            }
        }
        bail!("a peer that does not advertise")
    }

    /// Its next one with a wrong digest: two words of it change places, so the checksum is right.
    fn forged(&mut self) -> Result<Vec<u8>> {
        let mut frame = self.advert()?;
        let words = frame.len() - 4;
        frame[words..].rotate_left(2);
        Ok(frame)
    }
}
