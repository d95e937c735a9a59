//! Frames that nobody authenticated, at any time, at a whole node in whichever mode: they change nothing but
//! counters (item 53, and the oracle's "unauthenticated adverts change nothing").
#![no_main]

use arbitrary::Arbitrary;
use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_common::wire::Envelope;
use carp_common::wire::annex::Annex;
use carp_common::wire::carp::{AUTH_LEN, Carp, STRICT_AUTH_LEN, VERSION_TYPE};
use carp_user::proto::event::{Action, Event, Flavour, HostSetup, LinkState, Role, Setup, Former};
use carp_user::proto::node::Node;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

const LINK: IfIndex = IfIndex(3);

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// Nothing for so many milliseconds.
    Wait(u16),
    /// Any bytes.
    Bytes(&'a [u8]),
    /// A well-formed advert whose digest and MAC are guesses.
    Forged(Forged),
}

#[derive(Debug, Arbitrary)]
struct Forged {
    source: IpAddr,
    to: Option<IpAddr>,
    vhid: bool,
    rank: (u8, u8, u8),
    counter: u64,
    digest: [u8; 20],
    /// The MAC, which stands in place of the digest or behind it.
    mac: Option<([u8; 20], bool)>,
    echo: u64,
}

fuzz_target!(|input: (u8, Vec<Step>)| {
    let (mode, steps) = input;
    let mode = Mode::ALL[usize::from(mode) % Mode::ALL.len()];
    let mut now = Instant::ZERO + Span::secs(1);
    let mut node = Node::new(setup(mode), now);
    let mut todo = node.handle(Event::Link { link: LINK, state: link() }, now);
    for step in steps {
        let frame = match step {
            Step::Wait(millis) => {
                now = now + Span::millis(millis.into());
                None
            }
            Step::Bytes(bytes) => Some(bytes.to_vec()),
            Step::Forged(forged) => Some(forged.frame()),
        };
        settle(&mut node, std::mem::take(&mut todo), now);
        let due = node.handle(Event::Tick, now);
        settle(&mut node, due, now);
        let Some(frame) = frame else { continue };
        let before = roles(&node, now);
        let actions = node.handle(Event::Frame { link: LINK, at: now, frame: &frame }, now);
        assert!(actions.iter().all(|action| matches!(action, Action::Warn { .. })), "{actions:?}");
        assert_eq!(roles(&node, now), before);
    }
});

/// Reports every advert as sent.
fn settle(node: &mut Node, mut todo: Vec<Action>, now: Instant) {
    while let Some(action) = todo.pop() {
        if let Action::Advertise { host, errand, .. } = action {
            todo.extend(node.handle(Event::Sent { host, errand, at: now, ok: true }, now));
        }
    }
}

fn roles(node: &Node, now: Instant) -> Vec<Role> {
    node.status(now).hosts.iter().map(|host| host.role).collect()
}

impl Forged {
    fn frame(&self) -> Vec<u8> {
        let (base, skew, demote) = self.rank;
        let mut header = Carp {
            version_type: VERSION_TYPE,
            vhid: if self.vhid { 1 } else { 2 },
            skew,
            auth_len: AUTH_LEN,
            demote,
            base,
            checksum: 0.into(),
            counter: self.counter.into(),
            digest: self.digest,
        };
        let mut behind = Vec::new();
        match self.mac {
            None => {}
            Some((mac, false)) => behind.extend(Annex::new(self.echo, mac).as_bytes()),
            Some((mac, true)) => {
                (header.auth_len, header.digest) = (STRICT_AUTH_LEN, mac);
                behind.extend(self.echo.to_be_bytes());
            }
        }
        header.sum_up();
        let to_group = Envelope::to_group(self.source, 0);
        let envelope = self.to.and_then(|to| Envelope::to_node(self.source, to, 0)).unwrap_or(to_group);
        envelope.wrap(&[header.as_bytes(), &behind], Mac([2, 0, 0, 0, 0, 3])).bytes().to_vec()
    }
}

fn setup(mode: Mode) -> Setup {
    let host = |vhid: u8, vips: Vec<IpAddr>| HostSetup {
        interface: "eth0".into(),
        link: LINK,
        vhid: Vhid::new(vhid).expect("not zero"),
        vips,
        pace: Pace { base: 1, skew: 100 },
        preempt: true,
        gate: None,
        preempt_delay: Span::ZERO,
        flavour: Flavour::Freebsd,
        mode,
        key: Key(*b"a secret of 20 bytes"),
        next_key: None,
        digest: Variant::Freebsd,
        accept: vec![Variant::Freebsd, Variant::OpenbsdNov6ll],
        tos: 0xe0,
        answer_ping: false,
        former: Former::default(),
        resume_until: None,
    };
    let (v4, v6) = (Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    Setup { hosts: vec![host(1, vec![v4.into(), v6.into()]), host(2, vec![v6.into()])], seed: 1, epoch: 1 }
}

fn link() -> LinkState {
    LinkState {
        up: true,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        source_v4: Some(Ipv4Addr::new(10, 0, 0, 2)),
        source_v6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)),
        shielded: true,
        router: true,
    }
}
