//! What a new configuration changes, for a node that goes on: only what is named here is touched.

use super::event::{HostId, HostSetup};
use super::keyring;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::MAX_HOSTS;
use carp_common::time::{Instant, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// From the virtual hosts that a node has to those that it shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that leave.
    pub removed: BTreeSet<HostId>,
    /// Those that stay, each on its link and with its number, and are otherwise from now on.
    pub changed: Vec<(HostId, HostSetup)>,
    /// New ones, under numbers that no virtual host has, nor has one of those removed.
    pub added: Vec<(HostId, HostSetup)>,
}

/// The addresses that a virtual host had before. They are part of what adverts are signed with, and the other nodes are
/// told of new ones a little earlier or later: so adverts for any of these lists are accepted, and this node signs for
/// one of them until another node is heard that signs for a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// In the order in which they were configured; as many as can be accepted.
    pub lists: Vec<Vec<IpAddr>>,
    /// For which of them adverts are signed; none: for those of now.
    pub signed: Option<usize>,
    /// Since when.
    pub since: Instant,
}

/// For so long an older list than the one that is signed for is kept in any case: another node may have been asleep, and
/// sign for that one still.
const KEPT: Span = Span::secs(60);

/// There are not enough numbers for the new virtual hosts beside the ones that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Changes {
    /// What has to change for a node that has `running` to have `wanted`.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn between<'a>(
        running: impl Iterator<Item = (HostId, &'a HostSetup)> + Clone,
        wanted: Vec<HostSetup>,
        now: Instant,
    ) -> Result<Self, NoRoom> {
        let known: BTreeMap<_, _> = running.clone().map(|(id, setup)| (place(setup), (id, setup))).collect();
        let taken: BTreeSet<HostId> = running.map(|(id, _)| id).collect();
        let mut free = (0..MAX_HOSTS).map(HostId).filter(|id| !taken.contains(id));
        let mut leaving = taken.clone();
        let mut changes = Self::default();
        for setup in wanted {
            match known.get(&place(&setup)) {
                Some((id, old)) => {
                    leaving.remove(id);
                    let new = succeed(old, setup, now);
                    if new != **old {
                        changes.changed.push((*id, new));
                    }
                }
                None => changes.added.push((free.next().ok_or(NoRoom)?, setup)),
            }
        }
        changes.removed = leaving;
        Ok(changes)
    }

    /// Whether everything stays as it is.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.changed.is_empty() && self.added.is_empty()
    }

    /// In words, a line for each virtual host.
    pub fn lines<'a>(&self, running: impl Iterator<Item = (HostId, &'a HostSetup)>) -> Vec<String> {
        let running: BTreeMap<_, _> = running.collect();
        let mut lines = Vec::new();
        for host in self.removed.iter().filter_map(|id| running.get(id)) {
            lines.push(format!("{} leaves", host.name()));
        }
        for (id, new) in &self.changed {
            let Some(old) = running.get(id) else { continue };
            lines.push(format!("{}: {}", new.name(), differences(old, new).join(", ")));
        }
        for (_, host) in &self.added {
            lines.push(format!("{} is new", host.name()));
        }
        lines
    }

    /// The virtual hosts as they are once these changes are made.
    pub fn applied<'a>(
        &self,
        running: impl Iterator<Item = (HostId, &'a HostSetup)>,
    ) -> BTreeMap<HostId, HostSetup> {
        let stays = running.filter(|(id, _)| !self.removed.contains(id));
        let mut hosts: BTreeMap<_, _> = stays.map(|(id, setup)| (id, setup.clone())).collect();
        hosts.extend(self.changed.iter().chain(&self.added).cloned());
        hosts
    }
}

/// What makes a virtual host the same one in two configurations.
const fn place(setup: &HostSetup) -> (IfIndex, Vhid) {
    (setup.link, setup.vhid)
}

/// What is different, by the names of the keys.
fn differences(old: &HostSetup, new: &HostSetup) -> Vec<&'static str> {
    let HostSetup { interface, link: _, vhid: _, vips, pace, preempt, flavour, mode, key, next_key, .. } =
        old;
    let HostSetup {
        group,
        preempt_delay,
        gate,
        digest,
        accept,
        tos,
        answer_ping,
        former: _,
        resume_until: _,
        ..
    } = old;
    let differences = [
        ("interface", *interface != new.interface),
        ("group", *group != new.group),
        ("addresses", *vips != new.vips),
        ("base", pace.base != new.pace.base),
        ("skew", pace.skew != new.pace.skew),
        ("preempt", *preempt != new.preempt),
        ("preempt_delay", *preempt_delay != new.preempt_delay),
        ("hook", *gate != new.gate),
        ("flavour", *flavour != new.flavour),
        ("auth", *mode != new.mode),
        ("password_file", *key != new.key),
        ("next_password_file", *next_key != new.next_key),
        ("digest", (digest, accept) != (&new.digest, &new.accept)),
        ("tos", *tos != new.tos),
        ("answer_ping", *answer_ping != new.answer_ping),
    ];
    differences.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The new one, as it goes on where the old one is.
fn succeed(old: &HostSetup, new: HostSetup, now: Instant) -> HostSetup {
    let resume_until = old.resume_until;
    let set = |vips: &[IpAddr]| vips.iter().copied().collect::<BTreeSet<_>>();
    let mut former = old.former.clone();
    if set(&old.vips) != set(&new.vips) {
        former.signed = former.signed.or(Some(former.lists.len()));
        former.lists.push(old.vips.clone());
        if let Some(at) = former.lists.iter().position(|vips| set(vips) == set(&new.vips)) {
            former.remove(at);
        }
    }
    let mut new = HostSetup { former, resume_until, ..new };
    let Former { lists, signed, since } = &old.former;
    if now.since(*since) >= KEPT {
        // None of what is newer than what is signed for; nobody signs for the others any more.
        let mut older = signed.unwrap_or(lists.len());
        while keyring::is_too_much(&new) && older > 0 && !new.former.lists.is_empty() {
            new.former.remove(0);
            older -= 1;
        }
    }
    new
}

impl Former {
    /// Without one of them; adverts are signed for the addresses of now if it was that one.
    fn remove(&mut self, at: usize) {
        self.lists.remove(at);
        self.signed = self.signed.filter(|signed| *signed != at);
        self.signed = self.signed.map(|signed| if signed > at { signed - 1 } else { signed });
    }
}
