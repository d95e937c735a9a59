//! A virtual host: an election with its keys, peers, link and tenure, and what it sends.

use super::configuring::terms;
use super::election::{self, Election, Families, Input, Output};
use super::event::{Action, Errand, Family, HostId, HostSetup, LinkState, Reason, Role, Transition};
use super::farewell::Farewell;
use super::gate::{Bar, Wish};
use super::group::Fellows;
use super::intent::Intent;
use super::keyring::{Keyring, Word};
use super::outgoing;
use super::peers::Peers;
use super::restraint::Restraint;
use super::succession::{Expectation, Promise};
use super::tally::{Tally, Warned};
use super::tenure::{SETTLE, Tenure};
use super::watching::Watch;
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::wire::Frame;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Send errors in a row that demote the node, and successes that lift it again (item 94).
const SEND_ERRORS: u8 = 3;
/// A virtual host of a node.
#[derive(Debug)]
pub struct Host {
    pub(super) id: HostId,
    pub(super) setup: HostSetup,
    pub(super) families: Families,
    pub(super) election: Election,
    pub(super) keys: Keyring,
    pub(super) peers: Peers,
    pub(super) link: Option<LinkState>,
    pub(super) tenure: Tenure,
    pub(super) window: Window,
    pub(super) promise: Promise,
    pub(super) expectation: Expectation,
    pub(super) intent: Intent,
    /// The master heard last, and what it competes with: pace and byte 4.
    pub(super) master: Option<(IpAddr, Pace, u8)>,
    /// When it began to hear others.
    pub(super) listens_since: Instant,
    pub(super) demotion: i32,
    pub(super) since: Instant,
    pub(super) reason: Reason,
    /// What it competed with when its role changed last.
    rank_before: Pace,
    /// Until when it tells those who advertise that it gave way and does not serve.
    pub(super) confirms_until: Instant,
    /// When it answered a greeting with an old counter last.
    pub(super) answered_at: Instant,
    /// When it asked its master last, in each family, whether it knows this node's new addresses.
    pub(super) asked_ahead_at: BTreeMap<Family, Instant>,
    pub(super) tally: Tally,
    pub(super) warned: Warned,
    pub(super) watch: Watch,
    pub(super) restraint: Restraint,
    pub(super) farewell: Farewell,
    pub(super) bar: Bar,
    pub(super) wish: Option<Wish>,
    pub(super) fellows: Fellows,
    /// Until then nobody is taken for gone for not answering: there was a false alarm.
    pub(super) distrusts_until: Instant,
    /// Until then the master does not count as silent: it has answered.
    pub(super) lives_until: Instant,
    /// When another node said last that it has given way.
    pub(super) confirmed_at: Instant,
}

impl Host {
    /// In INIT, until its link is described.
    pub fn new(id: HostId, setup: HostSetup, (seed, epoch): (u64, u32), now: Instant) -> Self {
        let (families, pace) = (Families::of(setup.signed_vips()), setup.pace);
        Self {
            id,
            families,
            election: Election::new(terms(&setup, families)),
            keys: Keyring::new(&setup, seed, epoch),
            setup,
            peers: Peers::default(),
            link: None,
            tenure: Tenure::None,
            window: Window::CLOSED,
            promise: Promise::default(),
            expectation: Expectation::default(),
            intent: Intent::None,
            master: None,
            listens_since: now,
            demotion: 0,
            since: now,
            reason: Reason::Initialized,
            rank_before: pace,
            confirms_until: Instant::ZERO,
            answered_at: Instant::ZERO,
            asked_ahead_at: BTreeMap::new(),
            tally: Tally::default(),
            warned: Warned::default(),
            watch: Watch::default(),
            restraint: Restraint::default(),
            farewell: Farewell::default(),
            bar: Bar::default(),
            wish: None,
            fellows: Fellows::default(),
            distrusts_until: Instant::ZERO,
            lives_until: Instant::ZERO,
            confirmed_at: Instant::ZERO,
        }
    }

    /// The configuration.
    pub const fn setup(&self) -> &HostSetup {
        &self.setup
    }

    /// The link is as described.
    pub fn link(&mut self, state: LinkState, now: Instant, actions: &mut Vec<Action>) {
        let first = self.link.replace(state).is_none();
        self.keys.locate(&state);
        if first {
            self.inherit(now, actions);
        }
        let input = match self.obstacle() {
            Some(obstacle) => Input::Down(obstacle),
            None if first => Input::Up(Reason::Initialized),
            None => Input::Up(Reason::LinkUp),
        };
        self.elect(input, now, actions);
        // Nobody else serves while this lease runs: to go on with it is no take-over (item 67).
        if first && self.window.is_leased(now) {
            self.elect(Input::Resume, now, actions);
        }
    }

    /// What the daemon before this one left in the datapath: a lease goes on, anything else ends.
    fn inherit(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let lease = self.setup.resume_until.map(|until| Window::new(Instant::ZERO, until));
        match lease.filter(|lease| lease.is_leased(now) && self.obstacle().is_none()) {
            Some(lease) => self.window = lease,
            None => actions.push(Action::Window { host: self.id, window: Window::CLOSED }),
        }
    }

    /// Why this virtual host cannot run, or that it can: its link is up and has an address to
    /// advertise from in each family in use.
    pub fn obstacle(&self) -> Option<Reason> {
        let Some(link) = self.link.filter(|link| link.up) else { return Some(Reason::LinkDown) };
        let mut families = self.families.list();
        families.any(|family| outgoing::source(&link, family).is_none()).then_some(Reason::NoSource)
    }

    /// What became of an errand.
    pub fn sent(&mut self, errand: Errand, at: Instant, ok: bool, now: Instant, actions: &mut Vec<Action>) {
        // Who was greeted, but by a frame that did not go out, need not be one that does not answer.
        if !ok {
            self.peers.forget_greetings();
        }
        let family = match errand {
            Errand::Advert(family) => family,
            Errand::Greeting(node) => return self.keys.asked(node, ok, now),
        };
        if self.election.role() != Role::Master {
            return self.intent.sent(ok, now);
        }
        self.tally.sent(ok, SEND_ERRORS);
        if ok {
            // What the others wait for: a base that changes meanwhile counts from the next advert on.
            self.tenure.sent(family, at + self.setup.pace.lease(), now);
            self.renew(actions);
        }
    }

    /// Whether adverts cannot be sent, three in a row; `None` while that is as it was told last.
    pub fn sending_changed(&mut self) -> Option<bool> {
        self.tally.sending_changed()
    }

    /// This process woke late: a claim settles anew, so that it looks before it serves, and one that was
    /// announced is not any more.
    pub fn woke_late(&mut self, now: Instant) {
        self.tenure.settle_at(now + SETTLE);
        self.intent.slept();
    }

    /// A lease that is over is over, whatever comes next: others may have taken over.
    pub fn lapse(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let leases = [self.inherited_until(), self.lease_until()];
        if leases.into_iter().flatten().any(|until| until <= now) {
            self.elect(Input::LeaseLapsed, now, actions);
        }
    }

    /// Time has passed. A claim opens then, as those made with it.
    pub fn tick(&mut self, opens_at: Option<Instant>, now: Instant, actions: &mut Vec<Action>) {
        self.tell_of_peers(now, actions);
        self.look_after_moves(now, actions);
        if opens_at.is_some_and(|at| at <= now) {
            self.open(now, actions);
        }
        if self.retry_at().is_some_and(|at| at <= now) && self.tenure.retry(now) {
            self.advertise(actions);
        }
        if self.bar.silences() && self.election.role() == Role::Backup {
            return;
        }
        self.elect(Input::Tick, now, actions);
        if self.preempt_at().is_some_and(|at| at <= now) {
            self.elect(Input::Preempt, now, actions);
        }
        if self.intent_at().is_some_and(|at| at <= now) {
            self.announce_claim(actions);
        }
    }

    /// When to come back with a tick, but for a claim that opens ([`Host::opening`]).
    pub fn deadline(&self) -> Option<Instant> {
        let leases = [self.inherited_until(), self.lease_until()];
        let timers = [self.retry_at(), self.restraint.deadline(), self.farewell.ask_at()];
        let is_silenced = self.bar.silences() && self.election.role() == Role::Backup;
        let wants = || [self.election.deadline(), self.intent_at(), self.preempt_at()];
        let wants = if is_silenced { Default::default() } else { wants() };
        leases.into_iter().chain(timers).chain(wants).flatten().min()
    }

    /// The sum of the node's demotions.
    pub fn demote(&mut self, sum: i32, now: Instant, actions: &mut Vec<Action>) {
        let announced = self.election.effective();
        self.demotion = sum;
        self.elect(Input::Demotion(sum), now, actions);
        if announced != self.election.effective() {
            self.intent = Intent::None;
        }
        self.arm(now, actions);
    }

    /// The node leaves: fence, hand over, bow out (invariants 5 and 12).
    pub fn stop(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.relinquish(true, Input::Down(Reason::Stopping), now, actions);
        self.fence(actions);
    }

    /// The one way to the election: closes the window before anything else is done when the role
    /// is lost, and advertises a claim when it is won. The window of an armed backup that wins it stays
    /// open, or opens, until its lease takes its place.
    pub(super) fn elect(&mut self, input: Input, now: Instant, actions: &mut Vec<Action>) {
        let from = self.election.role();
        let is_news = input.is_news(now);
        let Output { change, advertise, contested, wished } = self.election.handle(input, now);
        if let Some(reason) = wished {
            self.wish(reason, is_news, now);
        }
        if let Some((to, reason)) = change {
            self.wish = None;
            if from == Role::Init {
                self.listens_since = now;
                self.expectation = Expectation::default();
                self.restraint.wait(self.setup.preempt_delay, now);
            }
            if to != Role::Backup {
                (self.restraint, self.farewell) = (Restraint::default(), Farewell::default());
            }
            if from == Role::Master && to == Role::Backup {
                self.learn_of_alarm(reason, now, actions);
            }
            self.refresh_terms(now);
            match to {
                Role::Master => self.claim(reason, is_news, now),
                // A lease that is to be resumed goes on.
                Role::Backup if from == Role::Init => {}
                Role::Init | Role::Backup => self.fence(actions),
            }
            self.since = now;
            self.reason = reason;
            let rank = self.election.effective();
            let rank_before = std::mem::replace(&mut self.rank_before, rank);
            let master = self.master.map(|(address, pace, _)| (address, pace));
            actions.push(Action::Changed(Transition {
                host: self.id,
                from,
                to,
                reason,
                rank_before,
                rank,
                master,
            }));
        }
        if advertise {
            self.advertise(actions);
        }
        if contested && self.tenure.reassert(self.setup.pace.interval(), now) {
            self.announce(actions);
        }
    }

    /// Starts to serve, now that nothing stands against it any more: the claim is settled, no other node can still
    /// be serving, and the adverts were really sent. On a tick alone: then all is read that has come in.
    fn open(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Tenure::Claim { sent, .. } = self.tenure else { return };
        if self.lease_until().is_none_or(|until| until <= now) {
            return;
        }
        self.tenure = Tenure::serve(sent, now);
        self.expectation.end();
        self.renew(actions);
        self.announce(actions);
        actions.push(Action::Serving { host: self.id, serving: true });
    }

    /// Moves the end of the window to the end of the lease.
    pub(super) fn renew(&mut self, actions: &mut Vec<Action>) {
        if let (Tenure::Serving { .. }, Some(until)) = (&self.tenure, self.lease_until()) {
            let window = Window::new(Instant::ZERO, until);
            let window = if self.detect().is_some() { window.pulsed() } else { window };
            self.set_window(window, actions);
        }
    }

    pub(super) fn set_window(&mut self, window: Window, actions: &mut Vec<Action>) {
        if self.window != window {
            self.window = window;
            actions.push(Action::Window { host: self.id, window });
        }
    }

    /// Stops serving, before anything else is done.
    fn fence(&mut self, actions: &mut Vec<Action>) {
        self.tally.forget_errors();
        self.set_window(Window::CLOSED, actions);
        if std::mem::replace(&mut self.tenure, Tenure::None).is_serving() {
            actions.push(Action::Serving { host: self.id, serving: false });
        }
    }

    pub(super) fn lease_until(&self) -> Option<Instant> {
        self.tenure.lease_until(self.families)
    }

    /// IPv4 first, then IPv6 (item 14).
    pub(super) fn advertise(&mut self, actions: &mut Vec<Action>) {
        let pace = self.election.effective();
        for family in self.families.list() {
            if let Some(frame) = self.frame_to_group(family, pace) {
                let (link, errand) = (self.setup.link, Errand::Advert(family));
                actions.push(Action::Advertise { host: self.id, link, errand, frame });
            }
        }
        if self.tenure.repeat() {
            self.announce(actions);
        }
    }

    fn announce(&self, actions: &mut Vec<Action>) {
        self.announce_those(|_| true, actions);
    }

    pub(super) fn announce_those(&self, which: impl Fn(&IpAddr) -> bool, actions: &mut Vec<Action>) {
        let Some(state) = &self.link else { return };
        let frames = outgoing::announcements(&self.setup, state, which);
        let (host, link) = (self.id, self.setup.link);
        actions.extend(frames.map(|frame| Action::Announce { host, link, frame }));
    }

    pub(super) fn frame_to_group(&mut self, family: Family, pace: Pace) -> Option<Frame> {
        let word = Word { pace, ..self.rank(0) };
        outgoing::to_group(&self.setup, self.link.as_ref()?, &mut self.keys, family, word)
    }

    /// What this node competes with, said in answer to this greeting, if any.
    pub(super) fn rank(&self, echo: u64) -> Word {
        Word { pace: self.election.effective(), demote: election::demote_byte(self.demotion), echo }
    }

    /// Sends to one node; nothing depends on it.
    pub(super) fn send_to(&mut self, node: IpAddr, pace: Pace, actions: &mut Vec<Action>) {
        self.send_word(node, pace, 0, actions);
    }

    /// The same, in answer to a greeting. For OpenBSD a word is worse than any advert by byte 4 too.
    pub(super) fn send_word(&mut self, node: IpAddr, pace: Pace, echo: u64, actions: &mut Vec<Action>) {
        if let Some(frame) = self.frame_to_node(node, Word { pace, demote: u8::MAX, echo }) {
            actions.push(Action::Send { link: self.setup.link, frame });
        }
    }

    pub(super) fn frame_to_node(&mut self, node: IpAddr, word: Word) -> Option<Frame> {
        outgoing::to_node(&self.setup, self.link.as_ref()?, &mut self.keys, node, word)
    }
}
