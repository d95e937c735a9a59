//! What each stage of the programs takes, by `BPF_PROG_TEST_RUN`, beside the least that a program can do
//! that drops by address.

use crate::Effort;
use crate::adverts;
use crate::fence::{Fence, Windows};
use crate::frames;
use crate::programs::{Prepare, alone, lookup_and_drop, nanos};
use crate::report::{Must, Row, Unit, median, ratio};
use crate::road::{self, LAN, LAN_MAC, NOBODY, NOBODY6, Road, VIP, VIP6, lan_virtual_mac};
use anyhow::Result;
use carp_tests::lab::bpf::{Program, action};
use carp_tests::lab::config::Config;
use carp_tests::lab::namespace::Namespace;

pub const PART: &str = "stages";

/// A drop and a pass, as much as the least program.
const SIMPLE: Must = Must::AtMost(1500);
/// An answer.
const ANSWER: Must = Must::AtMost(3000);
/// Not sent, and on to the next program: `TC_ACT_SHOT`, `TC_ACT_UNSPEC`.
const SHOT: u32 = 2;
const NEXT: u32 = u32::MAX;

/// A kind of frame and what becomes of it.
struct Stage {
    name: &'static str,
    frame: Vec<u8>,
    leaves: bool,
    windows: Windows,
    action: u32,
    must: Option<Must>,
}

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let road = Road::new()?;
    let hosts = adverts::setup(&Config::gateway().carp_toml(), |name| road.index(name))?;
    let mut fence = Fence::raise(&road.lab.instance("fence"), &road.gateway, &hosts)?;
    let link = road.gateway.ifindex(LAN)?;
    let mut bench = Bench::new(&road.gateway, link, effort.repeat)?;
    let stages = stages();
    let mut nanos = vec![Vec::new(); stages.len()];
    for _ in 0..effort.runs {
        bench.run_baseline()?;
        for (stage, nanos) in stages.iter().zip(&mut nanos) {
            fence.set(stage.windows)?;
            nanos.push(bench.run(stage, &fence)?);
        }
    }
    let mut rows = vec![
        Row::new(PART, "dropped at once (the kernel's own overhead)", Unit::Nanos, bench.floor.clone()),
        Row::new(PART, "the least: one lookup and dropped", Unit::Nanos, bench.least.clone()),
    ];
    rows.extend(stages.iter().zip(nanos).map(|(stage, nanos)| bench.row(stage, nanos)));
    fence.lower(&road.gateway)?;
    rows.extend(adverts::measure(&road, effort)?);
    Ok(rows)
}

#[rustfmt::skip]
fn stages() -> Vec<Stage> {
    use Windows::{Armed, Open, Shut};
    use action::{DROP, PASS, TX};
    let stage = |name, frame, windows, action, must| Stage { name, frame, leaves: false, windows, action, must };
    let drop = |name, frame| stage(name, frame, Armed, DROP, Some(SIMPLE));
    let pass = |name, frame| stage(name, frame, Open, PASS, Some(SIMPLE));
    let serve = |name, frame, action, must| stage(name, frame, Open, action, must);
    let leave = |name, frame, windows, action| Stage { name, frame, leaves: true, windows, action, must: None };
    vec![
        drop("dropped: IPv4 to a VIP not served", frames::udp(LAN_MAC, VIP)),
        drop("dropped: IPv6 to a VIP not served", frames::udp6(LAN_MAC, VIP6)),
        drop("dropped: IPv4 to a virtual MAC not served", frames::udp(lan_virtual_mac(), road::SINK)),
        drop("dropped: ARP for a VIP not served", frames::arp_request(VIP)),
        drop("dropped: solicitation for a VIP not served", frames::solicitation(VIP6)),
        stage("dropped: IPv4 to a VIP of a backup not armed", frames::udp(LAN_MAC, VIP), Shut, DROP, Some(SIMPLE)),
        pass("passed: IPv4, foreign", frames::udp(LAN_MAC, NOBODY)),
        pass("passed: IPv6, foreign", frames::udp6(LAN_MAC, NOBODY6)),
        pass("passed: ARP, foreign", frames::arp_request(NOBODY)),
        pass("passed: neither IP nor ARP", frames::stranger()),
        pass("passed: in a VLAN", frames::tagged(VIP)),
        pass("passed: VRRP", frames::vrrp()),
        serve("answered: ARP", frames::arp_request(VIP), TX, Some(ANSWER)),
        serve("answered: solicitation", frames::solicitation(VIP6), TX, None),
        serve("answered: ping", frames::ping(lan_virtual_mac(), VIP), TX, None),
        serve("served: IPv4 to the VIP", frames::udp(LAN_MAC, VIP), PASS, None),
        serve("served: IPv4 to the virtual MAC", frames::udp(lan_virtual_mac(), road::SINK), PASS, None),
        leave("leaves: IPv4, foreign", frames::leaving(NOBODY), Open, NEXT),
        leave("leaves: IPv4 from a VIP served", frames::leaving(VIP), Open, NEXT),
        leave("kept back: IPv4 from a VIP not served", frames::leaving(VIP), Armed, SHOT),
    ]
}

/// What it is compared to, with what that took in each run.
struct Bench<'a> {
    gateway: &'a Namespace,
    link: u32,
    repeat: u32,
    drop: Program,
    lookup: Program,
    floor: Vec<u64>,
    least: Vec<u64>,
}

impl<'a> Bench<'a> {
    fn new(gateway: &'a Namespace, link: u32, repeat: u32) -> Result<Self> {
        let (drop, lookup) = (Program::always(action::DROP)?, lookup_and_drop(VIP)?);
        Ok(Self { gateway, link, repeat, drop, lookup, floor: Vec::new(), least: Vec::new() })
    }

    fn run_baseline(&mut self) -> Result<()> {
        let frame = frames::udp(LAN_MAC, VIP);
        for (program, taken) in [(&self.drop, &mut self.floor), (&self.lookup, &mut self.least)] {
            let frame = (&frame[..], self.link);
            taken.push(self.gateway.enter(|| nanos(program, frame, action::DROP, self.repeat))?);
        }
        Ok(())
    }

    /// A frame that is turned into the answer, or gets another MAC, is put together anew for each run.
    fn run(&self, stage: &Stage, fence: &Fence) -> Result<u64> {
        let frame = (&stage.frame[..], self.link);
        let changes = stage.action == action::TX
            || stage.windows == Windows::Open && stage.frame.starts_with(&lan_virtual_mac().0);
        self.gateway.enter(|| match stage.leaves {
            true => nanos(&fence.egress, frame, stage.action, self.repeat),
            false if changes => {
                alone(Prepare::Restore(&stage.frame), &fence.ingress, frame, stage.action, self.repeat)
            }
            false => nanos(&fence.ingress, frame, stage.action, self.repeat),
        })
    }

    fn row(&self, stage: &Stage, nanos: Vec<u64>) -> Row {
        let Some(must) = stage.must else { return Row::new(PART, stage.name, Unit::Nanos, nanos) };
        let note = format!("{} ns", median(&nanos).unwrap_or(0) / 1000);
        let times = nanos.iter().zip(&self.least).map(|(nanos, least)| ratio(*nanos, *least));
        Row::new(PART, stage.name, Unit::Times, times.collect()).must(must).note(note)
    }
}
