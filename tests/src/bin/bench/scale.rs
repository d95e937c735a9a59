//! As many virtual hosts as there can be: whether a frame takes longer, and how long it takes until all of
//! them are switched.

use crate::fence::{Fence, Windows};
use crate::programs::{Prepare, alone};
use crate::report::{Must, Row, Unit, ratio};
use crate::road::{LAN_MAC, NOBODY, lan_virtual_mac};
use crate::size::Size;
use crate::{Effort, adverts, frames, switching};
use anyhow::{Context, Result};
use carp_common::id::IfIndex;
use carp_tests::lab::bpf::action;
use carp_tests::lab::config::Config;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::{Lab, Purpose};
use carp_user::proto::event::HostSetup;

pub const PART: &str = "scale";

/// As much as with one address.
const FLAT: Must = Must::AtMost(1200);

/// What is sent, each frame to another of the addresses or virtual MACs, and what becomes of it.
struct Traffic {
    name: &'static str,
    to: To,
    windows: Windows,
    action: u32,
}

#[derive(Clone, Copy)]
enum To {
    Address,
    VirtualMac,
}

const TRAFFIC: [Traffic; 3] = [
    Traffic { name: "dropped: to a VIP", to: To::Address, windows: Windows::Armed, action: action::DROP },
    Traffic {
        name: "dropped: to a virtual MAC",
        to: To::VirtualMac,
        windows: Windows::Armed,
        action: action::DROP,
    },
    Traffic { name: "served: to a VIP", to: To::Address, windows: Windows::Open, action: action::PASS },
];

/// A datapath of one size.
struct Site {
    size: Size,
    host: Namespace,
    fence: Fence,
    link: u32,
    /// Of each run, by kind of traffic.
    nanos: Vec<Vec<u64>>,
    /// Of each run, microseconds until all windows were open.
    opened: Vec<u64>,
}

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let lab = Lab::new(Purpose::Show)?;
    let mut one = Site::new(&lab, Size { links: 1, hosts: 1, addresses: 1 })?;
    let many = [1, effort.links].map(|links| Size { links, hosts: effort.hosts, addresses: 4 });
    let mut sites = many.iter().map(|size| Site::new(&lab, *size)).collect::<Result<Vec<_>>>()?;
    for _ in 0..effort.runs {
        for (index, traffic) in TRAFFIC.iter().enumerate() {
            for site in std::iter::once(&mut one).chain(&mut sites) {
                site.run(index, traffic, effort.repeat)?;
            }
        }
    }
    let mut rows = Vec::new();
    for ((index, traffic), least) in TRAFFIC.iter().enumerate().zip(&one.nanos) {
        rows.push(Row::new(PART, format!("{}, 1 address", traffic.name), Unit::Nanos, least.clone()));
        rows.extend(sites.iter().filter_map(|site| Some(site.flat(traffic, site.nanos.get(index)?, least))));
    }
    for site in sites {
        let name = format!("windows written, {}", site.size);
        rows.push(Row::new(PART, name, Unit::Millis, site.opened).must(switching::MUST));
        site.fence.lower(&site.host)?;
    }
    for size in many {
        rows.extend(switching::measure(&lab, size)?);
    }
    one.fence.lower(&one.host)?;
    Ok(rows)
}

impl Site {
    fn new(lab: &Lab, size: Size) -> Result<Self> {
        let host = size.namespace(lab, "fence")?;
        let template = adverts::setup(&Config::gateway().carp_toml(), |_| Some(IfIndex(1)))?;
        let template = template.first().context("no virtual hosts")?;
        let mut hosts = Vec::new();
        for number in 0..size.links {
            let link = IfIndex(host.ifindex(&size.link(number))?);
            hosts.extend(size.vhids().map(|vhid| {
                let (interface, vips) = (size.link(number), size.vips(number, vhid).collect());
                HostSetup { interface, link, vhid, vips, ..template.clone() }
            }));
        }
        let fence = Fence::raise(&lab.instance(host.host()), &host, &hosts)?;
        let link = hosts.last().context("no virtual hosts")?.link.0;
        let nanos = vec![Vec::new(); TRAFFIC.len()];
        Ok(Self { size, host, fence, link, nanos, opened: Vec::new() })
    }

    /// To its last link.
    fn run(&mut self, index: usize, traffic: &Traffic, repeat: u32) -> Result<()> {
        let took = self.fence.set(traffic.windows)?;
        if traffic.windows == Windows::Open {
            self.opened.push(took.as_micros());
        }
        let hosts = i32::from(self.size.hosts);
        let (prepare, frame) = match traffic.to {
            To::Address => {
                let addresses = hosts * i32::from(self.size.addresses);
                let net = self.size.net(self.size.links - 1);
                (Prepare::Destination(addresses), frames::udp(LAN_MAC, net))
            }
            To::VirtualMac => (Prepare::VirtualMac(hosts), frames::udp(lan_virtual_mac(), NOBODY)),
        };
        let (program, frame) = (&self.fence.ingress, (&frame[..], self.link));
        let nanos = self.host.enter(|| alone(prepare, program, frame, traffic.action, repeat))?;
        if let Some(all) = self.nanos.get_mut(index) {
            all.push(nanos);
        }
        Ok(())
    }

    fn flat(&self, traffic: &Traffic, nanos: &[u64], least: &[u64]) -> Row {
        let times = nanos.iter().zip(least).map(|(nanos, least)| ratio(*nanos, *least)).collect();
        Row::new(PART, format!("{}, {}", traffic.name, self.size), Unit::Times, times).must(FLAT)
    }
}
