//! Frames through a gateway that serves, with the programs at both of its links and without: what a second
//! of the CPU that receives and forwards them is worth.

use crate::receiving::{Burst, Receiving, SENDER, ip_counter};
use crate::report::{Must, Row, Unit, ratio};
use crate::road::{FAR, LAN_MAC, Road, SINK, WAN, lan_virtual_mac};
use crate::{Effort, cpu, frames};
use anyhow::{Result, ensure};
use carp_common::id::Mac;
use carp_common::time::Span;
use carp_tests::lab::bpf::{Program, action};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::process::run_with_input;

pub const PART: &str = "forwarding";
const PATIENCE: Span = Span::secs(10);
/// Hundredths of the throughput.
const MUST: Must = Must::AtMost(3000);

/// What the gateway does with the frames, besides.
struct Duty {
    name: &'static str,
    /// In nftables' words.
    rules: &'static str,
}

const DUTIES: [Duty; 2] = [
    Duty { name: "forwards", rules: "" },
    Duty {
        name: "filters by state and translates",
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

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for Duty { name, rules } in &DUTIES {
        let road = Road::new()?;
        run_with_input(&mut road.nft("--file -"), rules)?;
        let (without, with) = rates(&road, effort)?;
        let kept = with.iter().zip(&without).map(|(with, without)| 100 * ratio(*with, *without));
        let loss = kept.map(|kept| 100_000_u64.saturating_sub(kept)).collect();
        rows.push(Row::new(PART, format!("{name}, without carp"), Unit::Mpps, without));
        rows.push(Row::new(PART, format!("{name}, with carp"), Unit::Mpps, with));
        rows.push(Row::new(PART, format!("{name}, loss of throughput"), Unit::Percent, loss).must(MUST));
    }
    Ok(rows)
}

/// Without carp, to the link's MAC, and with it, to the virtual MAC.
fn rates(road: &Road, effort: &Effort) -> Result<(Vec<u64>, Vec<u64>)> {
    let receiving = Receiving::new(road)?;
    // The sink takes its frames on another thread and keeps none, so that all that counts is the gateway.
    let sink = road.sink.receive_on_thread(FAR)?;
    cpu::keep_on(Some(sink), SENDER)?;
    let (drop_all, far) = (Program::always(action::DROP)?, road.sink.ifindex(FAR)?);
    let _attached = road.sink.enter(|| drop_all.attach(far))?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        without.push(forward(road, &receiving, LAN_MAC, effort)?.rate());
        let mut carpd = Carpd::start(&road.lab, &road.gateway, &Config::gateway().with_xdp("native"))?;
        carpd.wait_serving(PATIENCE)?;
        with.push(forward(road, &receiving, lan_virtual_mac(), effort)?.rate());
        carpd.stop()?;
    }
    Ok((without, with))
}

fn forward(road: &Road, receiving: &Receiving<'_>, to: Mac, effort: &Effort) -> Result<Burst> {
    let begin = ip_counter(&road.gateway, "ForwDatagrams")?;
    // Most of them do not fit into the cable.
    let burst = receiving.burst(&frames::udp(to, SINK), 3 * effort.frames)?;
    let forwarded = ip_counter(&road.gateway, "ForwDatagrams")? - begin;
    ensure!(
        forwarded * 100 >= burst.frames * 99,
        "{forwarded} of {} frames forwarded to {WAN}",
        burst.frames
    );
    Ok(burst)
}
