//! What a virtual host makes of a configuration that changes while it runs: its role, its lease and what it has
//! counted stay. New addresses change what adverts are signed with, and the nodes of a group learn of them one after
//! the other. So each accepts both and goes on to sign for the former ones, until it is known that the others know the
//! new ones: a backup greets its master in the new way, and a master whom all have greeted so begins.

use super::election::{Families, Input, Terms};
use super::event::{Action, Family, HostSetup, News, Role};
use super::group::Fellows;
use super::host::Host;
use super::keyring::Word;
use carp_common::admission::Addressee;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How often a backup that signs for former addresses asks its master whether it knows the new ones. One that does not
/// counts a refused advert.
const ASK_AGAIN: Span = Span::secs(5);

/// After so long a time each of its backups has greeted a master, or is no more able to take over either.
const ACQUAINTED: Span = Span::secs(30);

/// What the configuration says of the election of a virtual host that advertises in these families.
pub(super) fn terms(setup: &HostSetup, families: Families) -> Terms {
    let HostSetup { pace: configured, preempt, flavour, .. } = *setup;
    Terms { configured, preempt, grouped: setup.grouped().is_some(), flavour, families }
}

impl Host {
    /// Its strict counter goes on above this one.
    pub fn count_on(&mut self, counter: u64) {
        self.keys.count_on(counter);
    }

    /// The last strict counter that it has sent; 0 where it sends none.
    pub const fn strict_counter(&self) -> u64 {
        if self.setup.mode.signs_strictly() { self.keys.counter() } else { 0 }
    }

    /// It is another one, on the same link and with the same number.
    pub fn configure(&mut self, setup: HostSetup, now: Instant, actions: &mut Vec<Action>) {
        let before: BTreeSet<IpAddr> = self.setup.vips.iter().copied().collect();
        self.setup = setup;
        if self.setup.grouped().is_none() {
            self.fellows = Fellows::default();
            self.election.hold(Instant::ZERO);
        }
        self.asked_ahead_at.clear();
        self.peers.forget_ahead();
        self.settle_setup(now, actions);
        // Whether its lease needs a pulse may be otherwise.
        self.renew(actions);
        if self.tenure.is_serving() {
            self.announce_those(|vip| !before.contains(vip), actions);
        }
        if self.keys.is_behind() {
            actions.push(Action::Tell { host: self.id, news: News::Behind });
        }
    }

    /// An advert was accepted: does it show that this node can sign for its new addresses?
    pub(super) fn learn_of_addresses(
        &mut self,
        heard: &Heard,
        addressee: Addressee,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(ahead) = self.keys.ahead_by(heard) else { return };
        let is_newest = ahead + 1 == self.setup.newer_vips().count();
        if is_newest {
            self.peers.went_ahead(heard.source);
        }
        let all_know = match addressee {
            Addressee::Group | Addressee::Ours => true,
            Addressee::Us => is_newest && self.are_all_ahead(now),
            Addressee::Another => false,
        };
        if !all_know {
            return;
        }
        let former = &mut self.setup.former;
        former.signed = former.signed.map(|signed| signed + 1 + ahead).filter(|_| !is_newest);
        former.since = now;
        self.settle_setup(now, actions);
        if is_newest {
            actions.push(Action::Tell { host: self.id, news: News::Ahead });
        }
        if self.election.role() == Role::Master {
            self.advertise(actions);
        }
    }

    /// Whether this is a master to whom all its backups, as far as they have made themselves known, have said that they know
    /// the new addresses, by each of their addresses of a family in use: of a node that sleeps while a family is added, no
    /// other address is known than that of the family before.
    fn are_all_ahead(&self, now: Instant) -> bool {
        self.election.role() == Role::Master
            && now.since(self.since) >= ACQUAINTED
            && self.families.list().all(|family| self.peers.are_all_ahead(family))
    }

    /// Asks this master whether it knows the new addresses, if it is time to: in each family that it is heard in.
    pub(super) fn ask_ahead(&mut self, master: IpAddr, now: Instant, actions: &mut Vec<Action>) {
        let asked_at = self.asked_ahead_at.get(&Family::of(master));
        let is_due = asked_at.is_none_or(|at| now.since(*at) >= ASK_AGAIN);
        if !(self.keys.is_behind() && is_due) {
            return;
        }
        self.asked_ahead_at.insert(Family::of(master), now);
        let word = Word { pace: Pace::GREETING, demote: u8::MAX, echo: 0 };
        let Self { keys, setup, link, .. } = self;
        let Some(link) = link else { return };
        let frame = keys.ahead(|keys| super::outgoing::to_node(setup, link, keys, master, word));
        actions.extend(frame.map(|frame| Action::Send { link: self.setup.link, frame }));
    }

    /// What follows from the configuration as it is now.
    fn settle_setup(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.families, Families::of(self.setup.signed_vips()));
        self.keys.configure(&self.setup);
        if let Some(link) = &self.link {
            self.keys.locate(link);
        }
        self.tenure.change_families(before);
        self.settle_terms(now, actions);
    }

    /// What the election goes by is another thing now.
    pub(super) fn settle_terms(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.elect(Input::Terms(self.terms()), now, actions);
        self.arm(now, actions);
    }

    /// The same where the role has just changed: nothing follows from it.
    pub(super) fn refresh_terms(&mut self, now: Instant) {
        let _nothing = self.election.handle(Input::Terms(self.terms()), now);
    }

    fn terms(&self) -> Terms {
        let terms = terms(&self.setup, self.families);
        let is_held = self.restraint.holds() || self.fellows.are_held;
        // Who leads elsewhere in its group does so everywhere.
        Terms { preempt: self.fellows.leads || (terms.preempt && !is_held), ..terms }
    }
}
