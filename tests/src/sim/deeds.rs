//! Faults carried out.

use super::fault::{Fault, Way, Weather};
use super::machine::{Daemon, Freeze, News, QUEUE};
use super::oracle::Rule;
use super::scenario::{Manners, link};
use super::story::What;
use super::world::Happening;
use super::world::World;
use carp_common::time::{Instant, Span};
use carp_user::proto::event::{Command, Event, HostId};
use carp_user::proto::node::Node;
use std::collections::VecDeque;

/// Name of the demotions that scripts put in place; healing lifts it.
pub const DEMOTION: &str = "simulator";

impl World {
    pub(super) fn inflict(&mut self, fault: Fault) {
        self.tell(What::Fault(fault.clone()));
        match fault {
            Fault::Start(node) => self.start(node),
            Fault::Pause(node, span) => {
                if self.machines[node].running().is_some() {
                    self.pause(node, span, VecDeque::new());
                }
            }
            Fault::Freeze { node, after, in_send, span } => {
                if self.machines[node].running().is_some() {
                    self.machines[node].freeze = Some(Freeze { after, in_send, span });
                }
            }
            Fault::Crash { node, ring } => self.crash(node, ring),
            Fault::PowerOff(node) => {
                self.crash(node, false);
                self.machines[node].powered = false;
                self.machines[node].kernel.forget();
            }
            Fault::Stop(node) => self.notify(node, News::Stop),
            Fault::Port { node, segment, up, refuses } => self.port(node, segment, up, refuses),
            Fault::SendErrors(node, permille) => self.machines[node].send_errors = permille,
            Fault::Reflect(node, permille) => self.machines[node].reflect = permille,
            Fault::Weather(way, weather) => *self.weather(way) = weather,
            Fault::Command(node, command) => self.notify(node, News::Command(command)),
            Fault::Forge { node, host, farewell, unicast } => self.forge(node, host, farewell, unicast),
            Fault::Replay { segment, back } => self.replay(segment, back),
            Fault::Reload(node, generation) => self.notify(node, News::Reload(generation)),
            Fault::Heal => self.heal(),
        }
    }

    /// A fresh daemon, unless there is one. Like the real one it first learns of its links.
    fn start(&mut self, node: usize) {
        let local = self.local(node);
        let seed = self.rng.draw();
        let mut setup =
            self.scenario.setup((node, self.machines[node].generation), seed, self.machines[node].life + 1);
        for (slot, host) in setup.hosts.iter_mut().enumerate() {
            let window = self.machines[node].limited(slot);
            let until = Instant::from_nanos(window.serve_until);
            host.resume_until = window.is_leased(local).then_some(until);
        }
        let resumes = setup.hosts.iter().any(|host| host.resume_until.is_some());
        let machine = &mut self.machines[node];
        if machine.node().is_some() {
            return;
        }
        machine.powered = true;
        machine.life += 1;
        machine.deadline = None;
        machine.daemon = Daemon::Running(Box::new(Node::new(setup, local)));
        for segment in 0..self.scenario.segments {
            let state = self.scenario.link_state(node, segment, self.machines[node].ports[segment].up);
            self.feed(node, Event::Link { link: link(segment), state });
        }
        if resumes && self.beats_again(node) {
            self.lose_pulse(node);
        } else {
            self.begin_to_beat(node);
        }
        self.drain(node);
    }

    fn crash(&mut self, node: usize, ring: bool) {
        self.skip_beats(node);
        let machine = &mut self.machines[node];
        machine.kill();
        if !ring {
            machine.kernel.queue.clear();
        }
        debug_assert!(machine.kernel.queue.len() <= QUEUE, "the queue is bounded");
        self.oracle.reborn(node);
        self.check_leases(node);
    }

    /// Rule 2, once more at the moment of death: what is open now ends with the lease.
    fn check_leases(&mut self, node: usize) {
        let local = self.local(node);
        for (host, window) in self.machines[node].kernel.windows.iter().enumerate() {
            let end = local + self.scenario.machines[node].paces[host].lease();
            if window.is_leased(local) && window.serve_until > end.nanos() {
                let text = format!("n{node} died and would serve host {host} longer than a lease");
                self.oracle.fail(self.now, Rule::LongLease, text);
            }
        }
    }

    fn port(&mut self, node: usize, segment: usize, up: bool, refuses: bool) {
        let port = &mut self.machines[node].ports[segment];
        if port.up == up {
            return;
        }
        port.up = up;
        port.refuses = refuses;
        let state = self.scenario.link_state(node, segment, up);
        let late = match self.manners {
            Manners::Exact => Span::ZERO,
            Manners::Prompt | Manners::Sloppy => self.rng.span(Span::micros(100), Span::millis(5)),
        };
        self.news_after(node, late, News::Link(link(segment), state));
    }

    /// News reach the kernel's queue in the order in which they are made, so the delay is the same
    /// for all that are under way: an older one is never overtaken.
    pub(super) fn news_after(&mut self, node: usize, late: Span, news: News) {
        let at = (self.now + late).max(self.machines[node].news_at);
        self.machines[node].news_at = at;
        self.plan(at, Happening::News { node, news });
    }

    /// All faults end, everybody is up and runs.
    fn heal(&mut self) {
        if self.manners == Manners::Sloppy {
            self.manners = Manners::Prompt;
        }
        self.weather.fill(Weather::default());
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.send_errors = 0;
            machine.reflect = 0;
            machine.freeze = None;
            for segment in 0..self.scenario.segments {
                self.port(node, segment, true, false);
            }
            self.resume(node);
            self.start(node);
            let lift = Command::Undemote { name: DEMOTION.into() };
            self.notify(node, News::Command(lift));
            let hosts = (0..).map(HostId).take(self.scenario.hosts.len()).collect();
            self.notify(node, News::Command(Command::Reclaim { hosts }));
        }
        self.expect_peace();
    }
}

impl Way {
    /// Both directions between two machines on a segment.
    pub const fn between(segment: usize, one: usize, other: usize) -> [Self; 2] {
        let way = Self { segment, from: one, to: other };
        [way, way.back()]
    }
}
