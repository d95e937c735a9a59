//! Many virtual hosts in one node.

use super::wire::setup;
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Event, LinkState, Setup};
use carp_user::proto::node::Node;
use std::collections::BTreeMap;
use std::collections::VecDeque;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn up() -> LinkState {
    LinkState {
        up: true,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        source_v4: Some([10, 0, 0, 2].into()),
        source_v6: None,
        shielded: true,
        router: true,
    }
}

/// Tells the node, answers for the sender of adverts, and notes when each virtual host advertised.
fn tell(node: &mut Node, event: Event<'_>, now: Instant, sent: &mut BTreeMap<u32, Vec<Instant>>) {
    let mut actions = node.handle(event, now);
    while let Some(action) = actions.pop() {
        if let Action::Advertise { host, errand, frame, .. } = action {
            if !Heard::parse(frame.bytes()).unwrap().unwrap().is_announcement() {
                sent.entry(host.0).or_default().push(now);
            }
            actions.extend(node.handle(Event::Sent { host, errand, at: now, ok: true }, now));
        }
    }
}

#[test]
fn item_66_a_thousand_virtual_hosts_each_advertise_at_their_interval() {
    let hosts = (0..1000_u32).map(|index| {
        let mut host = setup(0, false);
        host.link = IfIndex(1 + index / 250);
        host.vhid = Vhid::new(u8::try_from(1 + index % 250).unwrap()).unwrap();
        host
    });
    let mut node = Node::new(Setup { hosts: hosts.collect(), seed: 1, epoch: 0 }, START);
    let mut sent = BTreeMap::new();
    for link in 1..=4 {
        tell(&mut node, Event::Link { link: IfIndex(link), state: up() }, START, &mut sent);
    }
    while let Some(now) = node.deadline().filter(|deadline| *deadline < START + Span::millis(10_500)) {
        tell(&mut node, Event::Tick, now, &mut sent);
    }
    assert_eq!(sent.len(), 1000);
    for times in sent.values() {
        assert_eq!(times.len(), 8, "from the third second to the tenth");
        assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) == Span::secs(1)));
    }
}

/// A daemon that takes its time for each frame.
struct Slow {
    node: Node,
    now: Instant,
    serving: usize,
    /// Events that had virtual hosts serve.
    moves: usize,
}

impl Slow {
    fn tell(&mut self, event: Event<'_>) {
        let actions = self.node.handle(event, self.now);
        self.perform(actions.into());
    }

    fn perform(&mut self, mut todo: VecDeque<Action>) {
        self.moves += usize::from(todo.iter().any(|action| matches!(action, Action::Serving { .. })));
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Advertise { host, errand, .. } => {
                    let at = self.now;
                    self.now = self.now + Span::micros(40);
                    todo.extend(self.node.handle(Event::Sent { host, errand, at, ok: true }, self.now));
                }
                Action::Send { .. } | Action::Announce { .. } => self.now = self.now + Span::micros(25),
                Action::Window { .. } => self.now = self.now + Span::micros(3),
                Action::Serving { serving, .. } => self.serving += usize::from(serving),
                Action::Challenge { .. }
                | Action::Watch { .. }
                | Action::Changed(_)
                | Action::Tell { .. }
                | Action::Ask(_)
                | Action::Demoted(_)
                | Action::Peer { .. }
                | Action::Warn { .. } => {}
            }
        }
    }
}

#[test]
fn four_thousand_virtual_hosts_serve_in_time_and_all_at_once_though_each_frame_takes_a_while() {
    const LINKS: u32 = 16;
    let hosts = (0..LINKS * 255).map(|index| {
        let mut host = setup(0, false);
        host.link = IfIndex(1 + index / 255);
        host.vhid = Vhid::new(u8::try_from(1 + index % 255).unwrap()).unwrap();
        host
    });
    let node = Node::new(Setup { hosts: hosts.collect(), seed: 1, epoch: 0 }, START);
    let mut slow = Slow { node, now: START, serving: 0, moves: 0 };
    let links = (1..=LINKS).map(|link| Event::Link { link: IfIndex(link), state: up() });
    let begun = links.flat_map(|event| slow.node.handle(event, START)).collect();
    slow.perform(begun);
    while slow.serving < 4080 {
        slow.now = slow.now.max(slow.node.deadline().unwrap());
        slow.tell(Event::Tick);
        assert!(slow.now < START + Span::secs(8), "{} of 4080 after {}", slow.serving, slow.now.since(START));
    }
    assert_eq!(slow.moves, 1, "as one change");
}
