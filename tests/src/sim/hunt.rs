//! Many runs, on all processors.

use super::chance;
use super::mutant::Mutant;
use super::oracle::Failure;
use super::scenario::Scenario;
use super::world::World;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Seeds that a thread takes at a time.
const CHUNK: u64 = 16;

/// A run that broke a rule.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Its seed.
    pub seed: u64,
    /// The mutant that it ran, if any.
    pub mutant: Option<Mutant>,
    /// What broke.
    pub failure: Failure,
}

/// When a hunt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All seeds were tried.
    Done,
    /// A rule was broken; which seed is reported may then depend on the processors.
    Caught,
}

/// What draws a scenario from a seed.
pub type Draw = fn(u64) -> Scenario;

/// One run, to the end or to the first broken rule.
pub fn run(draw: Draw, seed: u64, mutant: Option<Mutant>) -> World {
    let mut world = World::new(draw(seed), seed, mutant);
    world.run();
    world
}

/// The failing ones of so many seeds, in order. `progress` is told now and then how many are done
/// and how many have failed.
pub fn hunt(
    draw: Draw,
    from: u64,
    count: u64,
    mutant: Option<Mutant>,
    until: Until,
    progress: impl Fn(u64, u64) + Sync,
) -> Vec<Caught> {
    let (next, done, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let caught = Mutex::new(Vec::new());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            let chunk = CHUNK.min(count.saturating_sub(start));
            if chunk == 0 {
                break;
            }
            let found = try_chunk(draw, from.wrapping_add(start), chunk, mutant);
            let failures = u64::try_from(found.len()).unwrap_or(u64::MAX);
            if failures > 0 && until == Until::Caught {
                is_over.store(true, Ordering::Relaxed);
            }
            caught.lock().unwrap_or_else(|poison| poison.into_inner()).extend(found);
            let failures = failed.fetch_add(failures, Ordering::Relaxed) + failures;
            progress(done.fetch_add(chunk, Ordering::Relaxed) + chunk, failures);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(work);
        }
    });
    let mut caught = caught.into_inner().unwrap_or_else(|poison| poison.into_inner());
    caught.sort_by_key(|caught| caught.seed);
    caught
}

/// The first seed, from 0, at which the oracle catches a mutant and has nothing against the sound
/// nodes.
pub fn catch(mutant: Mutant, within: u64) -> Option<Caught> {
    let mut caught = (0..within).filter_map(|seed| try_chunk(chance::scenario, seed, 1, Some(mutant)).pop());
    caught.find(|caught| try_chunk(chance::scenario, caught.seed, 1, None).is_empty())
}

fn try_chunk(draw: Draw, from: u64, count: u64, mutant: Option<Mutant>) -> Vec<Caught> {
    let run = |offset| {
        let seed = from.wrapping_add(offset);
        let mut world = World::new(draw(seed), seed, mutant).silent();
        world.run();
        world.failure().map(|failure| Caught { seed, mutant, failure: failure.clone() })
    };
    (0..count).filter_map(run).collect()
}
