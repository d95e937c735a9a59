//! What a virtual host does about taking over: when it announces a claim, whether a claim has to
//! settle, when its kernel may take over by itself, and whom it hands the role to.

use super::event::{Action, Errand, Reason, Role};
use super::host::Host;
use super::intent::Intent;
use super::outgoing;
use super::succession::Promise;
use super::tenure::{LATENCY, SETTLE, Tenure};
use super::together::Opening;
use carp_common::map::Window;
use carp_common::time::{Instant, Span};
use std::net::IpAddr;

impl Host {
    /// Begins a claim. One that resumes, was handed the role, or is the heir's need not settle; one
    /// that was announced has begun to.
    pub(super) fn claim(&mut self, reason: Reason, is_news: bool, now: Instant) {
        self.tally.forget_errors();
        self.peers.look_again(now);
        let is_young = now < self.knows_all_at();
        // A command may come before what the daemon has not read yet.
        let is_heir = reason == Reason::HandedOver
            || (reason != Reason::Forced && self.expectation.promised(now).is_some());
        // The one other node of a pair is the master that gives way: no backup is armed beside this one.
        let is_alone = self.fellows.pair && matches!(reason, Reason::Preempted | Reason::Grouped);
        let is_sole = reason == Reason::Resumed
            || ((is_heir || is_alone) && is_news && !self.expectation.is_contested(now));
        let announced = std::mem::take(&mut self.intent).settled_at(self.setup.pace, now).filter(|_| is_news);
        let settled_at = if is_sole { now } else { announced.unwrap_or(now + SETTLE) };
        self.tenure = Tenure::claim(settled_at, now);
        // Of a pair whose other node is gone nobody is left that could be heard of.
        let is_last = self.fellows.pair && matches!(reason, Reason::MasterLapsed | Reason::MasterSilent);
        if reason != Reason::Resumed && !is_last {
            self.tenure.settle_at(self.knows_all_at());
        }
        // Whom this node gave way to, and has not heard since, may sleep: then its kernel, armed while this node was
        // master, opens at this node's own dead time.
        if reason == Reason::MasterTimedOut {
            self.tenure.settle_at(self.confirms_until + SETTLE);
        }
        // One that gives way without a word has to hear of it.
        self.tenure.settle_at((now + LATENCY).min(self.peers.silent_may_serve_until()));
        // In a pair nobody else can have been promised anything by the daemon before.
        if is_young && !self.fellows.pair {
            self.promise = Promise::forgotten(self.setup.pace, now);
        }
        self.confirms_until = Instant::ZERO;
    }

    /// From this moment on every node that may be serving has been heard: each advertises within its
    /// lease. Before it nobody is preempted, and a claim does not serve.
    pub(super) fn knows_all_at(&self) -> Instant {
        self.listens_since + self.setup.pace.longest_lease()
    }

    /// When to advertise a claim again: while it waits for others, who may not have heard it.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let Tenure::Claim { retry: (at, left), settled_at, .. } = self.tenure else { return None };
        (left > 0 && self.peers.may_serve_until() > at.max(settled_at)).then_some(at)
    }

    /// The end of the lease that a claim goes on with which was resumed, until this node has one of its own.
    pub(super) fn inherited_until(&self) -> Option<Instant> {
        let resumes = self.reason == Reason::Resumed && matches!(self.tenure, Tenure::Claim { .. });
        resumes.then(|| Instant::from_nanos(self.window.serve_until))
    }

    /// Of a claim whose adverts were sent.
    pub fn opening(&self) -> Option<Opening> {
        let Tenure::Claim { since, settled_at, .. } = self.tenure else { return None };
        self.lease_until().map(|_| Opening { since, settled_at, clear_at: self.clear_at(since) })
    }

    /// Whom the role can be handed to: the heir; if there is and can be none, any node of ours.
    pub(super) fn heir(&self, now: Instant) -> Option<IpAddr> {
        let family = self.families.list().next()?;
        let anybody = || self.peers.confirming(family).filter(|_| self.promise.is_free(now));
        self.promise.heir(now).or_else(anybody)
    }

    /// Arms a backup, or disarms it; one of a group only with all the others.
    pub(super) fn arm(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.election.role() == Role::Backup && self.setup.grouped().is_none() {
            self.set_armed(self.armable(now), self.expectation.is_fresh(now), actions);
        }
    }

    /// The window of a backup that is the heir of the master, and has nothing against taking over from it.
    pub(super) fn armable(&self, now: Instant) -> Option<Window> {
        // Its datapath would not ask.
        let may = self.setup.gate.is_none()
            && self.demotion == 0
            && self.link.is_some_and(|link| link.shielded)
            && !self.outranks_master();
        let armed = self.expectation.promised(now).filter(|_| may);
        armed.map(|(master, until)| Window::armed(self.election.dead(), until, master))
    }

    /// `is_fresh`: the master has just been heard. The datapath of one that is armed anew counts its silence from now on.
    pub(super) fn set_armed(&mut self, window: Option<Window>, is_fresh: bool, actions: &mut Vec<Action>) {
        if window.is_none() || self.window != Window::CLOSED || is_fresh {
            self.set_window(window.unwrap_or(Window::CLOSED), actions);
        }
    }

    /// When a claim is to be announced: one that is planned at once, and that against a silent master
    /// in time to have settled when it is made. The heir of a master need not.
    pub(super) fn intent_at(&self) -> Option<Instant> {
        let at = self.election.dead_at()? - SETTLE;
        if self.intent.is_planned() {
            return Some(Instant::ZERO);
        }
        let needless = self.expectation.promised(at).is_some() || self.intent.stands(self.setup.pace, at);
        (!needless).then_some(at)
    }

    /// When to preempt the master, as was announced; in a pair there is no other backup that has to hear of it first.
    pub(super) fn preempt_at(&self) -> Option<Instant> {
        let listens = self.election.role() == Role::Backup;
        let may = |at: &Instant| {
            listens && !self.fellows.are_led && self.outranks_master() && self.is_acquainted(*at)
        };
        let settles = if self.fellows.pair { Span::ZERO } else { SETTLE };
        self.intent.told_at().filter(may).map(|at| (at + settles).max(self.fellows.know_all_at))
    }

    /// In every family: a kernel that is armed for a master by its address of one family minds no advert of the other.
    pub(super) fn announce_claim(&mut self, actions: &mut Vec<Action>) {
        let rank = self.rank(0);
        let Some(link) = &self.link else { return };
        for family in self.families.list() {
            if let Some(frame) = outgoing::to_ours(&self.setup, link, &mut self.keys, family, rank) {
                self.intent = Intent::Asked;
                let (link, errand) = (self.setup.link, Errand::Advert(family));
                actions.push(Action::Advertise { host: self.id, link, errand, frame });
            }
        }
    }

    /// Whether this backup takes over soon: because the master is worse, or about to count as dead.
    pub(super) fn will_claim(&self, now: Instant) -> bool {
        let dies = self.election.dead_at().is_some_and(|at| at <= now + SETTLE.times(2));
        dies || self.outranks_master()
    }

    /// Whether the master heard last is one that this node preempts.
    pub(super) fn outranks_master(&self) -> bool {
        self.master.is_some_and(|(_, pace, demote)| !self.election.yields_to(pace, demote))
    }

    /// Whether it was known at this moment how that master hands over.
    fn is_acquainted(&self, at: Instant) -> bool {
        self.master.is_some_and(|(master, ..)| self.peers.is_acquainted(master, at))
    }
}
