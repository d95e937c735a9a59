//! What the control socket speaks: one JSON [`Request`] a line, one JSON [`Response`] a line.

mod config;
mod events;
pub mod remote;
mod request;
mod standing;
mod states;
mod sync;
mod track;
mod wakeups;
pub mod xmlrpc;

pub use config::{ConfigPeer, ConfigState};
pub use events::{EVENTS_AT_ONCE, Event, Step, What, rank};
pub use request::{Authority, Request, Response, Shared, VirtualHost, has_control};
pub use standing::{Gate, Heir, Held, Standing, Waits};
pub use states::{AT_ONCE, FlowQuery, FlowStanding, Place};
pub use sync::Sync;
pub use track::Track;
pub use wakeups::WakeUps;

use crate::io::bpf::{BUILD, Counters};
use crate::proto::status::{HostStatus, NodeStatus};
use carp_common::admission::Mode;
use carp_common::map::{ABI, Counter};
use carp_common::time::{Instant, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of [`Status`] as JSON; changes when a field goes or changes its meaning.
pub const SCHEMA: u32 = 1;

/// A node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Milliseconds since this was true, at most; the daemon says 0, and whoever asked adds the time
    /// that the answer took.
    #[serde(default)]
    pub age_ms: u64,
    /// Name of the node.
    pub node: String,
    /// Process id of the daemon; 0 when it does not answer.
    pub pid: u32,
    /// Version of the daemon; empty when it does not answer.
    pub version: String,
    /// Version of the BPF maps' layouts.
    #[serde(default)]
    pub abi: u32,
    /// Build of the BPF programs that the daemon brought; of those that are pinned, when it does not
    /// answer.
    #[serde(default)]
    pub build: String,
    /// Virtual hosts, in configuration order.
    pub hosts: Vec<Host>,
    /// Demotions in force.
    pub demotions: Vec<Demotion>,
    /// Their sum.
    pub demotion: i32,
    /// What is looked at again and again, and demotes the node while it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracks: Vec<Track>,
    /// The master that each group asks whether it serves, a path each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probed: Vec<Probed>,
    /// How adverts and VIPs are handled per interface: `native`, `generic` or `off`; `attached` when
    /// the daemon does not answer.
    pub datapath: BTreeMap<String, String>,
    /// Datapath counters, summed over CPUs.
    pub counters: BTreeMap<String, u64>,
    /// Frames refused that belong to no virtual host, by reason.
    pub stray: BTreeMap<String, u64>,
    /// Milliseconds left to confirm the configuration, if it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed_ms: Option<u64>,
    /// How the configuration stands with the other node, where one follows the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigState>,
    /// VIPs that somebody else took away while this node served them; each was put back, and is named in the log.
    #[serde(default)]
    pub addresses_taken: u64,
    /// How late the daemon wakes, if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakeups: Option<WakeUps>,
    /// Replication, if it is configured and the daemon answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
}

/// A path over which a group's master is asked whether it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Name of the group.
    pub group: String,
    /// Interface name.
    pub interface: String,
    /// The master's address.
    pub master: String,
    /// Milliseconds from one question to the next.
    pub interval_ms: u64,
    /// Three questions in a row were not answered.
    pub silent: bool,
}

/// A virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Interface name.
    pub interface: String,
    /// Number on the segment.
    pub vhid: u8,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `INIT`, `BACKUP` or `MASTER`; `UNKNOWN` when the daemon does not answer.
    pub role: String,
    /// Milliseconds since the role changed.
    pub since_ms: u64,
    /// Why it changed.
    pub reason: String,
    /// Whether the node serves the VIPs at this moment.
    pub serving: bool,
    /// Milliseconds until the lease ends; 0 when not serving.
    pub lease_left_ms: u64,
    /// Addresses.
    pub vips: Vec<String>,
    /// Configured base, seconds.
    pub base: u8,
    /// Configured skew, 1/256 s.
    pub skew: u8,
    /// Skew as advertised, demotion included.
    pub effective_skew: u8,
    /// The peer heard last.
    pub peer: Option<Peer>,
    /// Adverts accepted.
    pub accepted: u64,
    /// Adverts sent.
    pub sent: u64,
    /// Adverts that could not be sent.
    pub send_errors: u64,
    /// Adverts refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// What the datapath did with its frames, by counter; empty without XDP.
    #[serde(default)]
    pub datapath: BTreeMap<String, u64>,
    /// Of vhid, VIPs and key: nodes that should share this virtual host must show the same.
    #[serde(default)]
    pub digest: String,
    /// How adverts are signed: `carp`, `migrate` or `strict`.
    #[serde(default)]
    pub auth: String,
    /// While migrating: addresses of peers heard in the last ten minutes that sign strictly ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_peers: Option<usize>,
    /// ... and of those that do not yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_peers: Vec<String>,
    /// Adverts that were accepted and look forged, by why; strict authentication would refuse them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub suspicious: BTreeMap<String, u64>,
    /// What the pinned map says of its window, where the asker may read that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<MapWindow>,
    /// What it waits for, who could take over, what holds it back.
    #[serde(default)]
    pub standing: Standing,
}

/// The datapath's window of a virtual host, as its map has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapWindow {
    /// The datapath serves.
    pub open: bool,
    /// Milliseconds until it ends; 0 when it is not open.
    pub left_ms: u64,
    /// Milliseconds since it ended by itself: nobody has renewed, claimed or closed it.
    pub ended_ms: Option<u64>,
    /// Milliseconds until an armed backup's window opens by itself if the master stays silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_in_ms: Option<u64>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// Base that it advertised, seconds.
    pub base: u8,
    /// Skew that it advertised, 1/256 s.
    pub skew: u8,
    /// Milliseconds since its last advert.
    pub age_ms: u64,
    /// It confirms hand-overs, as nodes of this implementation do.
    pub confirms: bool,
}

/// A demotion in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demotion {
    /// Who and what for.
    pub name: String,
    /// Added to every skew.
    pub amount: u8,
    /// Why.
    pub reason: String,
    /// Milliseconds since it was put in place.
    pub since_ms: u64,
    /// Milliseconds until it ends by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

impl Status {
    /// Of this node, `interface` naming the link of each virtual host. The datapath's part is left
    /// empty for the caller.
    pub fn of(
        node: &NodeStatus,
        name: &str,
        interface: impl Fn(&HostStatus) -> String,
        now: Instant,
    ) -> Self {
        let demotions = node.demotions.iter().map(|demotion| Demotion {
            name: demotion.name.clone(),
            amount: demotion.amount,
            reason: demotion.reason.clone(),
            since_ms: now.since(demotion.since).as_millis(),
            expires_ms: demotion.until.map(|until| until.since(now).as_millis()),
        });
        Self {
            schema: SCHEMA,
            age_ms: 0,
            node: name.to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI,
            build: BUILD.to_owned(),
            hosts: node.hosts.iter().map(|host| Host::of(host, interface(host), now)).collect(),
            demotions: demotions.collect(),
            demotion: node.demotion,
            tracks: Vec::new(),
            probed: Vec::new(),
            datapath: BTreeMap::new(),
            counters: BTreeMap::new(),
            stray: named(&node.stray),
            unconfirmed_ms: None,
            config: None,
            addresses_taken: 0,
            wakeups: None,
            sync: None,
        }
    }
}

impl Host {
    fn of(host: &HostStatus, interface: String, now: Instant) -> Self {
        let serving = host.window.is_leased(now);
        let left = if serving { Instant::from_nanos(host.window.serve_until).since(now) } else { Span::ZERO };
        Self {
            interface,
            vhid: host.vhid.get(),
            group: host.group.clone(),
            role: host.role.name().to_owned(),
            since_ms: now.since(host.since).as_millis(),
            reason: host.reason.text().to_owned(),
            serving,
            lease_left_ms: left.as_millis(),
            vips: host.vips.iter().map(ToString::to_string).collect(),
            base: host.configured.base,
            skew: host.configured.skew,
            effective_skew: host.effective.skew,
            peer: host.peer.map(|peer| Peer {
                address: peer.address.to_string(),
                base: peer.pace.base,
                skew: peer.pace.skew,
                age_ms: peer.age.as_millis(),
                confirms: peer.confirms,
            }),
            accepted: host.accepted,
            sent: host.sent,
            send_errors: host.send_errors,
            auth: host.auth.mode.name().to_owned(),
            strict_peers: (host.auth.mode == Mode::Migrate).then_some(host.auth.strict_peers),
            other_peers: host.auth.other_peers.iter().map(ToString::to_string).collect(),
            suspicious: named(&host.auth.suspicious),
            refused: named(&host.refused),
            datapath: BTreeMap::new(),
            digest: host.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            window: None,
            standing: Standing::of(&host.standing, now),
        }
    }

    /// Adds what the datapath refused before the daemon heard of it.
    pub fn add_refused(&mut self, counters: &Counters) {
        for (counter, count) in counters.iter().filter(|(_, count)| *count != 0) {
            if let Counter::Refused(refusal) = counter {
                *self.refused.entry(refusal.name().to_owned()).or_default() += count;
            }
        }
    }

    /// `lan0@1`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.interface, self.vhid)
    }
}

fn named(counts: &[(&'static str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
