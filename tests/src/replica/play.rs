//! A run by chance: traffic, cuts, crashes, swaps; then quiet, and all must be equal.

use super::kernel::{flow, tcp_state};
use super::world::{Breach, World};
use crate::sim::rng::Rng;
use carp_common::time::Span;
use carp_user::proto::flow::{Flow, Ids, Key};
use carp_user::proto::sync::session::Event;

/// How much happens.
const DEEDS: u64 = 300;
/// Longer than any repair takes: a silent peer, a new connection, a bulk, two comparisons, and one repair after another.
const QUIET: Span = Span::secs(70);

/// One run; what broke.
///
/// # Errors
/// The rule that was broken, and when.
pub fn run(seed: u64) -> Result<World, Breach> {
    let mut play =
        Play { world: World::new(Rng::new(seed ^ 0x5ee_d0f7)), rng: Rng::new(seed), port: 1024, both: false };
    let played = play.all();
    let now = play.world.now;
    played.map_err(|breach| format!("at {}: {breach}", now.since(carp_common::time::Instant::ZERO)))?;
    Ok(play.world)
}

struct Play {
    world: World,
    rng: Rng,
    port: u16,
    /// Both nodes serve, for a moment.
    both: bool,
}

impl Play {
    fn all(&mut self) -> Result<(), Breach> {
        // How rough it is differs from run to run: in many runs nothing but traffic and cuts.
        let (rough, crashes, load) = (self.rng.below(60), self.rng.chance(500), 1 + self.rng.below(40));
        let early = self.rng.chance(700);
        self.world.pass_slowly(if early { Span::millis(50) } else { Span::secs(3) }, Span::millis(5))?;
        for _ in 0..1 + self.rng.below(DEEDS) {
            if self.rng.chance(rough) {
                self.trouble(crashes)?;
            } else {
                for _ in 0..self.rng.below(load) {
                    self.traffic();
                }
            }
            let longest = if self.rng.chance(20) { Span::secs(2) } else { Span::millis(5) };
            let span = self.rng.span(Span::ZERO, longest);
            self.world.pass_slowly(span, Span::millis(2))?;
        }
        self.one_serves();
        self.world.up = true;
        self.world.pass_slowly(QUIET, Span::millis(5))?;
        self.world.settled()
    }

    fn one_serves(&mut self) {
        if std::mem::take(&mut self.both) {
            let yields = self.rng.index(2);
            let now = self.world.now;
            self.world.machines[yields].serve(false, now);
            self.world.dispute();
        }
    }

    /// A packet, or the end of a flow, at a node that serves.
    fn traffic(&mut self) {
        let serving: Vec<usize> = (0..2).filter(|at| self.world.machines[*at].serving).collect();
        let at = self.rng.pick(&serving);
        let number = 1 + u16::try_from(self.rng.below(120)).unwrap_or(0);
        let kernel = &mut self.world.machines[at].kernel;
        let known = kernel.flows.get(&flow(number, 0, 0).key).map(|(flow, _)| *flow);
        match known {
            // Both made a flow of one number, or one ended what the other goes on with: which of them is
            // right nobody can say, so it does not happen here.
            None if self.both => {
                let other = if at == 0 { number + 1000 } else { number + 2000 };
                self.begin(at, other);
            }
            None => self.begin(at, number),
            Some(known) if self.rng.chance(300) && !self.both => self.end(at, known.key),
            Some(known) => {
                let state = (tcp_state(&known) + u8::from(self.rng.chance(500))).min(7);
                let kernel = &mut self.world.machines[at].kernel;
                let mark = known.mark + 1 + u32::try_from(self.rng.below(1000)).unwrap_or(0);
                kernel.packet(Flow { mark, ..with_state(&known, state) });
                // A packet shows what lives, also when this node's peer had ended it a moment before the roles changed.
                self.world.alive.insert(known.key, known.reply);
            }
        }
    }

    fn begin(&mut self, at: usize, number: u16) {
        let new = flow(number, self.port, 1);
        if self.world.machines[at].kernel.flows.contains_key(&new.key) {
            return;
        }
        self.port = self.port.wrapping_add(1);
        self.world.machines[at].kernel.packet(new);
        self.world.alive.insert(new.key, new.reply);
    }

    fn end(&mut self, at: usize, key: Key) {
        self.world.machines[at].kernel.end(key);
        self.world.alive.remove(&key);
        self.world.ended.insert(key);
        // In place of the one that ended, at once, with another translation.
        if self.rng.chance(300)
            && let Ids::Ports { source, .. } = key.original.ids
        {
            self.begin(at, source);
        }
    }

    fn trouble(&mut self, crashes: bool) -> Result<(), Breach> {
        let now = self.world.now;
        match self.rng.below(9) {
            0 => self.world.cut(),
            1 => {
                self.world.cut();
                self.world.up = false;
            }
            2 => self.world.up = true,
            3 | 4 => self.swap(),
            5 if self.world.up => {
                // Both serve for a moment.
                self.both = true;
                (self.world.swapped, self.world.disputed) = (true, true);
                (0..2).for_each(|at| {
                    if !self.world.machines[at].serving {
                        self.world.machines[at].serve(true, now);
                    }
                });
            }
            5 => {}
            6 if crashes && !self.both => self.crash()?,
            7 if crashes => {
                let which = self.rng.index(2);
                self.world.restart(which);
            }
            6 | 7 => self.world.machines[self.rng.index(2)].tell(Event::Full, now),
            _ => {
                // More is said than there is room for.
                self.world.forgot = true;
                for _ in 0..400 {
                    self.traffic();
                }
            }
        }
        Ok(())
    }

    /// The roles change: as a rule when all has been told, sometimes at once, and then what the new master
    /// has is what lives.
    fn swap(&mut self) {
        let now = self.world.now;
        if std::mem::take(&mut self.both) {
            let yields = self.rng.index(2);
            self.world.machines[yields].serve(false, now);
            self.world.dispute();
            return;
        }
        let old = usize::from(self.world.machines[1].serving);
        self.world.machines[old].serve(false, now);
        self.world.machines[1 - old].serve(true, now);
        self.world.dispute();
    }

    fn crash(&mut self) -> Result<(), Breach> {
        let dead = self.rng.index(2);
        self.world.crash(dead)
    }
}

fn with_state(known: &Flow, state: u8) -> Flow {
    let Ids::Ports { source, .. } = known.key.original.ids else { return *known };
    Flow { reply: known.reply, ..flow(source, 0, state) }
}
