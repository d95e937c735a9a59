//! A script from a seed: a group of machines, and half a minute or more of trouble.

use super::clock::Clock;
use super::deeds::DEMOTION;
use super::fault::{Fault, Way, Weather};
use super::rng::Rng;
use super::scenario::{Families, HostSpec, MachineSpec, Manners, Promise, Scenario, vhid};
use carp_common::admission::Mode;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_user::proto::detect::Detect;
use carp_user::proto::event::{Command, HostId};
use core::num::NonZeroU64;

/// Keeps the script's chance apart from the world's.
const SALT: u64 = 0x5ca1_ab1e;

/// Likewise the way of authentication.
const AUTH_SALT: u64 = 0x0a07_4e57;

/// What kind of trouble a run has. Most have none on the network: then the oracle accepts no excuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Climate {
    Quiet,
    Processes,
    Network,
    Storm,
    /// A storm with an attacker who replays; see [`Promise::Recovery`]. Strict authentication promises
    /// everything all the same.
    Replays,
}

/// The scenario of this seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed ^ SALT);
    play(seed, rng.below(100), group(&mut rng), rng)
}

/// Keeps the chance of detection apart.
const DETECT_SALT: u64 = 0xde7e_c7ed;

/// Keeps the chance of a link beside apart.
const ASIDE_SALT: u64 = 0xa51d_e000;

/// Keeps the chance of gateways apart.
const GATEWAY_SALT: u64 = 0x6a7e_3a91;

/// The same for machines whose two virtual hosts, each on a segment of its own, move as one.
pub fn gateways(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed ^ GATEWAY_SALT);
    let climate = rng.below(100);
    loop {
        let scenario = group(&mut rng);
        let is_one = |machine: &MachineSpec| machine.paces.iter().all(|pace| *pace == machine.paces[0]);
        if scenario.segments == 2 && scenario.machines.iter().all(is_one) {
            let asks = Rng::new(seed ^ DETECT_SALT).chance(500);
            let detect = Detect { interval: Span::millis(10), lease: Span::millis(100), aside: None };
            let detect = asks.then_some(detect);
            let aside = scenario.machines.len() == 2 && Rng::new(seed ^ ASIDE_SALT).chance(500);
            return play(seed, climate, Scenario { grouped: true, detect, aside, ..scenario }, rng);
        }
    }
}

fn play(seed: u64, climate: u64, mut scenario: Scenario, mut rng: Rng) -> Scenario {
    let climate = match climate {
        0..5 => Climate::Quiet,
        5..50 => Climate::Processes,
        50..65 => Climate::Network,
        65..90 => Climate::Storm,
        _ => Climate::Replays,
    };
    let modes = match climate {
        Climate::Replays => [Mode::Carp, Mode::Strict, Mode::Strict, Mode::Strict],
        Climate::Quiet | Climate::Processes | Climate::Network | Climate::Storm => {
            [Mode::Carp, Mode::Carp, Mode::Migrate, Mode::Strict]
        }
    };
    scenario.auth = Rng::new(seed ^ AUTH_SALT).pick(&modes);
    if climate == Climate::Replays && scenario.auth != Mode::Strict {
        scenario.promise = Promise::Recovery;
    }
    let heal = rng.span(Span::secs(20), Span::secs(60));
    let mut script = Script { rng, scenario, heal };
    script.starts();
    if climate != Climate::Quiet {
        script.trouble(climate);
    }
    script.scenario.at(heal, Fault::Heal)
}

/// Keeps the chance of reloads apart.
const RELOAD_SALT: u64 = 0x4e10_ad5e;

/// A group whose list of addresses changes three times, on each machine at another moment, while daemons are starved and
/// demoted and told what to be. Nobody is killed meanwhile: who starts with a list that no other node has been told of is
/// understood by none.
pub fn reloads(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed ^ RELOAD_SALT);
    let mut scenario = group(&mut rng);
    scenario.auth = rng.pick(&[Mode::Carp, Mode::Carp, Mode::Migrate, Mode::Strict]);
    let heal = Span::secs(90);
    let mut script = Script { rng, scenario, heal };
    script.starts();
    let mut at = Span::secs(5);
    while at < heal {
        let (node, span) = (script.node(), script.duration());
        match script.rng.below(4) {
            0 => script.add(at, Fault::Pause(node, span)),
            1 => script.demotion(at, node, span),
            2 => {
                let (after, in_send) = (script.rng.pick(&[0, 1, 2, 3]), script.rng.chance(500));
                script.add(at, Fault::Freeze { node, after, in_send, span });
            }
            _ => {}
        }
        at = at + script.rng.span(Span::millis(100), Span::secs(6));
    }
    for generation in 1..=3_u8 {
        for node in 0..script.scenario.machines.len() {
            let apart = script.rng.span(Span::ZERO, Span::secs(15));
            script.add(Span::secs(20).times(generation.into()) + apart, Fault::Reload(node, generation));
        }
    }
    script.scenario.script.sort_by_key(|(at, _)| *at);
    script.scenario.at(heal, Fault::Heal)
}

fn group(rng: &mut Rng) -> Scenario {
    let machines = rng.pick(&[2_u8, 2, 2, 3, 3, 4]);
    let segments = rng.pick(&[1_u8, 1, 2]);
    let base = rng.pick(&[1_u8, 1, 1, 1, 1, 2]);
    let step = if rng.chance(50) { 0 } else { rng.pick(&[1_u8, 10, 50, 80]) };
    let is_crossed = rng.chance(250);
    let mut addresses: Vec<u8> = (1..=machines).collect();
    let preempt = rng.pick(&[Some(true), Some(true), Some(true), Some(false), None]);
    let host = |segment: u8, rng: &mut Rng| HostSpec {
        segment: usize::from(segment),
        vhid: vhid(rng.pick(&[1, 7, 42, 255])),
        families: rng.pick(&[Families::V4, Families::V4, Families::V6, Families::Both]),
    };
    let machine = |index: u8, rng: &mut Rng| {
        let pace = |segment: u8| {
            let place = if is_crossed && segment == 1 { machines - 1 - index } else { index };
            Pace { base, skew: place * step }
        };
        let drift = 999_800 + rng.below(401);
        MachineSpec {
            clock: Clock {
                offset: rng.below(1 << 50),
                pace: NonZeroU64::new(drift).unwrap_or(NonZeroU64::MIN),
            },
            paces: (0..segments).map(pace).collect(),
            preempt: preempt.unwrap_or_else(|| rng.chance(500)),
            address: addresses.swap_remove(rng.index(addresses.len())),
        }
    };
    let hosts = (0..segments).map(|segment| host(segment, rng)).collect();
    let mut machine = machine;
    Scenario {
        hosts,
        grouped: false,
        detect: None,
        aside: false,
        machines: (0..machines).map(|index| machine(index, rng)).collect(),
        auth: Mode::Carp,
        segments: usize::from(segments),
        manners: Manners::Sloppy,
        promise: Promise::All,
        script: Vec::new(),
    }
}

struct Script {
    rng: Rng,
    scenario: Scenario,
    heal: Span,
}

impl Script {
    /// Everybody at once, or each when it likes.
    fn starts(&mut self) {
        let together = self.rng.chance(200);
        for node in 0..self.scenario.machines.len() {
            let at = if together { Span::ZERO } else { self.rng.span(Span::ZERO, Span::secs(3)) };
            self.add(at, Fault::Start(node));
        }
    }

    fn trouble(&mut self, climate: Climate) {
        let has_forger = self.rng.chance(500);
        let mut at = self.rng.span(Span::ZERO, Span::secs(8));
        while at < self.heal {
            match climate {
                Climate::Quiet => {}
                Climate::Processes => self.process(at),
                Climate::Network => self.network(at),
                // With no trouble on the network the oracle accepts no excuse.
                Climate::Replays if self.scenario.auth == Mode::Strict => self.process(at),
                Climate::Storm | Climate::Replays if self.rng.chance(500) => self.process(at),
                Climate::Storm | Climate::Replays => self.network(at),
            }
            if has_forger && self.rng.chance(300) {
                self.forgery(at);
            }
            if climate == Climate::Replays && self.rng.chance(500) {
                self.replays(at);
            }
            at = at + self.rng.span(Span::millis(20), Span::secs(3));
        }
    }

    /// Nothing but healing happens once healing has begun.
    fn add(&mut self, at: Span, fault: Fault) {
        if at < self.heal {
            self.scenario.script.push((Instant::ZERO + at, fault));
        }
    }

    /// Something happens to a machine or its daemon.
    fn process(&mut self, at: Span) {
        let node = self.node();
        let span = self.duration();
        let soon = at + self.rng.span(Span::ZERO, Span::millis(5));
        match self.rng.below(100) {
            0..30 => self.add(at, Fault::Pause(node, span)),
            30..45 => {
                let after = self.rng.pick(&[0, 0, 1, 1, 2, 3, 4, 5]);
                let in_send = self.rng.chance(500);
                self.add(at, Fault::Freeze { node, after, in_send, span });
            }
            45..60 => {
                let ring = self.rng.chance(500);
                self.add(at, Fault::Crash { node, ring });
                self.add(at + span, Fault::Start(node));
            }
            60..66 => {
                self.add(at, Fault::PowerOff(node));
                self.add(at + span, Fault::Start(node));
            }
            66..76 => {
                self.add(at, Fault::Stop(node));
                // A stop and a start close together find each other's traces.
                self.add(soon + span, Fault::Start(node));
            }
            76..86 => self.demotion(at, node, span),
            86..93 => {
                let host = HostId(u32::from(self.rng.chance(500) && self.scenario.hosts.len() > 1));
                let master = self.rng.chance(500);
                // Not by another draw, so that what a seed does beside this stays as it is.
                if span.as_micros().is_multiple_of(2) {
                    self.add(at, Fault::Command(node, Command::Force { host, master }));
                } else {
                    self.planned_move(at, node, (host, master), span);
                }
            }
            _ => {
                let permille = self.rng.pick(&[200, 700, 1000]);
                self.add(at, Fault::SendErrors(node, permille));
                self.add(at + span, Fault::SendErrors(node, 0));
            }
        }
    }

    /// Somebody has the node hand over, and, if it is not to take the role back at once, take it back later.
    fn planned_move(&mut self, at: Span, node: usize, (host, spare): (HostId, bool), span: Span) {
        let hosts = vec![host];
        self.add(at, Fault::Command(node, Command::Cede { hosts: hosts.clone(), spare }));
        if spare {
            self.add(at + span, Fault::Command(node, Command::Reclaim { hosts }));
        }
    }

    fn demotion(&mut self, at: Span, node: usize, span: Span) {
        let name = DEMOTION.to_owned();
        let amount = self.rng.pick(&[1, 50, 240]);
        let demote = Command::Demote { name: name.clone(), amount, reason: "trouble".into(), until: None };
        self.add(at, Fault::Command(node, demote));
        self.add(at + span, Fault::Command(node, Command::Undemote { name }));
    }

    /// Something happens to a segment, and ends.
    fn network(&mut self, at: Span) {
        let way = self.way();
        let span = self.duration();
        match self.rng.below(100) {
            0..45 => {
                let weather = self.weather();
                self.spell(at, span, &[way], weather);
                if self.rng.chance(500) {
                    self.spell(at, span, &[way.back()], weather);
                }
            }
            45..70 => {
                let weather = Weather { blocked: true, ..Weather::default() };
                let ways = [way, way.back()];
                let count = 1 + self.rng.index(2);
                self.spell(at, span, &ways[..count], weather);
            }
            70..80 => self.isolation(at, span, way),
            80..95 => {
                let (node, segment, refuses) = (way.from, way.segment, self.rng.chance(500));
                self.add(at, Fault::Port { node, segment, up: false, refuses });
                self.add(at + span, Fault::Port { node, segment, up: true, refuses });
            }
            _ => {
                let permille = self.rng.pick(&[300, 1000]);
                self.add(at, Fault::Reflect(way.from, permille));
                self.add(at + span, Fault::Reflect(way.from, 0));
            }
        }
    }

    /// One machine hears nobody and is heard by nobody on a segment.
    fn isolation(&mut self, at: Span, span: Span, way: Way) {
        for other in (0..self.scenario.machines.len()).filter(|other| *other != way.from) {
            let weather = Weather { blocked: true, ..Weather::default() };
            self.spell(at, span, &Way::between(way.segment, way.from, other), weather);
        }
    }

    fn spell(&mut self, at: Span, span: Span, ways: &[Way], weather: Weather) {
        for way in ways {
            self.add(at, Fault::Weather(*way, weather));
            self.add(at + span, Fault::Weather(*way, Weather::default()));
        }
    }

    fn forgery(&mut self, at: Span) {
        let (node, host) = (self.node(), self.rng.index(self.scenario.hosts.len()));
        let (farewell, unicast) = (self.rng.chance(500), self.rng.chance(500));
        let at = at + self.rng.span(Span::ZERO, Span::secs(1));
        self.add(at, Fault::Forge { node, host, farewell, unicast });
    }

    fn replays(&mut self, at: Span) {
        let segment = self.rng.index(self.scenario.segments);
        let back = self.rng.index(64);
        let every = self.rng.span(Span::millis(50), Span::millis(1500));
        for time in 0..=self.rng.below(4) {
            self.add(at + every.times(time), Fault::Replay { segment, back });
        }
    }

    fn weather(&mut self) -> Weather {
        let delay = self.rng.pick(&[Span::ZERO, Span::millis(5), Span::millis(40), Span::millis(500)]);
        let loss = self.rng.pick(&[0, 100, 400, 900]);
        Weather { blocked: false, loss, duplicate: self.rng.pick(&[0, 0, 300]), delay }
    }

    /// From a blink to longer than any dead time; often near the dead time itself.
    fn duration(&mut self) -> Span {
        let ranges = [(1, 50), (50, 500), (500, 2500), (2500, 4000), (4000, 10_000)];
        let (from, to) = self.rng.pick(&ranges);
        self.rng.span(Span::millis(from), Span::millis(to))
    }

    fn node(&mut self) -> usize {
        self.rng.index(self.scenario.machines.len())
    }

    fn way(&mut self) -> Way {
        let machines = self.scenario.machines.len();
        let from = self.rng.index(machines);
        let to = (from + 1 + self.rng.index(machines - 1)) % machines;
        Way { segment: self.rng.index(self.scenario.segments), from, to }
    }
}
