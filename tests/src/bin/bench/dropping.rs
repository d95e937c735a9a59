//! Frames for a VIP that is not served: dropped by carp, by nftables in two places, and by the kernel when
//! it looks where to send them.

use crate::Effort;
use crate::frames;
use crate::programs::lookup_and_drop;
use crate::receiving::{Burst, Receiving, ip_counter};
use crate::report::{Must, Row, Unit, ratio};
use crate::road::{LAN, LAN_MAC, Road, VIP, lan_virtual_mac};
use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::process::{run, run_with_input};

pub const PART: &str = "dropping";

const PATIENCE: Span = Span::secs(10);
/// As much as nftables at ingress.
const MUST: Must = Must::AtLeast(2500);
/// Of the frames of a burst, in hundredths, that have to be counted where they are to be dropped: some
/// others come by.
const COUNTED: u64 = 99;

/// Who drops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Carp,
    CarpVirtualMac,
    CarpTcx,
    CarpGeneric,
    /// The program that the stages are compared to: whoever drops by address reads the frame.
    Least,
    Ingress,
    Prerouting,
    Stack,
}

const PLACES: [Place; 8] = [
    Place::Least,
    Place::Carp,
    Place::CarpVirtualMac,
    Place::CarpTcx,
    Place::CarpGeneric,
    Place::Ingress,
    Place::Prerouting,
    Place::Stack,
];

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let road = Road::new()?;
    road.gateway.sysctl("ipv4/ip_forward", "0")?;
    let receiving = Receiving::new(&road)?;
    let mut rates = vec![Vec::new(); PLACES.len()];
    for _ in 0..effort.runs {
        for (place, rates) in PLACES.iter().zip(&mut rates) {
            rates.push(place.drop(&road, &receiving, effort.frames)?.rate());
        }
    }
    let ingress = PLACES.iter().position(|place| *place == Place::Ingress);
    let ingress = ingress.and_then(|at| rates.get(at)).cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for (place, rates) in PLACES.iter().zip(rates) {
        let times = rates.iter().zip(&ingress).map(|(rate, ingress)| ratio(*rate, *ingress)).collect();
        rows.push(Row::new(PART, place.name(), Unit::Mpps, rates));
        let against =
            Row::new(PART, format!("{}, against nftables ingress", place.name()), Unit::Times, times);
        match place {
            Place::Carp | Place::CarpVirtualMac => rows.push(against.must(MUST)),
            Place::Least => rows.push(against),
            Place::CarpTcx | Place::CarpGeneric | Place::Ingress | Place::Prerouting | Place::Stack => {}
        }
    }
    Ok(rows)
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Carp => "carp, to the VIP",
            Self::CarpVirtualMac => "carp, to the virtual MAC",
            Self::CarpTcx => "carp at tc, to the VIP",
            Self::CarpGeneric => "carp behind the driver, to the VIP",
            Self::Least => "the least: one lookup and dropped",
            Self::Ingress => "nftables, ingress",
            Self::Prerouting => "nftables, prerouting",
            Self::Stack => "the kernel, no address and no route",
        }
    }

    fn drop(self, road: &Road, receiving: &Receiving<'_>, frames: u32) -> Result<Burst> {
        let to = if self == Self::CarpVirtualMac { lan_virtual_mac() } else { LAN_MAC };
        let burst = || receiving.burst(&frames::udp(to, VIP), frames);
        let (burst, counted) = match self {
            Self::Carp => by_carp(road, "native", "vip-fenced", burst)?,
            Self::CarpVirtualMac => by_carp(road, "native", "vmac-fenced", burst)?,
            Self::CarpTcx => by_carp(road, "tcx", "vip-fenced", burst)?,
            Self::CarpGeneric => by_carp(road, "generic", "vip-fenced", burst)?,
            Self::Least => by_the_least(road, burst)?,
            Self::Ingress => by_nftables(road, "netdev", "hook ingress device \"lan0\" priority 0", burst)?,
            Self::Prerouting => by_nftables(road, "ip", "hook prerouting priority raw", burst)?,
            Self::Stack => by_stack(road, burst)?,
        };
        let name = self.name();
        ensure!(
            counted * 100 >= burst.frames * COUNTED,
            "{name}: {counted} of {} frames dropped there",
            burst.frames
        );
        Ok(burst)
    }
}

/// By the daemon of a backup, whose master may be silent for twelve minutes.
fn by_carp(
    road: &Road,
    mode: &'static str,
    counter: &str,
    burst: impl FnOnce() -> Result<Burst>,
) -> Result<(Burst, u64)> {
    let mut config = Config::gateway().with_xdp(mode);
    config.hosts.iter_mut().for_each(|host| host.base = 254);
    let mut carpd = Carpd::start(&road.lab, &road.gateway, &config)?;
    carpd.wait_role("BACKUP", PATIENCE)?;
    let count = || -> Result<u64> {
        let status = carpd.status()?;
        status["counters"][counter].as_u64().with_context(|| format!("no counter {counter}"))
    };
    let begin = count()?;
    let burst = burst()?;
    let dropped = count()? - begin;
    carpd.stop()?;
    Ok((burst, dropped))
}

fn by_the_least(road: &Road, burst: impl FnOnce() -> Result<Burst>) -> Result<(Burst, u64)> {
    let link = road.gateway.ifindex(LAN)?;
    let _attached = road.gateway.enter(|| lookup_and_drop(VIP)?.attach(link))?;
    let burst = burst()?;
    Ok((burst, burst.frames))
}

fn by_nftables(
    road: &Road,
    family: &str,
    hook: &str,
    burst: impl FnOnce() -> Result<Burst>,
) -> Result<(Burst, u64)> {
    let rules = format!(
        "table {family} bench {{ chain drops {{ type filter {hook}; ip daddr {VIP} counter drop; }} ; }}\n"
    );
    run_with_input(&mut road.nft("--file -"), &rules)?;
    let burst = burst()?;
    let text = run(&mut road.nft(&format!("--json list table {family} bench")))?;
    let listed: serde_json::Value = serde_json::from_str(&text)?;
    let rules = listed["nftables"].as_array().context("nft lists nothing")?;
    let counters = rules.iter().filter_map(|item| item.pointer("/rule/expr/1/counter/packets")?.as_u64());
    run(&mut road.nft(&format!("delete table {family} bench")))?;
    Ok((burst, counters.sum()))
}

/// Without forwarding a packet to somebody else is an error of its address.
fn by_stack(road: &Road, burst: impl FnOnce() -> Result<Burst>) -> Result<(Burst, u64)> {
    let begin = ip_counter(&road.gateway, "InAddrErrors")?;
    let burst = burst()?;
    Ok((burst, ip_counter(&road.gateway, "InAddrErrors")? - begin))
}
