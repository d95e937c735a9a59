//! What the configuration says of a node and of its virtual hosts.

use super::changes::Former;
use super::detect::{Aside, Detect};
use super::event::HostId;
use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Vhid};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// What a node is told once, at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The virtual hosts, in the order of the configuration file; at most
    /// [`carp_common::map::MAX_HOSTS`].
    pub hosts: Vec<HostSetup>,
    /// Starts the stream of counters; drawn by the caller.
    pub seed: u64,
    /// High half of every strict counter: higher than at any start before. Without strict counters it is
    /// of no meaning.
    pub epoch: u32,
}

/// One virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSetup {
    /// Name of the interface, for people.
    pub interface: String,
    /// Link that it lives on.
    pub link: IfIndex,
    /// The group that it belongs to.
    pub group: Option<Group>,
    /// Its number on the segment.
    pub vhid: Vhid,
    /// Its addresses, in configuration order; at least one.
    pub vips: Vec<IpAddr>,
    /// Configured base and skew; base is 1..=254.
    pub pace: Pace,
    /// Whether a backup takes over from a worse master.
    pub preempt: bool,
    /// How long it does not do so after it has begun to listen: at its start, and when its link is up again.
    pub preempt_delay: Span,
    /// Who is asked before it takes over.
    pub gate: Option<super::gate::Setup>,
    /// Whose timers and rules it follows.
    pub flavour: Flavour,
    /// How adverts are signed, and which are accepted.
    pub mode: Mode,
    /// The shared secret.
    pub key: Key,
    /// Another one that is accepted and not sent: the next, or the one before.
    pub next_key: Option<Key>,
    /// Digest variant that is sent.
    pub digest: Variant,
    /// Digest variants that are accepted.
    pub accept: Vec<Variant>,
    /// TOS and traffic class of the adverts.
    pub tos: u8,
    /// Whether the datapath answers pings to its addresses.
    pub answer_ping: bool,
    /// The addresses that it had before, if they were changed while it ran.
    pub former: Former,
    /// End of the lease that an earlier daemon left in the datapath, when it still runs.
    pub resume_until: Option<Instant>,
}

/// Virtual hosts that belong together: a `[[group]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// It has one role.
    pub as_one: bool,
    /// So many nodes have it.
    pub nodes: u8,
    /// How it finds out that its master is gone, beside by its adverts.
    pub detect: Option<Detect>,
}

/// Whose election it is. Both are understood by every implementation; groups of one kind agree best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// Demotion is folded into the skew, and byte 4 of a peer is not looked at. pfSense, OPNsense.
    #[default]
    Freebsd,
    /// Demotion is told in byte 4 and compares before base and skew; the skew counts three times in
    /// the dead time (OpenBSD since 2025).
    Openbsd,
}

impl Setup {
    /// The virtual hosts under the numbers that they get.
    pub fn numbered(&self) -> impl Iterator<Item = (HostId, &HostSetup)> + Clone {
        (0..).map(HostId).zip(&self.hosts)
    }
}

impl HostSetup {
    /// As FreeBSD and we call it in logs: `1@lan0`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.vhid, self.interface)
    }

    /// The group that it moves with as one.
    pub fn grouped(&self) -> Option<&Group> {
        self.group.as_ref().filter(|group| group.as_one)
    }

    /// How the master of its group is asked over the sync link, if it is.
    pub fn aside(&self) -> Option<Aside> {
        self.grouped()?.detect?.aside
    }

    /// Whether whatever is heard, on any path of that group, is of the one other node.
    pub fn is_of_pair(&self) -> bool {
        self.grouped().is_some_and(|group| group.nodes == 2)
    }

    /// The addresses that adverts are signed for.
    pub fn signed_vips(&self) -> &[IpAddr] {
        self.former.signed.and_then(|signed| self.former.lists.get(signed)).unwrap_or(&self.vips)
    }

    /// Those that they could be signed for instead, as they are newer: in the order in which they were configured.
    pub fn newer_vips(&self) -> impl Iterator<Item = &[IpAddr]> {
        let newer = self.former.signed.and_then(|signed| self.former.lists.get(signed + 1..));
        let now = newer.map(|_| &self.vips);
        newer.unwrap_or_default().iter().chain(now).map(Vec::as_slice)
    }
}

impl Flavour {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Freebsd, Self::Openbsd];

    /// Its name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Freebsd => "freebsd",
            Self::Openbsd => "openbsd",
        }
    }

    /// The flavour of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flavour| flavour.name() == name)
    }
}
