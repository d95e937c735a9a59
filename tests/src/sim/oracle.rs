//! What must hold whatever happens, checked at every step from outside the nodes.

use super::scenario::{Promise, Scenario};
use super::story::Clockwise;
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_user::proto::event::{Action, HostId, Role, Transition};
use core::fmt;
use std::collections::BTreeMap;

/// Frames may be late by so much without that being an excuse.
pub const LATE: Span = Span::millis(50);

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// 1: two machines that could hear each other serve the same virtual host at one instant; or two of a group.
    TwoServers,
    /// 2: a window ends later than a lease of this base may, so that a dead daemon could serve
    /// until after a take-over.
    LongLease,
    /// 3: an advertisement that nobody with the key sent, or the node's own, made a difference.
    Fooled,
    /// 4: a role was given up, but a frame went out before the window was closed, or it never was.
    LateFence,
    /// 5: a window is open, but the role is not MASTER.
    ServesInVain,
    /// 6: once healed, there is not exactly one serving master, the best one, in time.
    Unsettled,
    /// 7: once settled, something changed.
    Unstable,
    /// 8: a node never comes to rest, or tells of changes that do not follow from each other.
    Confused,
}

/// A broken rule, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// World time.
    pub at: Instant,
    /// Which rule.
    pub rule: Rule,
    /// How, in words.
    pub text: String,
}

/// Watches a world.
pub struct Oracle {
    promise: Promise,
    /// All virtual hosts move as one.
    grouped: bool,
    /// Per machine and virtual host.
    paces: Vec<Vec<Pace>>,
    roles: Vec<Vec<Role>>,
    /// Since when each serves, be its port up or not.
    since: Vec<Vec<Option<Instant>>>,
    /// When an advertisement between two machines was last lost, blocked, or came late, by virtual
    /// host and the two, the smaller index first.
    impaired: BTreeMap<(usize, usize, usize), Instant>,
    /// Who serves what, once it has settled.
    settled: Option<Vec<usize>>,
    failure: Option<Failure>,
}

/// From when until when a machine serves, in world time.
pub type Spell = (Instant, Instant);

/// A machine at the moment at which its node has answered an event.
pub struct Answer<'a> {
    /// Which machine.
    pub node: usize,
    /// World time.
    pub now: Instant,
    /// The machine's clock.
    pub local: Instant,
    /// The windows as the kernel has them, before any of the actions.
    pub windows: &'a [Window],
    /// What the node wants done, each with the virtual host whose advertisement it is, if any.
    pub actions: &'a [(Action, Option<usize>)],
}

impl Oracle {
    /// For these machines.
    pub fn new(scenario: &Scenario) -> Self {
        let paces: Vec<Vec<Pace>> = scenario.machines.iter().map(|machine| machine.paces.clone()).collect();
        Self {
            promise: scenario.promise,
            grouped: scenario.grouped,
            roles: paces.iter().map(|of| vec![Role::Init; of.len()]).collect(),
            since: paces.iter().map(|of| vec![None; of.len()]).collect(),
            paces,
            impaired: BTreeMap::new(),
            settled: None,
            failure: None,
        }
    }

    /// The first broken rule.
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The role that a node has told of last.
    pub fn role(&self, node: usize, host: usize) -> Role {
        self.roles[node][host]
    }

    /// A rule is broken; only the first counts.
    pub fn fail(&mut self, at: Instant, rule: Rule, text: String) {
        self.failure.get_or_insert(Failure { at, rule, text });
    }

    /// A fresh daemon, or none any more.
    pub fn reborn(&mut self, node: usize) {
        self.roles[node].fill(Role::Init);
    }

    /// An advertisement between two machines did not come as it should, or not before `until`.
    pub fn impair(&mut self, host: usize, one: usize, other: usize, until: Instant) {
        let last = self.impaired.entry((host, one.min(other), one.max(other))).or_default();
        *last = until.max(*last);
    }

    /// Rules 2, 4, 5, 7, 8: what a node wants done.
    pub fn judge(&mut self, answer: &Answer<'_>) {
        for (action, _) in answer.actions {
            match action {
                Action::Changed(transition) => self.follow(answer, *transition),
                Action::Window { host, window } => self.measure(answer, *host, *window),
                Action::Advertise { .. }
                | Action::Send { .. }
                | Action::Announce { .. }
                | Action::Challenge { .. }
                | Action::Watch { .. }
                | Action::Tell { .. }
                | Action::Ask(_)
                | Action::Demoted(_)
                | Action::Peer { .. }
                | Action::Serving { .. }
                | Action::Warn { .. } => {}
            }
        }
        for (action, _) in answer.actions {
            if let Action::Changed(Transition { host, from: Role::Master, to, .. }) = action
                && *to != Role::Master
            {
                self.check_fence(answer, *host);
            }
        }
        for host in 0..self.roles[answer.node].len() {
            if let Some(window) = last_window(answer, host)
                && opens(window, answer.local)
                && self.roles[answer.node][host] != Role::Master
            {
                let text = format!("n{} opens the window of host {host}, but is no master", answer.node);
                self.fail(answer.now, Rule::ServesInVain, text);
            }
        }
    }

    fn follow(&mut self, answer: &Answer<'_>, Transition { host, from, to, reason, .. }: Transition) {
        let Some(role) = self.roles[answer.node].get_mut(slot(host)) else { return };
        let before = std::mem::replace(role, to);
        let name = format!("n{} host {}: {from} -> {to} ({reason})", answer.node, host.0);
        if before != from {
            self.fail(answer.now, Rule::Confused, format!("{name}, but it was {before}"));
        }
        if self.settled.is_some() && from != to {
            self.fail(answer.now, Rule::Unstable, name);
        }
    }

    fn measure(&mut self, answer: &Answer<'_>, host: HostId, window: Window) {
        let Some(pace) = self.paces[answer.node].get(slot(host)) else { return };
        let end = answer.local + pace.lease();
        if opens(window, answer.local) && window.serve_until > end.nanos() {
            let over = Instant::from_nanos(window.serve_until).since(end);
            let text =
                format!("n{} host {}: window ends {over} after the longest lease", answer.node, host.0);
            self.fail(answer.now, Rule::LongLease, text);
        }
    }

    fn check_fence(&mut self, answer: &Answer<'_>, host: HostId) {
        let closes = |action: &Action| matches!(action, Action::Window { host: of, window } if *of == host && *window == Window::CLOSED);
        let fence = answer.actions.iter().position(|(action, _)| closes(action));
        let frame = answer.actions.iter().position(|(_, of)| *of == Some(slot(host)));
        let open = answer.windows.get(slot(host)).is_some_and(|window| window.is_leased(answer.local));
        let late = match (fence, frame) {
            (Some(fence), Some(frame)) => frame < fence,
            (Some(_), None) => false,
            (None, _) => open,
        };
        if late {
            let text =
                format!("n{} gives up host {} but does not first close its window", answer.node, host.0);
            self.fail(answer.now, Rule::LateFence, text);
        }
    }

    /// Rules 1 and 7, from now until the next event. `spells`: when each machine serves if nothing
    /// else happens, by virtual host, then machine; `windows`: the same with those whose port is down.
    pub fn watch(
        &mut self,
        now: Instant,
        next: Instant,
        windows: &[Option<Spell>],
        spells: &[Option<Spell>],
    ) {
        let machines = self.paces.len();
        if self.grouped {
            self.check_group(now, next, spells);
        }
        for (host, (windows, spells)) in windows.chunks(machines).zip(spells.chunks(machines)).enumerate() {
            for (node, spell) in windows.iter().enumerate() {
                let begun = spell.filter(|(from, until)| *from < next && now < *until);
                let since = self.since[node][host];
                self.since[node][host] = begun.map(|(from, _)| since.unwrap_or_else(|| from.max(now)));
            }
            self.check_pairs(host, now, next, spells);
            self.check_calm(host, now, next, spells);
        }
    }

    fn check_pairs(&mut self, host: usize, now: Instant, next: Instant, spells: &[Option<Spell>]) {
        for one in 0..spells.len() {
            for other in 0..one {
                let (Some(a), Some(b)) = (spells[one], spells[other]) else { continue };
                let (from, until) = (a.0.max(b.0).max(now), a.1.min(b.1).min(next));
                if from < until && !self.is_excused(host, one, other, from) {
                    let text = format!("n{other} and n{one} both serve host {host}");
                    self.fail(from, Rule::TwoServers, text);
                }
            }
        }
    }

    /// Two machines may not serve a part of the group each, as long as any path connects them.
    fn check_group(&mut self, now: Instant, next: Instant, spells: &[Option<Spell>]) {
        let machines = self.paces.len();
        let serving = |node: usize| spells.iter().skip(node).step_by(machines).flatten();
        for one in 0..machines {
            for other in 0..one {
                let pairs = serving(one).flat_map(|a| serving(other).map(move |b| (a, b)));
                let both = pairs.map(|(a, b)| (a.0.max(b.0).max(now), a.1.min(b.1).min(next)));
                let Some((from, _)) = both.filter(|(from, until)| from < until).min() else { continue };
                let hosts = 0..self.paces[one].len();
                if !hosts.into_iter().all(|host| self.is_excused(host, one, other, from)) {
                    self.fail(from, Rule::TwoServers, format!("n{other} and n{one} both serve of the group"));
                }
            }
        }
    }

    /// Whether the two may not have heard of each other: during the dead time of the one that
    /// began to serve later and one interval, an advertisement between them went astray. Two that
    /// began so may go on for one lease more: the one that has to give way may be paused, and its
    /// kernel knows only of the lease.
    fn is_excused(&self, host: usize, one: usize, other: usize, at: Instant) -> bool {
        if self.promise == Promise::Recovery {
            return true;
        }
        let later = if self.since[one][host] > self.since[other][host] { one } else { other };
        let pace = self.paces[later][host];
        let horizon = pace.dead() + pace.interval();
        let last = self.impaired.get(&(host, one.min(other), one.max(other)));
        let began = self.since[later][host].unwrap_or(at).min(at);
        last.is_some_and(|last| *last + horizon >= began && *last + horizon + pace.lease() >= at)
    }

    fn check_calm(&mut self, host: usize, now: Instant, next: Instant, spells: &[Option<Spell>]) {
        let Some(master) = self.settled.as_ref().and_then(|settled| settled.get(host)).copied() else {
            return;
        };
        if spells[master].is_none_or(|(from, until)| now < from || until < next) {
            self.fail(now, Rule::Unstable, format!("n{master} stops serving host {host}"));
        }
    }

    /// Rule 6: now it must have settled, and from now on it must stay so.
    pub fn settle(&mut self, now: Instant, scenario: &Scenario, spells: &[Option<Spell>]) {
        let masters = spells.chunks(self.paces.len()).enumerate().map(|(host, spells)| {
            let serves = |node: &usize| spells[*node].is_some_and(|(from, until)| from <= now && now < until);
            self.winner(host, scenario, serves)
        });
        match masters.collect::<Result<Vec<_>, _>>() {
            Ok(masters) if self.grouped && masters.iter().any(|master| *master != masters[0]) => {
                self.fail(now, Rule::Unsettled, format!("the group is torn: masters {masters:?}"));
            }
            Ok(masters) => self.settled = Some(masters),
            Err(text) => self.fail(now, Rule::Unsettled, text),
        }
    }

    /// The one machine that leads and serves a virtual host.
    fn winner(
        &self,
        host: usize,
        scenario: &Scenario,
        serves: impl Fn(&usize) -> bool,
    ) -> Result<usize, String> {
        let nodes = 0..self.paces.len();
        let with = |role| nodes.clone().filter(move |node| self.roles[*node][host] == role);
        let elected: Vec<usize> = with(Role::Master).collect();
        let serving: Vec<usize> = nodes.clone().filter(serves).collect();
        let idle = with(Role::Init).count();
        let [master] = elected.as_slice() else {
            return Err(format!("host {host}: masters {elected:?}, serving {serving:?}"));
        };
        if serving != elected || idle > 0 {
            return Err(format!("host {host}: master {master}, serving {serving:?}, {idle} in INIT"));
        }
        let best = nodes.clone().map(|node| self.paces[node][host]).min_by_key(|pace| rank(*pace));
        let must_lead = scenario.machines.iter().all(|machine| machine.preempt);
        if must_lead && Some(self.paces[*master][host]) != best {
            return Err(format!("host {host}: n{master} leads, which is not the best"));
        }
        Ok(*master)
    }
}

impl Rule {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoServers => "two-servers",
            Self::LongLease => "long-lease",
            Self::Fooled => "fooled",
            Self::LateFence => "late-fence",
            Self::ServesInVain => "serves-in-vain",
            Self::Unsettled => "unsettled",
            Self::Unstable => "unstable",
            Self::Confused => "confused",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.rule, Clockwise(self.at), self.text)
    }
}

/// Whether a window is, or will be, open.
fn opens(window: Window, local: Instant) -> bool {
    window.serve_from < window.serve_until && local.nanos() < window.serve_until
}

fn last_window(answer: &Answer<'_>, host: usize) -> Option<Window> {
    let of_host = |(action, _): &(Action, Option<usize>)| match action {
        Action::Window { host: of, window } if slot(*of) == host => Some(*window),
        Action::Window { .. }
        | Action::Advertise { .. }
        | Action::Send { .. }
        | Action::Announce { .. }
        | Action::Challenge { .. }
        | Action::Watch { .. }
        | Action::Changed(_)
        | Action::Tell { .. }
        | Action::Ask(_)
        | Action::Demoted(_)
        | Action::Peer { .. }
        | Action::Serving { .. }
        | Action::Warn { .. } => None,
    };
    answer.actions.iter().rev().find_map(of_host)
}

/// Smaller leads.
const fn rank(pace: Pace) -> (u8, u8) {
    (pace.base, pace.skew)
}

/// A virtual host's index.
pub fn slot(host: HostId) -> usize {
    usize::try_from(host.0).unwrap_or(usize::MAX)
}
