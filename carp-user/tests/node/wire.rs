//! A few nodes on one link, with a virtual clock and no faults: frames arrive after 100 µs.

use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::Window;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{
    Action, Event, Flavour, Former, HostId, HostSetup, LinkState, News, Question, Role, Setup, Transition,
    Warning,
};
use carp_user::proto::node::Node;
use carp_user::proto::status::HostStatus;
use std::net::IpAddr;

pub const LINK: IfIndex = IfIndex(7);
const LATENCY: Span = Span::micros(100);

/// The segment, its nodes, and what has happened on it.
pub struct Wire {
    pub now: Instant,
    pub nodes: Vec<Station>,
    /// Every frame sent: when, by whom.
    pub frames: Vec<(Instant, usize, Vec<u8>)>,
    flying: Vec<(Instant, usize, Vec<u8>)>,
}

/// A node and its surroundings.
pub struct Station {
    pub node: Node,
    pub window: Window,
    pub warnings: Vec<Warning>,
    pub news: Vec<News>,
    pub changes: Vec<Transition>,
    /// What its gate was asked.
    pub questions: Vec<Question>,
    /// Who was heard, or not any more.
    pub peers: Vec<(String, bool)>,
    pub sends_fail: bool,
    state: LinkState,
    alive: bool,
}

/// A virtual host 1 with one IPv4 VIP, and an IPv6 one if asked for.
pub fn setup(skew: u8, v6: bool) -> HostSetup {
    let mut vips: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap()];
    if v6 {
        vips.push("fd00::1".parse().unwrap());
    }
    HostSetup {
        interface: "lan0".to_owned(),
        link: LINK,
        group: None,
        vhid: Vhid::new(1).unwrap(),
        vips,
        pace: Pace { base: 1, skew },
        preempt: true,
        gate: None,
        preempt_delay: Span::ZERO,
        flavour: Flavour::Freebsd,
        mode: Mode::Carp,
        key: Key::from_password(b"secret").unwrap(),
        next_key: None,
        digest: Variant::Freebsd,
        accept: vec![Variant::Freebsd, Variant::OpenbsdNov6ll],
        tos: 0xe0,
        answer_ping: false,
        former: Former::default(),
        resume_until: None,
    }
}

impl Wire {
    /// Nodes 10.0.0.2, .3, … with these virtual hosts; their links are up.
    pub fn new(setups: Vec<HostSetup>) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut wire = Self { now, nodes: Vec::new(), frames: Vec::new(), flying: Vec::new() };
        for (index, host) in (2..).zip(setups) {
            wire.nodes.push(Station {
                node: Node::new(Setup { hosts: vec![host], seed: u64::from(index), epoch: 0 }, now),
                window: Window::CLOSED,
                warnings: Vec::new(),
                news: Vec::new(),
                changes: Vec::new(),
                questions: Vec::new(),
                peers: Vec::new(),
                sends_fail: false,
                state: LinkState {
                    up: true,
                    mac: Mac([2, 0, 0, 0, 0, index]),
                    source_v4: Some([10, 0, 0, index].into()),
                    source_v6: Some(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(index))),
                    shielded: true,
                    router: true,
                },
                alive: true,
            });
        }
        for index in 0..wire.nodes.len() {
            wire.link(index, true);
        }
        wire
    }

    /// Lets time pass, node by node and frame by frame.
    pub fn run(&mut self, span: Span) {
        let end = self.now + span;
        loop {
            let alive = self.nodes.iter().filter(|station| station.alive);
            let deadline = alive.filter_map(|station| station.node.deadline()).min();
            let arrival = self.flying.iter().map(|(at, ..)| *at).min();
            let Some(next) = deadline.into_iter().chain(arrival).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let (due, flying) =
                std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now);
            self.flying = flying;
            for (_, from, bytes) in due {
                for index in (0..self.nodes.len()).filter(|index| *index != from) {
                    self.hear(index, &bytes);
                }
            }
            for index in 0..self.nodes.len() {
                self.tell(index, Event::Tick);
            }
        }
        self.now = end;
    }

    /// A frame arrives at one node.
    pub fn hear(&mut self, index: usize, frame: &[u8]) {
        let at = self.now;
        self.tell(index, Event::Frame { link: LINK, at, frame });
    }

    /// The link of one node goes up or down.
    pub fn link(&mut self, index: usize, up: bool) -> Vec<Action> {
        self.nodes[index].state.up = up;
        let state = self.nodes[index].state;
        self.tell(index, Event::Link { link: LINK, state })
    }

    /// The daemon is gone, its window is not.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
    }

    /// A daemon that was stopped goes on; what was sent meanwhile it has not heard.
    pub fn wake(&mut self, index: usize) {
        self.nodes[index].alive = true;
    }

    /// Another daemon in its place, which is to be told of its link.
    pub fn restart(&mut self, index: usize, node: Node) {
        self.nodes[index].node = node;
        self.nodes[index].alive = true;
    }

    /// Tells one node, and does what it says.
    pub fn tell(&mut self, index: usize, event: Event<'_>) -> Vec<Action> {
        if !self.nodes[index].alive {
            return Vec::new();
        }
        let now = self.now;
        let mut actions = self.nodes[index].node.handle(event, now);
        let mut done = 0;
        while done < actions.len() {
            let action = actions[done].clone();
            done += 1;
            let station = &mut self.nodes[index];
            match action {
                Action::Window { host: HOST, window } => station.window = window,
                Action::Window { .. } => {}
                Action::Advertise { host, errand, frame, .. } => {
                    let ok = !station.sends_fail;
                    let outcome = Event::Sent { host, errand, at: now, ok };
                    actions.extend(station.node.handle(outcome, now));
                    if ok {
                        self.fly(index, frame.bytes());
                    }
                }
                Action::Send { frame, .. } | Action::Announce { frame, .. } => self.fly(index, frame.bytes()),
                Action::Warn { warning, .. } => station.warnings.push(warning),
                Action::Tell { news, .. } => station.news.push(news),
                Action::Changed(change) => station.changes.push(change),
                Action::Ask(question) => station.questions.push(question),
                Action::Peer { address, heard, .. } => station.peers.push((address.to_string(), heard)),
                Action::Serving { .. }
                | Action::Watch { .. }
                | Action::Challenge { .. }
                | Action::Demoted(_) => {}
            }
        }
        actions
    }

    /// The only virtual host of a node.
    pub fn host(&self, index: usize) -> HostStatus {
        self.nodes[index].node.status(self.now).hosts.remove(0)
    }

    pub fn role(&self, index: usize) -> Role {
        self.host(index).role
    }

    pub fn serves(&self, index: usize) -> bool {
        self.nodes[index].window.is_leased(self.now)
    }

    pub fn refused(&self, index: usize, name: &str) -> u64 {
        let counts = self.host(index).refused;
        counts.into_iter().find_map(|(known, count)| (known == name).then_some(count)).unwrap()
    }

    /// The adverts among these actions that are sent without a report: farewells and greetings.
    pub fn farewells(actions: &[Action]) -> Vec<Heard> {
        let heard = |action: &Action| {
            if let Action::Send { frame, .. } = action { Heard::parse(frame.bytes())?.ok() } else { None }
        };
        actions.iter().filter_map(heard).collect()
    }

    /// The last advert that a node sent to the group.
    pub fn last_advert(&self, from: usize) -> Vec<u8> {
        let advert =
            |bytes: &[u8]| bytes.get(23) == Some(&112) && bytes.get(30..34) == Some(&[224, 0, 0, 18]);
        let mut sent = self.frames.iter().rev();
        sent.find_map(|(_, by, bytes)| (*by == from && advert(bytes)).then(|| bytes.clone())).unwrap()
    }

    fn fly(&mut self, from: usize, bytes: &[u8]) {
        self.frames.push((self.now, from, bytes.to_vec()));
        self.flying.push((self.now + LATENCY, from, bytes.to_vec()));
    }
}

/// The first virtual host.
pub const HOST: HostId = HostId(0);
