//! Nodes broken on purpose, to show that the oracle bites. The product has no test switches: a
//! mutant is made from outside, from what a node sees and what becomes of what it wants.

use super::post::{reseal, sign};
use super::scenario::Scenario;
use carp_common::admission::Mode;
use carp_common::id::Vhid;
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::Instant;
use carp_common::wire::Frame;
use carp_user::proto::event::{Action, Role, Transition};
use core::num::NonZeroU64;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Twice as fast as the world.
const DOUBLE: NonZeroU64 = NonZeroU64::new(2_000_000).expect("two million is not zero");

/// How nodes are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// All but the first count time twice as fast: they take a master for dead after half of the
    /// dead time.
    DeadHalved,
    /// All have equal ranks, and every sender's address looks higher than the own: no master ever
    /// gives way.
    NoTieBreak,
    /// The datapath never closes a window by itself.
    LeaseIgnored,
    /// The datapath is never told to close a window.
    NoFence,
    /// A window is closed only after everything else was done.
    LateFence,
    /// A new master serves at once, without waiting until the old one has given way.
    Hasty,
    /// Nobody hears anything.
    Deaf,
    /// No advert moves an armed window.
    DeafShield,
    /// Failed sends are reported as done.
    Boastful,
    /// Digests are not checked: what is forged looks as if it were signed.
    Credulous,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 10] = [
        Self::DeadHalved,
        Self::NoTieBreak,
        Self::LeaseIgnored,
        Self::NoFence,
        Self::LateFence,
        Self::Hasty,
        Self::Deaf,
        Self::DeafShield,
        Self::Boastful,
        Self::Credulous,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadHalved => "dead-halved",
            Self::NoTieBreak => "no-tie-break",
            Self::LeaseIgnored => "lease-ignored",
            Self::NoFence => "no-fence",
            Self::LateFence => "late-fence",
            Self::Hasty => "hasty",
            Self::Deaf => "deaf",
            Self::DeafShield => "deaf-shield",
            Self::Boastful => "boastful",
            Self::Credulous => "credulous",
        }
    }

    /// The mutant of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }

    /// Changes the machines before anything happens.
    pub(super) fn distort(self, scenario: &mut Scenario) {
        match self {
            Self::DeadHalved => {
                scenario.machines.iter_mut().skip(1).for_each(|machine| machine.clock.pace = DOUBLE);
            }
            Self::NoTieBreak => {
                let Some(first) = scenario.machines.first().map(|machine| machine.paces.clone()) else {
                    return;
                };
                scenario.machines.iter_mut().for_each(|machine| machine.paces.clone_from(&first));
                scenario.auth = Mode::Carp;
            }
            // What is signed anew from outside is signed as CARP does it.
            Self::Credulous => scenario.auth = Mode::Carp,
            Self::LeaseIgnored
            | Self::NoFence
            | Self::LateFence
            | Self::Hasty
            | Self::Deaf
            | Self::DeafShield
            | Self::Boastful => {}
        }
    }

    /// What a node hears instead of this frame.
    pub(super) fn hears(
        self,
        frame: Frame,
        host: impl Fn(Vhid) -> Option<usize>,
        scenario: &Scenario,
    ) -> Option<Frame> {
        match self {
            Self::Deaf => None,
            Self::NoTieBreak => Some(reseal(frame, |heard| heard.source = highest(heard.source))),
            Self::Credulous => Some(reseal(frame, |heard| {
                if let Some(host) = host(heard.advert.vhid) {
                    sign(&mut heard.advert, &scenario.hosts[host].vips());
                }
            })),
            Self::DeadHalved
            | Self::LeaseIgnored
            | Self::NoFence
            | Self::LateFence
            | Self::Hasty
            | Self::DeafShield
            | Self::Boastful => Some(frame),
        }
    }

    /// Changes what a node wants done.
    pub(super) fn meddle(self, actions: &mut Vec<Action>, local: Instant) {
        let closes =
            |action: &Action| matches!(action, Action::Window { window, .. } if !window.is_leased(local));
        match self {
            Self::NoFence => actions.retain(|action| !closes(action)),
            Self::LateFence => actions.sort_by_key(closes),
            Self::Hasty => {
                let until = local + Pace { base: 1, skew: 0 }.lease();
                let window = Window::new(Instant::ZERO, until);
                let won = actions.iter().find_map(|action| match action {
                    Action::Changed(Transition { host, to: Role::Master, .. }) => Some(*host),
                    Action::Changed(_)
                    | Action::Window { .. }
                    | Action::Advertise { .. }
                    | Action::Send { .. }
                    | Action::Announce { .. }
                    | Action::Challenge { .. }
                    | Action::Watch { .. }
                    | Action::Tell { .. }
                    | Action::Ask(_)
                    | Action::Demoted(_)
                    | Action::Peer { .. }
                    | Action::Serving { .. }
                    | Action::Warn { .. } => None,
                });
                actions.extend(won.map(|host| Action::Window { host, window }));
            }
            Self::DeadHalved
            | Self::NoTieBreak
            | Self::LeaseIgnored
            | Self::Deaf
            | Self::DeafShield
            | Self::Boastful
            | Self::Credulous => {}
        }
    }
}

/// An address of the same subnet above everybody else's.
fn highest(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(source) => {
            let [a, b, c, _] = source.octets();
            Ipv4Addr::new(a, b, c, 255).into()
        }
        IpAddr::V6(source) => {
            let [a, b, c, d, e, f, g, _] = source.segments();
            Ipv6Addr::new(a, b, c, d, e, f, g, 0xffff).into()
        }
    }
}
