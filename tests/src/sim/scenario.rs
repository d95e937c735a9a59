//! What a run consists of: the machines, the virtual hosts, and the script of what happens when.
//! A random run is nothing but a script drawn from a seed ([`super::chance`]).

use super::clock::{Clock, EXACT};
use super::fault::Fault;
use carp_common::admission::Mode;
use carp_common::auth::{Key, Variant};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::ProbeKeys;
use carp_common::pace::Pace;
use carp_common::time::{Instant, Span};
use carp_user::proto::detect::{Aside, Detect};
use carp_user::proto::event::{Flavour, Former, Group, HostSetup, LinkState, Setup};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The secret of every run; an attacker does not know it.
pub const KEY: Key = Key(*b"simulated secret\0\0\0\0");

/// Name of the group, where there is one.
pub const GROUP: &str = "gateway";

/// A whole run, but for its seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The machines; faults name them by index.
    pub machines: Vec<MachineSpec>,
    /// How all nodes sign their adverts.
    pub auth: Mode,
    /// The virtual hosts, the same on every machine.
    pub hosts: Vec<HostSpec>,
    /// All of them move as one.
    pub grouped: bool,
    /// How the group finds out that its master is gone, beside by its adverts.
    pub detect: Option<Detect>,
    /// Two machines ask each other over a link beside, too, that always works.
    pub aside: bool,
    /// How many segments there are; every machine has a port to each.
    pub segments: usize,
    /// How punctual timers and frames are.
    pub manners: Manners,
    /// What the oracle holds the nodes to while there are faults.
    pub promise: Promise,
    /// What happens when, in world time. Need not be sorted.
    pub script: Vec<(Instant, Fault)>,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Its clock.
    pub clock: Clock,
    /// Configured base and skew, per virtual host.
    pub paces: Vec<Pace>,
    /// Whether its daemon preempts.
    pub preempt: bool,
    /// Last byte of its addresses, which break ties.
    pub address: u8,
}

/// One virtual host.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Segment that it lives on.
    pub segment: usize,
    /// Its number.
    pub vhid: Vhid,
    /// What its VIPs are.
    pub families: Families,
}

/// Families of a virtual host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

/// How punctual everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Timers fire on the nanosecond, every frame takes 100 µs: for scripts.
    Exact,
    /// Timers come up to 2 ms late, frames take 50 µs to 1 ms.
    Prompt,
    /// As `Prompt`, and one timer in a hundred is up to 100 ms late.
    Sloppy,
}

/// What the oracle asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Everything.
    All,
    /// All but rule 1, one server at most. Recorded adverts of a live peer are sent again in such
    /// a run, and authentication is not strict. The compatible protocol has no defence: a receiver must accept any counter
    /// (`carp-protocol` section 2.5, consequence 2), so that an old farewell starts a take-over
    /// and an old advert keeps a dead master alive. It can promise that all is well once the
    /// attacker is gone, and that is checked.
    Recovery,
}

impl Scenario {
    /// So many machines on one segment with one IPv4 virtual host, skews 0, 100, 200, …,
    /// preempting, everything exact, and nothing happening yet.
    pub fn of(machines: u8) -> Self {
        let spec = |index: u8| MachineSpec {
            clock: Clock { offset: 1_000_000_000_000, pace: EXACT },
            paces: vec![Pace { base: 1, skew: index.saturating_mul(100) }],
            preempt: true,
            address: index + 1,
        };
        Self {
            machines: (0..machines).map(spec).collect(),
            auth: Mode::Carp,
            hosts: vec![HostSpec { segment: 0, vhid: vhid(1), families: Families::V4 }],
            grouped: false,
            detect: None,
            aside: false,
            segments: 1,
            manners: Manners::Exact,
            promise: Promise::All,
            script: Vec::new(),
        }
    }

    /// Two gateways: a LAN and a WAN side, on segments 0 and 1, that move as one; both start then.
    pub fn gateways(start: Span) -> Self {
        let mut scenario = Self::of(2);
        scenario.segments = 2;
        scenario.grouped = true;
        scenario.hosts.push(HostSpec { segment: 1, vhid: vhid(2), families: Families::V4 });
        scenario.machines.iter_mut().for_each(|machine| machine.paces.push(machine.paces[0]));
        scenario.at(start, Fault::Start(0)).at(start, Fault::Start(1))
    }

    /// With this happening then.
    #[must_use]
    pub fn at(mut self, after: Span, fault: Fault) -> Self {
        self.script.push((Instant::ZERO + after, fault));
        self
    }

    /// With adverts signed in this way.
    #[must_use]
    pub const fn auth(mut self, auth: Mode) -> Self {
        self.auth = auth;
        self
    }

    /// With or without preemption, everywhere.
    #[must_use]
    pub fn preempt(mut self, preempt: bool) -> Self {
        self.machines.iter_mut().for_each(|machine| machine.preempt = preempt);
        self
    }

    /// With other manners.
    #[must_use]
    pub const fn manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// What a machine's daemon is told at its start, which has this number, with the addresses of this generation.
    pub fn setup(&self, (machine, generation): (usize, u8), seed: u64, epoch: u32) -> Setup {
        let spec = &self.machines[machine];
        let host = |(host, pace): (&HostSpec, &Pace)| HostSetup {
            link: link(host.segment),
            group: self.grouped.then(|| Group {
                name: GROUP.to_owned(),
                as_one: true,
                nodes: byte(self.machines.len()),
                detect: self.detect.map(|detect| Detect { aside: self.aside(machine), ..detect }),
            }),
            interface: format!("eth{}", host.segment),
            vhid: host.vhid,
            vips: host.vips_of(generation),
            pace: *pace,
            preempt: spec.preempt,
            gate: None,
            preempt_delay: Span::ZERO,
            flavour: Flavour::Freebsd,
            mode: self.auth,
            key: KEY,
            next_key: None,
            digest: Variant::Freebsd,
            accept: vec![Variant::Freebsd, Variant::OpenbsdNov6ll],
            tos: 0xe0,
            answer_ping: false,
            former: Former::default(),
            resume_until: None,
        };
        Setup { hosts: self.hosts.iter().zip(&spec.paces).map(host).collect(), seed, epoch }
    }

    fn aside(&self, machine: usize) -> Option<Aside> {
        let address = |machine| IpAddr::from([10, 255, 0, byte(machine)]);
        let peer = address(1 - machine.min(1));
        self.aside.then(|| Aside { number: 1, source: address(machine), peer, keys: ProbeKeys::NONE })
    }

    /// A machine's port as its kernel describes it.
    pub fn link_state(&self, machine: usize, segment: usize, up: bool) -> LinkState {
        let (number, address) = (byte(segment), self.machines[machine].address);
        LinkState {
            up,
            mac: Mac([0x02, 0, 0, 0, number, address]),
            source_v4: Some(Ipv4Addr::new(10, 0, number, address)),
            source_v6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, u16::from(number), u16::from(address))),
            shielded: true,
            router: true,
        }
    }

    /// The longest that anything may take before the system has settled: two dead times and an
    /// interval, of the slowest configuration.
    pub fn settling(&self) -> Span {
        let paces = || self.machines.iter().flat_map(|machine| &machine.paces);
        let dead = paces().map(|pace| pace.dead()).max().unwrap_or_default();
        let interval = paces().map(|pace| pace.interval()).max().unwrap_or_default();
        dead.times(2) + interval
    }
}

impl HostSpec {
    /// Its addresses.
    pub fn vips(&self) -> Vec<IpAddr> {
        let number = byte(self.segment);
        let v4 = IpAddr::from(Ipv4Addr::new(10, 0, number, 254));
        let v6 = IpAddr::from(Ipv6Addr::new(0xfd00, u16::from(number), 0, 0, 0, 0, 0, 0xfe));
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Both => vec![v4, v6],
        }
    }
}

impl HostSpec {
    /// Its addresses after so many reloads.
    pub fn vips_of(&self, generation: u8) -> Vec<IpAddr> {
        let number = byte(self.segment);
        let more = (1..=generation).map(|last| match (self.families, last % 2) {
            (Families::V4, 1) | (Families::V6, 0) | (Families::Both, _) => {
                IpAddr::from(Ipv4Addr::new(10, 0, number, 100 + last))
            }
            (Families::V4 | Families::V6, _) => {
                IpAddr::from(Ipv6Addr::new(0xfd00, u16::from(number), 0, 0, 0, 0, 0, last.into()))
            }
        });
        self.vips().into_iter().chain(more).collect()
    }
}

/// The machines' name for their port to this segment.
pub fn link(segment: usize) -> IfIndex {
    IfIndex(u32::from(byte(segment)) + 1)
}

/// A virtual host's number, of which 0 is none: 0 becomes 1.
pub fn vhid(number: u8) -> Vhid {
    Vhid::new(number.max(1)).expect("at least 1 is not 0")
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
