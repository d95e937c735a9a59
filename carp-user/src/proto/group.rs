//! Virtual hosts that move as one: the LAN and the WAN side of a gateway. Each goes on to have its own adverts, keys,
//! claim and lease, so that every path is judged, fenced and confirmed for itself, and any CARP peer understands each.
//! What they share is the decision:
//!
//! - a master is silent when none of them hears it, in any family ([`Fellows::heard_until`]);
//! - who takes over one takes over all, and who gives one to a better node gives all;
//! - none preempts before all know who else is there;
//! - the datapath of a backup counts one silence for all of them, and is armed for all or for none.
//!
//! A path on which nothing is heard while the master is heard on another is reported, and is no reason to take over. A link
//! that is lost lowers the node's rank (its demotion), upon which a better node takes all, `preempt` or not: who is demoted
//! as far as that goes is preempted in a group.

use super::election::{Input, Tie};
use super::event::{Action, HostId, Reason, Role, Transition, Warning};
use super::host::Host;
use super::node::Node;
use carp_common::pace::Pace;
use carp_common::time::Instant;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What the others of its group mean for a virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fellows {
    /// Until then a master is not silent for them.
    heard_until: Instant,
    /// From then on each of them knows every node that may be serving.
    pub(super) know_all_at: Instant,
    /// One of them is held back.
    pub(super) are_held: bool,
    /// This node is master of one of them.
    pub(super) leads: bool,
    /// One of them hears a master that ranks higher: then none preempts another.
    pub(super) are_led: bool,
    /// When no other node can still be serving any of them.
    clear_at: Instant,
    /// There is one other node.
    pub(super) pair: bool,
    /// When that one said last, to any of them, that it has given way with all of them.
    confirmed_at: Instant,
    /// Which of them decides a tie.
    first: Option<HostId>,
}

/// What one look at a group shows.
pub(super) struct Look {
    /// This node is master of one of them.
    leads: bool,
    /// Whose path decides a tie: the first that works.
    first: Option<HostId>,
    /// There is one other node, as it is configured and as far as is known.
    pair: bool,
    /// The master that was heard last, on any path.
    newest: Option<Living>,
}

/// A master that is heard.
#[derive(Clone, Copy, Debug)]
struct Living {
    at: Instant,
    rank: (Pace, u8),
    tie: Tie,
}

/// The groups, each with its virtual hosts.
#[derive(Clone, Debug, Default)]
pub struct Groups(BTreeMap<String, BTreeSet<HostId>>);

/// What follows for all of a group from what became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Claim,
    Leave,
}

impl Groups {
    /// Of these virtual hosts.
    pub fn of<'a>(hosts: impl Iterator<Item = &'a Host>) -> Self {
        let mut groups = BTreeMap::<String, BTreeSet<HostId>>::new();
        for host in hosts {
            if let Some(group) = host.setup().grouped() {
                groups.entry(group.name.clone()).or_default().insert(host.id);
            }
        }
        Self(groups)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there is no group.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl Node {
    /// After everything that happened, be it news or not: what it means for the others of a group; `only`: of the group of
    /// that one.
    pub(super) fn align(
        &mut self,
        only: Option<HostId>,
        is_news: bool,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Self { groups: Groups(groups), hosts, watched, .. } = self;
        for (name, ids) in groups.iter().filter(|(_, ids)| only.is_none_or(|id| ids.contains(&id))) {
            let mut group: Vec<&mut Host> =
                hosts.iter_mut().filter(|(id, _)| ids.contains(id)).map(|(_, host)| host).collect();
            let look = Look::at(&group, now);
            match demanded(ids, &look, actions).or_else(|| look.torn(&group, now)) {
                Some(Move::Claim) => group.iter_mut().for_each(|host| host.join(is_news, now, actions)),
                Some(Move::Leave) => group.iter_mut().for_each(|host| host.leave(now, actions)),
                None => {}
            }
            let look = Look::at(&group, now);
            look.share(&mut group, now);
            look.arm(&mut group, now, actions);
            let wanted = look.watched(&group, watched.get(name), now);
            if wanted.as_ref() != watched.get(name) {
                match &wanted {
                    Some(wanted) => watched.insert(name.clone(), wanted.clone()),
                    None => watched.remove(name),
                };
                actions.push(Action::Watch { group: name.clone(), watched: wanted });
            }
            group.iter_mut().for_each(|host| host.tell_of_silence(now, actions));
        }
    }

    /// The virtual hosts of a group.
    pub(super) fn group(&mut self, name: &str) -> Option<Vec<&mut Host>> {
        let ids = self.groups.0.get(name)?;
        Some(self.hosts.iter_mut().filter(|(id, _)| ids.contains(id)).map(|(_, host)| host).collect())
    }
}

/// What those whose role has just changed ask of the others. Giving way comes first.
fn demanded(group: &BTreeSet<HostId>, look: &Look, actions: &[Action]) -> Option<Move> {
    let changes = actions.iter().filter_map(|action| {
        let Action::Changed(change) = action else { return None };
        group.contains(&change.host).then_some(change)
    });
    changes.filter_map(|change| asks(change, look.first)).max_by_key(|wanted| *wanted == Move::Leave)
}

/// What this change asks of the others. What failed on one path, a link or a send, is no reason to give up the others. A
/// tie is decided by the addresses of the first path, as those of another may be ordered the other way round.
fn asks(change: &Transition, first: Option<HostId>) -> Option<Move> {
    match (change.to, change.reason) {
        (_, Reason::Grouped) => None,
        (Role::Master, _) => Some(Move::Claim),
        (Role::Backup, Reason::BetterMaster | Reason::HandingOver | Reason::Forced) => Some(Move::Leave),
        (Role::Backup, Reason::LowerAddress) => (first == Some(change.host)).then_some(Move::Leave),
        (
            Role::Backup,
            Reason::Initialized
            | Reason::LinkDown
            | Reason::LinkUp
            | Reason::NoSource
            | Reason::Preempted
            | Reason::MasterWillTimeOut
            | Reason::MasterTimedOut
            | Reason::MasterSilent
            | Reason::MasterLapsed
            | Reason::HandedOver
            | Reason::Resumed
            | Reason::LeaseLapsed
            | Reason::Stopping,
        )
        | (Role::Init, _) => None,
    }
}

impl Look {
    pub(super) fn at(group: &[&mut Host], now: Instant) -> Self {
        let is_one = |host: &&mut Host| {
            host.setup.is_of_pair() && host.families.list().all(|family| !host.peers.are_several(family))
        };
        Self {
            leads: group.iter().any(|host| host.election.role() == Role::Master),
            first: group.iter().find(|host| host.election.role() != Role::Init).map(|host| host.id),
            pair: group.iter().all(is_one),
            newest: group.iter().filter_map(|host| host.living_master(now)).max_by_key(|living| living.at),
        }
    }

    /// A group has one role. Where two nodes have a part each, the better one of them takes all. A path that comes back to one
    /// that leads, or on which its adverts were not sent in time, is claimed at once: whoever is better there says so.
    fn torn(&self, group: &[&mut Host], now: Instant) -> Option<Move> {
        let wants = |host: &&mut Host| {
            let is_tied = matches!(self.rival(host, now), Some((Ordering::Equal, _)));
            host.election.role() == Role::Backup && (!is_tied || Some(host.id) == self.first)
        };
        if !self.leads {
            None
        } else if self.is_led(group, now) {
            Some(Move::Leave)
        } else {
            group.iter().any(wants).then_some(Move::Claim)
        }
    }

    /// Whether one of them hears a master that ranks higher.
    fn is_led(&self, group: &[&mut Host], now: Instant) -> bool {
        group.iter().any(|host| match self.rival(host, now) {
            Some((Ordering::Less, _)) => true,
            Some((Ordering::Equal, tie)) => tie == Tie::Theirs && Some(host.id) == self.first,
            Some((Ordering::Greater, _)) | None => false,
        })
    }

    /// How the master that this one of them hears compares with this node; less leads. One other node is worth on all paths
    /// what it has said last on any.
    fn rival(&self, host: &Host, now: Instant) -> Option<(Ordering, Tie)> {
        let heard = host.living_master(now)?;
        let (pace, demote) = self.newest.filter(|_| self.pair).unwrap_or(heard).rank;
        Some((host.election.compare(pace, demote), heard.tie))
    }

    /// Tells each what it has to know of the others.
    fn share(&self, group: &mut [&mut Host], now: Instant) {
        let confirmed_at = latest(group.iter().map(|host| host.confirmed_at));
        let is_news = group.iter().any(|host| host.fellows.confirmed_at < confirmed_at);
        if self.pair && is_news {
            group.iter_mut().for_each(|host| host.peers.release_all(confirmed_at));
        }
        let confirmed = self.pair.then_some(confirmed_at);
        let listening = || group.iter().filter(|host| host.election.role() == Role::Backup);
        let heard = listening().filter(|host| host.living_master(now).is_some());
        let lives = listening().map(|host| host.lives_until);
        let fellows = Fellows {
            heard_until: latest(heard.filter_map(|host| host.election.silent_at()).chain(lives)),
            know_all_at: latest(listening().map(|host| host.knows_all_at())),
            are_held: group.iter().any(|host| host.restraint.holds()),
            leads: self.leads,
            are_led: self.is_led(group, now),
            clear_at: latest(group.iter().map(|host| host.others_serve_until(confirmed))),
            pair: self.pair,
            confirmed_at,
            first: self.first,
        };
        group.iter_mut().for_each(|host| host.know(fellows, now));
    }

    /// Whether this node is master of one of them.
    pub(super) const fn leads(&self) -> bool {
        self.leads
    }

    /// Whether there is one other node.
    pub(super) const fn pair(&self) -> bool {
        self.pair
    }

    /// Whether all that listen may be armed against the master, and there is nothing that it leads.
    pub(super) fn may_arm(&self, group: &[&mut Host], now: Instant) -> bool {
        !self.leads && listening(group).all(|host| host.armable(now).is_some())
    }

    /// All or none, for one silence.
    fn arm(&self, group: &mut [&mut Host], now: Instant, actions: &mut Vec<Action>) {
        let Some(clock) = group.first().map(|host| host.id.0) else { return };
        let all_may = self.may_arm(group, now);
        let is_fresh = listening(group).any(|host| host.expectation.is_fresh(now));
        for host in group.iter_mut().filter(|host| host.election.role() == Role::Backup) {
            let window = host.armable(now).filter(|_| all_may).map(|window| window.of_group(clock));
            host.set_armed(window, is_fresh, actions);
        }
    }
}

/// Those of a group that listen.
fn listening<'a>(group: &'a [&mut Host]) -> impl Iterator<Item = &'a Host> {
    group.iter().map(|host| &**host).filter(|host| host.election.role() == Role::Backup)
}

/// The last of these moments, or none at all.
fn latest(moments: impl Iterator<Item = Instant>) -> Instant {
    moments.max().unwrap_or(Instant::ZERO)
}

impl Host {
    /// The others of its group take over.
    fn join(&mut self, is_news: bool, now: Instant, actions: &mut Vec<Action>) {
        if self.election.role() == Role::Backup {
            self.elect(Input::Group { master: true, is_news }, now, actions);
        }
    }

    /// The others of its group give way. The new master learns so on this path, too.
    fn leave(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.election.role() == Role::Master {
            self.relinquish(true, Input::Group { master: false, is_news: true }, now, actions);
            self.confirms_until = now + self.setup.pace.longest_lease();
        }
    }

    /// The master that is heard on this path.
    fn living_master(&self, now: Instant) -> Option<Living> {
        let (address, pace, demote) = self.master.filter(|_| self.election.role() == Role::Backup)?;
        let heard_at = self.peers.advertised_at(address)?;
        let lives = self.listens_since <= heard_at && now.since(heard_at) <= self.election.dead();
        lives.then(|| Living { at: heard_at, rank: (pace, demote), tie: self.tie(address) })
    }

    fn know(&mut self, fellows: Fellows, now: Instant) {
        let before = std::mem::replace(&mut self.fellows, fellows);
        self.election.hold(fellows.heard_until);
        if (before.leads, before.are_held) != (fellows.leads, fellows.are_held) {
            self.refresh_terms(now);
        }
    }

    /// When no other node can still be serving any of its group, by a claim that was made then. One that goes on although
    /// this node claims is not waited for without end.
    pub(super) fn clear_at(&self, since: Instant) -> Instant {
        if self.reason == Reason::Resumed {
            return self.peers.may_serve_until();
        }
        let patience = self.setup.pace.longest_lease().times(2);
        self.peers.may_serve_until().max(self.fellows.clear_at.min(since + patience))
    }

    /// This node lost this path alone, by a tie, and not the others: it does not confirm, as that would count for all.
    pub(super) fn keeps_the_rest(&self) -> bool {
        let is_tie = self.reason == Reason::LowerAddress && self.setup.grouped().is_some();
        is_tie && self.fellows.first != Some(self.id)
    }

    /// Until when another node may be serving this one, heard or not. The one other node of a pair said at that moment that it
    /// has given way.
    fn others_serve_until(&self, confirmed_at: Option<Instant>) -> Instant {
        let listens = self.election.role() != Role::Init && self.reason != Reason::Resumed;
        let has_confirmed = confirmed_at.is_some_and(|at| self.since <= at);
        let unheard = if listens && !has_confirmed { self.knows_all_at() } else { Instant::ZERO };
        self.peers.may_serve_until().max(unheard)
    }

    /// The master is heard on other paths of the group, and not on this one.
    pub(super) fn is_silent_path(&self, now: Instant) -> bool {
        self.election.silent_at().is_some_and(|at| at <= now && now < self.fellows.heard_until)
    }

    fn tell_of_silence(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_silent_path(now) {
            self.warn(Warning::SilentPath, now, actions);
        }
    }
}
