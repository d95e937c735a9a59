//! Where a virtual host stands, for people and for whoever plans a move: what it is, what it waits for, who could take
//! over from it, and what holds it back.

use super::event::Role;
use super::gate::Bar;
use super::host::Host;
use super::restraint::Held;
use super::status::HostStatus;
use super::tenure::Tenure;
use carp_common::auth::common_digest;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

/// Where a virtual host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its role.
    pub role: Role,
    /// It serves under a lease.
    pub serves: bool,
    /// The master heard last, and how long ago anything was heard of it.
    pub master: Option<(IpAddr, Span)>,
    /// Whether it is configured to take over from a worse master.
    pub preempt: bool,
    /// As a master: whom it can hand the role to, and how long ago that one was heard.
    pub heir: Option<(IpAddr, Span)>,
    /// As a backup: the master that it is the heir of, and for how long yet.
    pub heir_of: Option<(IpAddr, Span)>,
    /// Its datapath takes over by itself when the master is silent.
    pub armed: bool,
    /// What holds it back.
    pub held: Option<Held>,
    /// How it stands with its gate.
    pub gate: Bar,
    /// The master is heard by others of its group, and not by this one.
    pub silent_path: bool,
    /// What it waits for, and how long at most.
    pub waits: Option<(Wait, Span)>,
    /// The master that took the role over from it, if that one has said since that it serves.
    pub served_by: Option<IpAddr>,
}

/// What a virtual host may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As a backup: for its master to count as dead.
    Silence,
    /// As a claimant: for its claim to settle.
    Settling,
    /// As a claimant: for other nodes to confirm that they do not serve, or for their leases to end.
    Others,
    /// As a claimant: for its adverts to be sent.
    Sending,
}

impl Wait {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Silence => "for its master to count as dead",
            Self::Settling => "for its claim to settle",
            Self::Others => "for others to confirm that they do not serve, or for their leases to end",
            Self::Sending => "for its adverts to be sent",
        }
    }
}

impl Host {
    /// What it is now.
    pub fn status(&self, now: Instant) -> HostStatus {
        HostStatus {
            id: self.id,
            link: self.setup.link,
            group: self.setup.group.as_ref().map(|group| group.name.clone()),
            vhid: self.setup.vhid,
            vips: self.setup.vips.clone(),
            role: self.election.role(),
            since: self.since,
            reason: self.reason,
            window: self.window,
            configured: self.setup.pace,
            effective: self.election.effective(),
            peer: self.peers.latest(now),
            accepted: self.tally.accepted,
            sent: self.tally.sent,
            send_errors: self.tally.send_errors,
            refused: self.tally.refused(),
            auth: self.auth_status(now),
            digest: common_digest(&self.setup.key, self.setup.vhid, &self.setup.vips),
            standing: self.standing(now),
        }
    }

    /// Where it stands.
    pub fn standing(&self, now: Instant) -> Standing {
        let serves = self.tenure.is_serving();
        let heir = self.heir(now).filter(|_| serves);
        let heir_of = self.expectation.promised(now).filter(|_| self.election.role() == Role::Backup);
        let with_age = |address: IpAddr| Some((address, now.since(self.peers.heard_at(address)?)));
        Standing {
            role: self.election.role(),
            serves,
            master: self.master.and_then(|(address, ..)| with_age(address)),
            preempt: self.setup.preempt,
            heir: heir.and_then(with_age),
            heir_of: heir_of.map(|(master, until)| (master, until.since(now))),
            armed: self.window.is_armed(now),
            held: self.restraint.status(now).filter(|_| self.election.role() != Role::Master),
            gate: self.bar.clone(),
            silent_path: self.is_silent_path(now),
            waits: self.waits(now),
            served_by: self.farewell.served_by(),
        }
    }

    fn waits(&self, now: Instant) -> Option<(Wait, Span)> {
        let dead_at = self.election.dead_at().filter(|_| !self.bar.silences());
        let dead_at = dead_at.map(|at| (Wait::Silence, at.since(now)));
        let Tenure::Claim { since, settled_at, .. } = self.tenure else { return dead_at };
        let others = self.clear_at(since);
        Some(if self.lease_until().is_none() {
            (Wait::Sending, Span::ZERO)
        } else if settled_at < others {
            (Wait::Others, others.since(now))
        } else {
            (Wait::Settling, settled_at.since(now))
        })
    }
}
