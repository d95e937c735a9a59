//! What a group makes of a master that is asked whether it serves ([`super::detect`]): it is taken for alive while it answers,
//! heard or not; and when it does not any more, the one that is armed against it takes over at once.

use super::detect::{Aside, By, Detect, Path, Sign, Watched};
use super::election::Input;
use super::event::{Action, Family, Reason, Role, Warning};
use super::group::Look;
use super::host::Host;
use super::node::Node;
use super::outgoing;
use super::tenure::{LATENCY, Tenure};
use carp_common::time::{Instant, Span};
use std::collections::BTreeSet;

/// After a false alarm for so long nobody is asked.
const DISTRUST: Span = Span::secs(60);

impl Node {
    /// What a prober says of the master of a group. A sign that waited to be read tells of the past: there will be another.
    pub(super) fn sign(
        &mut self,
        group: &str,
        (sign, at): (Sign, Instant),
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if LATENCY < now.since(at) {
            return;
        }
        // Over the sync link alone nobody is silent: there may be paths that are not asked over.
        let is_whole = self.watched.get(group).is_some_and(Watched::is_whole);
        let Some(mut group) = self.group(group) else { return };
        match sign {
            Sign::Silent if !is_whole => {}
            Sign::Lives => group.iter_mut().for_each(|host| host.lives(at, now, actions)),
            Sign::Lapsed | Sign::Silent => {
                let may_take_over = Look::at(&group, now).may_arm(&group, now);
                for host in group.iter_mut().filter(|host| may_take_over || host.is_claiming()) {
                    host.vanished(sign, at, now, actions);
                }
            }
        }
    }

    /// Whose masters are asked, by group.
    pub fn watched(&self) -> impl Iterator<Item = (&String, &Watched)> {
        self.watched.iter()
    }

    /// Of groups that there are no more.
    pub(super) fn forget_masters(&mut self, actions: &mut Vec<Action>) {
        let is_gone = |group: &String, _: &mut _| !self.groups.has(group);
        let gone = self.watched.extract_if(.., is_gone).map(|(group, _)| group);
        actions.extend(gone.map(|group| Action::Watch { group, watched: None }));
    }

    /// The daemon's pulse was not renewed in time: every lease that needs it is over, and others may have taken over.
    pub(super) fn pulse_lost(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for host in self.hosts.values_mut().filter(|host| host.detect().is_some()) {
            host.elect(Input::LeaseLapsed, now, actions);
        }
    }
}

impl Look {
    /// Whom to ask, and over which paths: while this node is armed against a master, and while it waits for one to end that
    /// was asked before. The other node of a pair is asked over the sync link also when no master is heard: there may be one.
    pub(super) fn watched(
        &self,
        group: &[&mut Host],
        before: Option<&Watched>,
        now: Instant,
    ) -> Option<Watched> {
        let Detect { interval, aside, .. } = group.first()?.detect()?;
        if group.iter().any(|host| host.is_claiming()) {
            return before.cloned();
        }
        if self.leads() || group.iter().any(|host| now < host.distrusts_until) {
            return None;
        }
        // A better one than the master is about to claim, and to be told if that one dies meanwhile.
        if let Some(before) = before.filter(|before| before.is_whole())
            && group.iter().any(|host| host.outranks_master())
        {
            return Some(before.clone());
        }
        let mut paths = Vec::new();
        if self.may_arm(group, now) {
            let mut links = BTreeSet::new();
            let listening = group.iter().filter(|host| host.election.role() == Role::Backup);
            let heard = listening.filter_map(|host| Some((host.setup.link, host.path(now)?)));
            paths.extend(heard.filter(|(link, _)| links.insert(*link)).map(|(_, path)| path));
        }
        let is_there = group.iter().any(|host| host.election.role() == Role::Backup);
        paths.extend(aside.filter(|_| is_there && self.pair()).map(Path::from));
        (!paths.is_empty()).then_some(Watched { interval, paths })
    }
}

impl From<Aside> for Path {
    fn from(Aside { number, source, peer, .. }: Aside) -> Self {
        Self { by: By::Sync(number), source, master: peer }
    }
}

impl Host {
    /// How its group finds out that a master is gone, if by asking.
    pub(super) fn detect(&self) -> Option<Detect> {
        self.setup.grouped().and_then(|group| group.detect)
    }

    fn path(&self, now: Instant) -> Option<Path> {
        let (master, _) = self.expectation.promised(now)?;
        let source = outgoing::source(self.link.as_ref()?, Family::of(master))?;
        let by = By::Host { host: self.id, link: self.setup.link, vhid: self.setup.vhid };
        Some(Path { by, source, master })
    }

    /// The master serves. It is asked for its promise as if it had been heard, as it may not be.
    fn lives(&mut self, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        if self.election.role() != Role::Backup {
            return;
        }
        self.lives_until = at + self.election.dead();
        self.expectation.lives(self.election.dead(), at);
        if let Some((master, _)) = self.expectation.promised(now) {
            self.acquaint(master, now, actions);
        }
    }

    /// Takes over; a claim that has been made needs to wait no longer.
    fn vanished(&mut self, sign: Sign, at: Instant, now: Instant, actions: &mut Vec<Action>) {
        if self.election.role() == Role::Init {
            return;
        }
        self.lives_until = Instant::ZERO;
        self.peers.release_all(at);
        if self.fellows.pair {
            // As if it had said so, on every path.
            self.confirmed_at = now;
        }
        self.elect(Input::Vanished(sign), now, actions);
    }

    /// It is master no more. If it was for want of answers, and the other one lives, that was a false alarm.
    pub(super) fn learn_of_alarm(&mut self, reason: Reason, now: Instant, actions: &mut Vec<Action>) {
        let lives = matches!(reason, Reason::BetterMaster | Reason::LowerAddress | Reason::Grouped);
        if self.reason == Reason::MasterSilent && lives && now.since(self.since) < DISTRUST {
            self.distrusts_until = now + DISTRUST;
            self.warn(Warning::FalseAlarm, now, actions);
        }
    }

    fn is_claiming(&self) -> bool {
        matches!(self.tenure, Tenure::Claim { .. })
    }
}
