//! On the way to strict authentication: what is told of the peers, and what is accepted meanwhile.

use super::wire::{Wire, setup};
use carp_common::admission::Mode;
use carp_common::time::Span;
use carp_common::wire::sum;
use carp_user::proto::event::{Event, HostSetup, News, Setup, Warning};
use carp_user::proto::node::Node;
use std::net::IpAddr;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn with(mode: Mode, skew: u8) -> HostSetup {
    HostSetup { mode, ..setup(skew, false) }
}

/// An advert without what stands behind its header.
fn cut(frame: &[u8]) -> Vec<u8> {
    const IP: usize = 14;
    const END: usize = IP + 20 + 36;
    let mut cut = frame[..END].to_vec();
    cut[IP + 2..IP + 4].copy_from_slice(&56_u16.to_be_bytes());
    cut[IP + 10..IP + 12].fill(0);
    let sum = sum::checksum(&cut[IP..IP + 20]);
    cut[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    cut
}

#[test]
fn whoever_cuts_the_strict_mac_off_some_adverts_fills_no_log_and_the_status_is_exact() {
    let mut wire = Wire::new(vec![with(Mode::Migrate, 0), with(Mode::Migrate, 100)]);
    wire.run(Span::millis(3500));
    assert_eq!(wire.nodes[1].news, [News::AllStrict(1)]);
    let others = |wire: &Wire| wire.host(1).auth.other_peers;
    for _ in 0..590 {
        wire.run(Span::millis(100));
        let whole = wire.last_advert(0);
        wire.hear(1, &cut(&whole));
        assert_eq!(others(&wire), [PEER]);
        wire.hear(1, &whole);
        assert!(others(&wire).is_empty());
    }
    assert_eq!(wire.nodes[1].news.len(), 1);
    wire.run(Span::secs(2));
    let stripped = cut(&wire.last_advert(0));
    wire.hear(1, &stripped);
    assert_eq!(wire.nodes[1].news, [News::AllStrict(1), News::NotStrict(PEER)]);
    wire.run(Span::secs(58));
    assert_eq!((wire.nodes[1].news.len(), others(&wire).len()), (2, 0));
    wire.run(Span::secs(4));
    assert_eq!(wire.nodes[1].news[2..], [News::AllStrict(1)], "what is so in the end is told");
}

#[test]
fn each_mode_accepts_what_the_documentation_says() {
    let advert_of = |mode| {
        let mut wire = Wire::new(vec![with(mode, 0)]);
        wire.run(Span::millis(3500));
        wire.last_advert(0)
    };
    let adverts = Mode::ALL.map(advert_of);
    let accepted = |mode| {
        adverts.each_ref().map(|advert| {
            let mut wire = Wire::new(vec![with(Mode::Carp, 0), with(mode, 100)]);
            wire.kill(0);
            wire.hear(1, advert);
            // In strict mode the first one has to be proved, which it can only be asked for if it is authentic.
            let is_authentic = wire.host(1).accepted + wire.refused(1, "unproven") == 1;
            assert!(is_authentic != (wire.refused(1, "badmode") == 1));
            is_authentic
        })
    };
    assert_eq!(accepted(Mode::Carp), [true, true, false]);
    assert_eq!(accepted(Mode::Migrate), [true, true, true]);
    assert_eq!(accepted(Mode::Strict), [false, true, true]);
}

#[test]
fn a_node_that_comes_back_signing_strictly_with_counters_that_it_had_taken_over_is_no_forger() {
    let node =
        |mode, skew, seed, now| Node::new(Setup { hosts: vec![with(mode, skew)], seed, epoch: 1 }, now);
    // Half of all random counters are such that a strict one is ahead of them and is taken over.
    for seed in 0..8 {
        let mut wire = Wire::new(vec![with(Mode::Carp, 0), with(Mode::Migrate, 100)]);
        let [carp, migrate] = [(Mode::Carp, 0, seed), (Mode::Migrate, 100, 9)];
        for (index, (mode, skew, seed)) in [carp, migrate].into_iter().enumerate() {
            let node = node(mode, skew, seed, wire.now);
            wire.restart(index, node);
            wire.link(index, true);
        }
        wire.run(Span::secs(8));
        wire.tell(0, Event::Stop);
        wire.run(Span::secs(2));
        assert!(wire.serves(1));
        let back = node(Mode::Migrate, 0, seed, wire.now);
        wire.restart(0, back);
        wire.link(0, true);
        wire.run(Span::secs(20));
        assert!(wire.serves(0));
        let is_alarm = |warning: &Warning| matches!(warning, Warning::Repeated(_) | Warning::Rewritten(_));
        assert!(!wire.nodes[1].warnings.iter().any(is_alarm), "{seed}: {:?}", wire.nodes[1].warnings);
        let again = wire.last_advert(0);
        wire.hear(1, &again);
        assert!(wire.nodes[1].warnings.iter().any(is_alarm), "a forger would be");
    }
}
