//! Runs: one with every single fault, or many by chance; then quiet, and both nodes must be on one configuration.

use super::machine::Revision;
use super::world::{Breach, Faults, Who, World};
use crate::sim::rng::Rng;
use carp_common::time::Span;
use carp_user::proto::config_sync::coordinator::Wish;

/// Longer than any repair takes: patience, doubts, and an offer to a peer that refused.
const QUIET: Span = Span::secs(300);
/// What happens in a run by chance.
const DEEDS: u64 = 30;

/// What somebody does in a short run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Applies.
    Apply,
    /// Applies what the other node does not admit.
    Inadmissible,
    /// Applies what the other node admits and cannot use.
    UnusableThere,
    /// Applies what this node cannot use after all.
    UnusableHere,
    /// Applies on trial, and confirms.
    Confirm,
    /// Applies on trial, and does not.
    LetLapse,
    /// Applies while the other node is away, which returns.
    Away,
}

/// All of them.
pub const DEEDS_ALONE: [Deed; 7] = [
    Deed::Apply,
    Deed::Inadmissible,
    Deed::UnusableThere,
    Deed::UnusableHere,
    Deed::Confirm,
    Deed::LetLapse,
    Deed::Away,
];

/// One deed with these faults, and another configuration after it, for which nothing is in the way.
///
/// # Errors
/// The rule that was broken.
pub fn one(deed: Deed, require_peer: bool, faults: Faults) -> Result<World, Breach> {
    let mut world = World::new(require_peer, 0);
    world.pass(Span::secs(1))?;
    // Counted from here.
    (world.messages, world.steps) = (0, 0);
    world.faults = faults;
    act(&mut world, 2, deed)?;
    world.pass(Span::secs(30))?;
    world.faults = Faults::default();
    world.pass(QUIET)?;
    world.settled()?;
    world.want(3, Wish::Apply);
    world.pass(QUIET)?;
    world.settled()?;
    if world.editor.disk.file != 3 || world.follower.disk.file != 3 {
        return Err(format!("the next one is not used: {:?}", world.told));
    }
    Ok(world)
}

fn act(world: &mut World, revision: Revision, deed: Deed) -> Result<(), Breach> {
    match deed {
        Deed::Apply => world.want(revision, Wish::Apply),
        Deed::Inadmissible => {
            world.inadmissible.insert(revision);
            world.want(revision, Wish::Apply);
        }
        Deed::UnusableThere => {
            world.unusable[1].insert(revision);
            world.want(revision, Wish::Apply);
        }
        Deed::UnusableHere => {
            world.unusable[0].insert(revision);
            world.want(revision, Wish::Apply);
        }
        Deed::Confirm => {
            world.want(revision, Wish::Try(Span::secs(20)));
            world.pass(Span::secs(10))?;
            world.confirm();
        }
        Deed::LetLapse => world.want(revision, Wish::Try(Span::secs(20))),
        Deed::Away => {
            world.up = false;
            world.want(revision, Wish::Apply);
            world.pass(Span::secs(60))?;
            world.up = true;
        }
    }
    Ok(())
}

/// One run by chance.
///
/// # Errors
/// The rule that was broken, and when.
pub fn by_chance(seed: u64, forgets: bool) -> Result<World, Breach> {
    let mut rng = Rng::new(seed);
    let mut world = World::new(rng.chance(300), seed ^ 0x5eed);
    world.forgets = forgets;
    let played = chances(&mut world, &mut rng);
    let now = world.now;
    played.map_err(|breach| format!("at {now:?}: {breach}"))?;
    Ok(world)
}

fn chances(world: &mut World, rng: &mut Rng) -> Result<(), Breach> {
    let crashes = rng.chance(600);
    world.faults.rough = rng.below(300);
    let mut next: Revision = 2;
    for _ in 0..1 + rng.below(DEEDS) {
        match rng.below(12) {
            0..=5 => {
                let deeds: Vec<Deed> =
                    DEEDS_ALONE.iter().copied().filter(|deed| *deed != Deed::Away).collect();
                act(world, next, rng.pick(&deeds))?;
                next += 1;
            }
            6 => world.push(),
            7 => world.up = false,
            8 => world.up = true,
            9 => world.confirm(),
            _ if crashes => {
                let who = if rng.chance(500) { Who::Editor } else { Who::Follower };
                world.kill(who, rng.span(Span::millis(100), Span::secs(20)));
            }
            _ => {}
        }
        let longest = if rng.chance(100) { Span::secs(700) } else { Span::secs(8) };
        world.pass(rng.span(Span::ZERO, longest))?;
    }
    world.faults = Faults::default();
    world.up = true;
    world.pass(QUIET)?;
    world.settled()
}
