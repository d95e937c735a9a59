//! What a node tells of itself; the control socket and the simulator read it.

use super::event::{HostId, Reason, Role};
use super::standing::Standing;
use carp_common::admission::Mode;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Per virtual host, in configuration order.
    pub hosts: Vec<HostStatus>,
    /// Named demotions in force, by name.
    pub demotions: Vec<DemotionStatus>,
    /// Their sum, which every virtual host adds to its skew.
    pub demotion: i32,
    /// Frames refused that belong to none of the virtual hosts, by reason.
    pub stray: Vec<(&'static str, u64)>,
}

/// A virtual host at one moment.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// Index in the configuration.
    pub id: HostId,
    /// Its link.
    pub link: IfIndex,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// Its number.
    pub vhid: Vhid,
    /// Its addresses.
    pub vips: Vec<IpAddr>,
    /// Its role.
    pub role: Role,
    /// Since when.
    pub since: Instant,
    /// Why.
    pub reason: Reason,
    /// The datapath's window.
    pub window: Window,
    /// Base and skew as configured.
    pub configured: Pace,
    /// Base and skew as advertised, demotion included.
    pub effective: Pace,
    /// The peer that was heard last, if any.
    pub peer: Option<PeerStatus>,
    /// Adverts accepted.
    pub accepted: u64,
    /// Adverts sent.
    pub sent: u64,
    /// Adverts that the kernel did not take.
    pub send_errors: u64,
    /// Adverts refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// How adverts are signed.
    pub auth: AuthStatus,
    /// Of what all its nodes must agree on, see [`carp_common::auth::common_digest`].
    pub digest: [u8; 4],
    /// Where it stands.
    pub standing: Standing,
}

/// How adverts are signed, and what was noticed about that.
#[derive(Clone, Debug)]
pub struct AuthStatus {
    /// The mode.
    pub mode: Mode,
    /// While migrating: peers heard of late that sign strictly ...
    pub strict_peers: usize,
    /// ... and those that do not.
    pub other_peers: Vec<IpAddr>,
    /// Adverts that were accepted and should not be, by why.
    pub suspicious: Vec<(&'static str, u64)>,
}

/// The peer that was heard last.
#[derive(Clone, Copy, Debug)]
pub struct PeerStatus {
    /// Its address.
    pub address: IpAddr,
    /// What it advertised.
    pub pace: Pace,
    /// How long ago.
    pub age: Span,
    /// It confirms hand-overs: a node of this implementation.
    pub confirms: bool,
}

/// A named demotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemotionStatus {
    /// Owner and key.
    pub name: String,
    /// Added to every skew.
    pub amount: u8,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// Until when, if it ends by itself.
    pub until: Option<Instant>,
}
