//! Who is master: the CARP state machine of one virtual host, with the timers and rules of FreeBSD or
//! of OpenBSD (`carp-protocol` sections 3.2 to 3.4). It knows nothing of packets, keys or windows.

pub use super::family::Families;
pub use super::input::{Input, Output, Tie};

use super::detect::Sign;
use super::event::{Family, Flavour, Reason, Role};
use carp_common::pace::{MAX_SKEW, Pace};
use carp_common::time::{Instant, Span};
use std::cmp::Ordering;

/// A timer that fires later than this, or an advert that waited longer, means that this process
/// slept: it looks at what happened meanwhile before it claims a role (invariant 10).
pub const LATE: Span = Span::millis(250);

/// The election of one virtual host.
#[derive(Clone, Debug)]
pub struct Election {
    terms: Terms,
    demotion: i32,
    /// Before this moment the master is not silent, as it was heard elsewhere.
    hold_until: Instant,
    /// A backup is not to take over by itself.
    barred: bool,
    state: State,
}

/// What the configuration says of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Base and skew.
    pub configured: Pace,
    /// Whether a backup takes over from a worse master.
    pub preempt: bool,
    /// Whether it moves with others: then a master is silent when it is in every family, and preempted when it is demoted
    /// as far as that goes.
    pub grouped: bool,
    /// Whose timers and rules it follows.
    pub flavour: Flavour,
    /// Families that are advertised.
    pub families: Families,
}

#[derive(Clone, Debug)]
enum State {
    Init,
    /// One master-down timer per family in use; either promotes (item 62).
    Backup {
        v4_dead_at: Option<Instant>,
        v6_dead_at: Option<Instant>,
    },
    Master {
        advertise_at: Instant,
    },
}

impl Election {
    /// In INIT.
    pub const fn new(terms: Terms) -> Self {
        Self { terms, demotion: 0, hold_until: Instant::ZERO, barred: false, state: State::Init }
    }

    /// The role now.
    pub const fn role(&self) -> Role {
        match self.state {
            State::Init => Role::Init,
            State::Backup { .. } => Role::Backup,
            State::Master { .. } => Role::Master,
        }
    }

    /// What is advertised and compared: FreeBSD folds demotion into it, OpenBSD tells of it apart.
    pub fn effective(&self) -> Pace {
        match self.terms.flavour {
            Flavour::Freebsd => self.terms.configured.demoted(self.demotion),
            Flavour::Openbsd => self.terms.configured,
        }
    }

    /// Silence after which this backup takes the master for dead.
    pub fn dead(&self) -> Span {
        match self.terms.flavour {
            Flavour::Freebsd => self.terms.configured.dead(),
            Flavour::Openbsd => self.terms.configured.interval().times(3),
        }
    }

    /// Whether this node, as a backup, leaves a master of that rank alone.
    pub fn yields_to(&self, pace: Pace, demote: u8) -> bool {
        !self.outranks(pace, demote)
    }

    /// How this node's demotion compares with a peer's byte 4: FreeBSD does not look at it.
    fn demotion_to(&self, demote: u8) -> Ordering {
        match self.terms.flavour {
            Flavour::Freebsd => Ordering::Equal,
            Flavour::Openbsd => demote_byte(self.demotion).cmp(&demote),
        }
    }

    /// How a peer's rank compares with this node's: less leads.
    pub fn compare(&self, pace: Pace, demote: u8) -> Ordering {
        self.demotion_to(demote).reverse().then(pace.cmp(&self.effective()))
    }

    /// When this backup takes the master for dead.
    pub fn dead_at(&self) -> Option<Instant> {
        Some(self.silent_at()?.max(self.hold_until))
    }

    /// The same by what it hears itself.
    pub fn silent_at(&self) -> Option<Instant> {
        match self.state {
            State::Backup { v4_dead_at, v6_dead_at } if self.terms.grouped => v4_dead_at.max(v6_dead_at),
            State::Backup { v4_dead_at, v6_dead_at } => earlier(v4_dead_at, v6_dead_at),
            State::Init | State::Master { .. } => None,
        }
    }

    /// Before this moment the master does not count as dead.
    pub const fn hold(&mut self, until: Instant) {
        self.hold_until = until;
    }

    /// Whether a backup is to say that it would take over, and not to do it.
    pub const fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Whether this backup preempts a master of that rank. By OpenBSD's rule one that is demoted more
    /// is preempted in any case, and one that is demoted less in none.
    fn outranks(&self, pace: Pace, demote: u8) -> bool {
        match self.demotion_to(demote) {
            Ordering::Less => true,
            Ordering::Equal => self.preempts_at(pace) && self.effective() < pace,
            Ordering::Greater => false,
        }
    }

    const fn preempts_at(&self, pace: Pace) -> bool {
        self.terms.preempt || (self.terms.grouped && pace.skew >= MAX_SKEW)
    }

    /// When to come back with a `Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Init => None,
            State::Backup { .. } => self.dead_at(),
            State::Master { advertise_at } => Some(advertise_at),
        }
    }

    /// The one door. Every pair of state and input has its own arm.
    pub fn handle(&mut self, input: Input, now: Instant) -> Output {
        match (&mut self.state, input) {
            (State::Init, Input::Up(reason)) => self.listen(now, reason),
            (State::Backup { .. } | State::Master { .. }, Input::Up(_)) => Output::default(),
            (State::Init, Input::Down(_)) => Output::default(),
            (State::Backup { .. } | State::Master { .. }, Input::Down(reason)) => {
                self.state = State::Init;
                Output { change: Some((Role::Init, reason)), ..Output::default() }
            }
            (State::Init, Input::Heard { .. } | Input::Force { .. } | Input::Tick) => Output::default(),
            (State::Init, Input::Group { .. } | Input::Vanished(_)) => Output::default(),
            (State::Backup { .. }, Input::Vanished(sign)) => self.promote(now, missed(sign)),
            (State::Master { .. }, Input::Vanished(_)) => Output::default(),
            (State::Backup { .. }, Input::Group { master: true, .. }) => self.promote(now, Reason::Grouped),
            (State::Master { .. }, Input::Group { master: false, .. }) => self.listen(now, Reason::Grouped),
            (State::Backup { .. }, Input::Group { master: false, .. }) => Output::default(),
            (State::Master { .. }, Input::Group { master: true, .. }) => Output::default(),
            (
                State::Init,
                Input::Preempt
                | Input::HandedOver { .. }
                | Input::Granted { .. }
                | Input::Resume
                | Input::Yield
                | Input::LeaseLapsed,
            ) => Output::default(),
            (State::Backup { .. }, Input::Heard { family, at, pace, demote, may_preempt, .. }) => {
                let preempts = may_preempt && self.outranks(pace, demote);
                self.backup_heard(family, at, pace, preempts, now)
            }
            (State::Master { .. }, Input::Heard { pace, demote, tie, .. }) => {
                self.master_heard(pace, demote, tie, now)
            }
            (State::Backup { .. }, Input::Resume) => self.promote(now, Reason::Resumed),
            (State::Master { .. }, Input::Resume) => Output::default(),
            (State::Backup { .. }, Input::Preempt) => self.promote(now, Reason::Preempted),
            (State::Master { .. }, Input::Preempt) => Output::default(),
            (State::Backup { .. }, Input::HandedOver { .. }) => self.promote(now, Reason::HandedOver),
            (State::Master { .. }, Input::HandedOver { .. } | Input::Granted { .. }) => Output::default(),
            (State::Backup { .. }, Input::Granted { reason, .. }) => self.promote(now, reason),
            (State::Backup { .. }, Input::Yield) => Output::default(),
            (State::Master { .. }, Input::Yield) => self.listen(now, Reason::HandingOver),
            (State::Backup { .. }, Input::LeaseLapsed) => Output::default(),
            (State::Master { .. }, Input::LeaseLapsed) => self.listen(now, Reason::LeaseLapsed),
            (State::Backup { .. }, Input::Force { master: true }) => self.promote(now, Reason::Forced),
            (State::Master { .. }, Input::Force { master: false }) => self.listen(now, Reason::Forced),
            (State::Backup { .. }, Input::Force { master: false }) => Output::default(),
            (State::Master { .. }, Input::Force { master: true }) => Output::default(),
            (State::Init | State::Backup { .. }, Input::Demotion(sum)) => {
                self.demotion = sum;
                Output::default()
            }
            (State::Master { .. }, Input::Demotion(sum)) => {
                let before = self.told();
                self.demotion = sum;
                self.tell_if_not(before, now)
            }
            (State::Init, Input::Terms(terms)) => {
                self.terms = terms;
                Output::default()
            }
            (State::Backup { .. }, Input::Terms(terms)) => self.relisten(terms, now),
            (State::Master { .. }, Input::Terms(terms)) => {
                let before = self.told();
                self.terms = terms;
                self.tell_if_not(before, now)
            }
            (State::Backup { .. }, Input::Tick) => self.backup_tick(now),
            (State::Master { advertise_at }, Input::Tick) if *advertise_at <= now => self.advertise(now),
            (State::Master { .. }, Input::Tick) => Output::default(),
        }
    }

    /// Enters BACKUP with full master-down timers.
    fn listen(&mut self, now: Instant, reason: Reason) -> Output {
        let dead_at = now + self.dead();
        self.state = State::Backup {
            v4_dead_at: self.terms.families.v4.then_some(dead_at),
            v6_dead_at: self.terms.families.v6.then_some(dead_at),
        };
        Output { change: Some((Role::Backup, reason)), ..Output::default() }
    }

    /// Enters MASTER. The first interval has the undemoted skew, as FreeBSD's.
    fn promote(&mut self, now: Instant, reason: Reason) -> Output {
        if self.barred && !matches!(reason, Reason::Resumed | Reason::Forced | Reason::Grouped) {
            return Output { wished: Some(reason), ..Output::default() };
        }
        self.state = State::Master { advertise_at: now + self.terms.configured.interval() };
        Output { change: Some((Role::Master, reason)), advertise: true, ..Output::default() }
    }

    fn advertise(&mut self, now: Instant) -> Output {
        self.state = State::Master { advertise_at: now + self.effective().interval() };
        Output { advertise: true, ..Output::default() }
    }

    /// What a master's adverts say of its rank.
    fn told(&self) -> (Pace, u8) {
        match self.terms.flavour {
            Flavour::Freebsd => (self.effective(), 0),
            Flavour::Openbsd => (self.effective(), demote_byte(self.demotion)),
        }
    }

    /// A master tells of its new rank at once (item 89).
    fn tell_if_not(&mut self, told: (Pace, u8), now: Instant) -> Output {
        if self.told() == told { Output::default() } else { self.advertise(now) }
    }

    /// A backup's timers run on. That of a family that is new begins.
    fn relisten(&mut self, terms: Terms, now: Instant) -> Output {
        self.terms = terms;
        let dead_at = now + self.dead();
        if let State::Backup { v4_dead_at, v6_dead_at } = &mut self.state {
            *v4_dead_at = terms.families.v4.then(|| v4_dead_at.unwrap_or(dead_at));
            *v6_dead_at = terms.families.v6.then(|| v6_dead_at.unwrap_or(dead_at));
        }
        Output::default()
    }

    fn backup_heard(
        &mut self,
        family: Family,
        at: Instant,
        pace: Pace,
        preempts: bool,
        now: Instant,
    ) -> Output {
        let fresh = now.since(at) <= LATE;
        if fresh && preempts {
            return self.promote(now, Reason::Preempted);
        }
        if fresh && pace.outlasts(self.effective()) {
            return self.promote(now, Reason::MasterWillTimeOut);
        }
        let dead = self.dead();
        if let State::Backup { v4_dead_at, v6_dead_at } = &mut self.state {
            let timer = match family {
                Family::V4 => v4_dead_at,
                Family::V6 => v6_dead_at,
            };
            if timer.is_some() {
                *timer = Some(at + dead);
            }
        }
        Output::default()
    }

    fn master_heard(&mut self, pace: Pace, demote: u8, tie: Tie, now: Instant) -> Output {
        match (self.compare(pace, demote), tie) {
            (Ordering::Less, _) => self.listen(now, Reason::BetterMaster),
            (Ordering::Equal, Tie::Theirs) => self.listen(now, Reason::LowerAddress),
            (Ordering::Equal, Tie::Ours) | (Ordering::Greater, _) => {
                Output { contested: true, ..Output::default() }
            }
        }
    }

    /// Promotes when a timer is due; when it is long overdue this process slept, and listens anew.
    fn backup_tick(&mut self, now: Instant) -> Output {
        match self.dead_at() {
            Some(dead_at) if now.since(dead_at) > LATE => {
                self.listen(now, Reason::MasterTimedOut);
                Output::default()
            }
            Some(dead_at) if dead_at <= now => self.promote(now, Reason::MasterTimedOut),
            Some(_) | None => Output::default(),
        }
    }
}

/// Why a master is taken for gone.
const fn missed(sign: Sign) -> Reason {
    match sign {
        Sign::Lapsed => Reason::MasterLapsed,
        Sign::Silent | Sign::Lives => Reason::MasterSilent,
    }
}

/// Byte 4 of an advert: OpenBSD ranks by it, the others ignore it.
pub fn demote_byte(demotion: i32) -> u8 {
    u8::try_from(demotion.max(0)).unwrap_or(u8::MAX)
}

/// The earlier of two timers, of which either may not run.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
