//! Through a gateway that serves, with the programs at both of its links and without: TCP, and frames of
//! two sizes, of which what counts is what a second of the CPU that receives and forwards them is worth.

use crate::receiving::{Burst, Receiving, SENDER, ip_counter};
use crate::report::{Row, Unit, ratio};
use crate::road::{FAR, LAN_MAC, Road, SINK, WAN, lan_virtual_mac};
use crate::{Effort, cpu, frames, streams};
use anyhow::{Result, ensure};
use carp_common::id::Mac;
use carp_common::time::Span;
use carp_tests::lab::bpf::{Program, action};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;

pub const PART: &str = "forwarding";
const PATIENCE: Span = Span::secs(10);

/// What comes by, and what the gateway does with it.
struct Traffic {
    name: &'static str,
    /// Bytes of a frame.
    len: u16,
    /// In nftables' words.
    rules: &'static str,
}

const TRAFFIC: [Traffic; 3] = [
    Traffic { name: "60 bytes", len: 60, rules: "" },
    Traffic { name: "1514 bytes", len: 1514, rules: "" },
    Traffic {
        name: "60 bytes, state and NAT",
        len: 60,
        rules: "table inet bench {
            chain forward {
                type filter hook forward priority filter; policy drop;
                ct state established,related counter accept
                iifname \"lan0\" ct state new counter accept
            }
            chain sources { type nat hook postrouting priority srcnat; oifname \"wan0\" counter masquerade; }
        }\n",
    },
];

/// Ways to attach. A veth's native XDP carries on no frame to the virtual MAC that has an skb already, so it
/// has none of TCP.
const FRAME_MODES: [&str; 2] = ["native", "tcx"];

/// In turn without carp and with it.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// Rates.
    pub without: Vec<u64>,
    /// The same.
    pub with: Vec<u64>,
}

impl Sides {
    /// As rows about this.
    pub fn rows(self, what: &str, mode: &str, unit: Unit) -> [Row; 3] {
        let Self { without, with } = self;
        let kept = with.iter().zip(&without).map(|(with, without)| 100 * ratio(*with, *without));
        let loss = kept.map(|kept| 100_000_u64.saturating_sub(kept)).collect();
        [
            Row::new(PART, format!("{what}, without carp"), unit, without),
            Row::new(PART, format!("{what}, {mode}"), unit, with),
            Row::new(PART, format!("{what}, {mode}, loss"), Unit::Percent, loss),
        ]
    }
}

/// Two gateways side by side: so the two sides of a ratio are measured within a second, and not before and
/// after an election.
pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let roads = [Road::new()?, Road::new()?];
    let mut rows = streams::measure(effort, &roads)?;
    rows.extend(frames(effort, &roads)?);
    Ok(rows)
}

/// Measures in turn at one of them without carp and at the other, while a carpd that is attached so serves
/// there; which one it is changes from run to run.
pub fn in_turn<Site>(
    sites: &[Site; 2],
    road: impl Fn(&Site) -> &Road,
    mode: &'static str,
    effort: &Effort,
    mut go: impl FnMut(&Site, &Site) -> Result<()>,
) -> Result<()> {
    let [one, two] = sites;
    for (without, with) in [(one, two), (two, one)].into_iter().cycle().take(effort.runs) {
        let Road { lab, gateway, .. } = road(with);
        let mut carpd = Carpd::start(lab, gateway, &Config::gateway().with_xdp(mode))?;
        carpd.wait_serving(PATIENCE)?;
        for _ in 0..effort.rounds {
            go(without, with)?;
        }
        let served = carpd.status()?["counters"]["vmac-served"].as_u64();
        ensure!(served > Some(0), "{mode}: nothing came to the virtual MAC");
        carpd.stop()?;
    }
    Ok(())
}

fn frames(effort: &Effort, [one, two]: &[Road; 2]) -> Result<Vec<Row>> {
    let drop_all = Program::always(action::DROP)?;
    // The sink takes its frames on another thread and keeps none, so that all that counts is the gateway.
    let drain = |Road { sink, .. }: &Road| {
        cpu::keep_on(Some(sink.receive_on_thread(FAR)?), SENDER)?;
        let far = sink.ifindex(FAR)?;
        sink.enter(|| drop_all.attach(far))
    };
    let _drained = [drain(one)?, drain(two)?];
    let receiving = [Receiving::new(one)?, Receiving::new(two)?];
    let mut rows = Vec::new();
    for mode in FRAME_MODES {
        let mut sides = vec![Sides::default(); TRAFFIC.len()];
        in_turn(
            &receiving,
            |receiving| receiving.road,
            mode,
            effort,
            |without, with| {
                for (traffic, sides) in TRAFFIC.iter().zip(&mut sides) {
                    sides.without.push(traffic.forward(without, LAN_MAC, effort)?);
                    sides.with.push(traffic.forward(with, lan_virtual_mac(), effort)?);
                }
                Ok(())
            },
        )?;
        let kinds = TRAFFIC.iter().zip(sides);
        rows.extend(kinds.flat_map(|(traffic, sides)| sides.rows(traffic.name, mode, Unit::Mpps)));
    }
    Ok(rows)
}

impl Traffic {
    /// Thousandths of a million frames for each second of the CPU. Bursts are short, so that whatever else the
    /// machine does weighs on both sides alike.
    fn forward(&self, receiving: &Receiving<'_>, to: Mac, effort: &Effort) -> Result<u64> {
        let road = receiving.road;
        road.firewall(self.rules)?;
        let begin = ip_counter(&road.gateway, "ForwDatagrams")?;
        // Most of them do not fit into the cable.
        let burst = receiving.burst(&frames::long_udp(to, SINK, self.len), effort.frames / 4)?;
        let forwarded = ip_counter(&road.gateway, "ForwDatagrams")? - begin;

        let Burst { frames, .. } = burst;
        ensure!(forwarded * 100 >= frames * 99, "{forwarded} of {frames} frames forwarded to {WAN}");
        Ok(burst.rate())
    }
}
