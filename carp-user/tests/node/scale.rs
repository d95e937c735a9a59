//! Many virtual hosts in one node.

use super::wire::setup;
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::time::{Instant, Span};
use carp_common::wire::Heard;
use carp_user::proto::event::{Action, Event, LinkState, Setup};
use carp_user::proto::node::Node;
use std::collections::BTreeMap;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// Tells the node, answers for the sender of adverts, and notes when each virtual host advertised.
fn tell(node: &mut Node, event: Event<'_>, now: Instant, sent: &mut BTreeMap<u32, Vec<Instant>>) {
    let mut actions = node.handle(event, now);
    while let Some(action) = actions.pop() {
        if let Action::Advertise { host, family, frame, .. } = action {
            if !Heard::parse(frame.bytes()).unwrap().unwrap().is_announcement() {
                sent.entry(host.0).or_default().push(now);
            }
            actions.extend(node.handle(Event::Sent { host, family, at: now, ok: true }, now));
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
    let mut node = Node::new(Setup { hosts: hosts.collect(), seed: 1 }, START);
    let mut sent = BTreeMap::new();
    for link in 1..=4 {
        let state = LinkState {
            up: true,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            source_v4: Some([10, 0, 0, 2].into()),
            source_v6: None,
            shielded: true,
            router: true,
        };
        tell(&mut node, Event::Link { link: IfIndex(link), state }, START, &mut sent);
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
