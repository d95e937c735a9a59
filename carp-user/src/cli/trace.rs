//! `carpctl trace`: the datapath's log of decisions, switched on for a time.

use super::instance;
use super::watch::is_closed_within;
use crate::api::SCHEMA;
use crate::io::bpf::{self, Trace};
use crate::io::clock;
use anyhow::{Result, bail};
use carp_common::id::Mac;
use carp_common::map::{DECISION_LEN, Decision};
use carp_common::time::{Instant, Span};
use carp_common::wire::arp::{self, Arp};
use carp_common::wire::eth::{self, Ethernet};
use carp_common::wire::ip::{Ipv4, Ipv6};
use rustix::event::Timespec;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use zerocopy::FromBytes;

/// Show what the datapath answers and drops, and why, frame by frame.
///
/// What it only hands on is not told. The log is off at other times, and goes off by itself within a
/// second when this is killed. Of a flood, some 6,000 frames a second are told and the others counted.
/// It reads the pinned maps, so carpd need not answer.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line has the seconds since the start, the virtual host, the counter (see `carpctl counters`) and the frame; one that was answered is shown as its answer.\n\nExit codes: 0 done, 1 error (not root, nothing pinned, another trace runs), 2 usage.\n\nExamples:\n  carpctl trace\n  carpctl trace --seconds 60 | grep fenced\n  carpctl trace --json | jq -c '[.at_ns, .decision, .interface]'"
)]
pub struct Args {
    /// For how long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Switches the log on, prints it, and switches it off.
///
/// # Errors
/// Whoever is not root; nothing pinned; another one reads the log.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may switch the log on: run it with sudo");
    }
    let name = instance::resolve(name)?;
    let hosts = hosts(&name)?;
    let mut trace = Trace::open(&name)?;
    let begun = clock::now();
    let end = begun + Span::secs(args.seconds.into());
    let mut told: u64 = 0;
    loop {
        let now = clock::now();
        trace.until((now + KEPT_ON).min(end))?;
        // A flood does not keep it from looking at the time.
        for decision in std::iter::from_fn(|| trace.next()).take(AT_ONCE) {
            told += 1;
            let host = hosts.get(&decision.slot);
            super::print(&if args.json { object(&decision, host) } else { line(&decision, host, begun) });
        }
        if now >= end || is_closed_within(LOOK) {
            break;
        }
    }
    eprintln!("{told} decisions told, about {} for which there was no room", trace.lost()?);
    Ok(ExitCode::SUCCESS)
}

/// How long the log stays on without this.
const KEPT_ON: Span = Span::secs(1);
/// How often it is looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// More than the log holds.
const AT_ONCE: usize = 1_000;

/// Interface and vhid, by slot.
type Hosts = BTreeMap<u32, (String, u32)>;

fn hosts(name: &str) -> Result<Hosts> {
    let pinned = bpf::read_pinned(name)?;
    let host = |(key, host): &(carp_common::map::HostKey, carp_common::map::Host)| {
        (host.slot, (pinned.link_name(key.ifindex), key.vhid))
    };
    Ok(pinned.hosts.iter().map(host).collect())
}

fn line(decision: &Decision, host: Option<&(String, u32)>, begun: Instant) -> String {
    let at = Instant::from_nanos(decision.at).since(begun).as_nanos() / 1_000;
    let label =
        host.map_or_else(|| format!("slot {}", decision.slot), |(link, vhid)| format!("{link}@{vhid}"));
    let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
    let (what, frame) = (reason(decision), summary(&decision.frame));
    format!("{seconds:3}.{micros:06} {label} {what}: {frame}, {} bytes\n", decision.frame_len)
}

fn object(decision: &Decision, host: Option<&(String, u32)>) -> String {
    let len = usize::try_from(decision.frame_len).unwrap_or(DECISION_LEN).min(DECISION_LEN);
    let bytes = decision.frame.iter().take(len);
    let object = json!({
        "schema": SCHEMA, "at_ns": decision.at, "decision": reason(decision),
        "interface": host.map(|(link, _)| link), "vhid": host.map(|(_, vhid)| vhid),
        "frame_len": decision.frame_len, "frame": bytes.map(|byte| format!("{byte:02x}")).collect::<String>(),
    });
    format!("{object}\n")
}

fn reason(decision: &Decision) -> String {
    decision
        .counter()
        .map_or_else(|| format!("decision {}", decision.counter), |known| known.name().to_owned())
}

/// Who says what to whom.
fn summary(frame: &[u8]) -> String {
    let Ok((head, rest)) = Ethernet::read_from_prefix(frame) else { return "no frame".to_owned() };
    let macs = format!("{} > {}", Mac(head.source), Mac(head.destination));
    let said = match head.ethertype.get() {
        eth::ARP => Arp::read_from_prefix(rest).ok().map(|(arp, _)| arp_said(&arp)),
        eth::IPV4 => Ipv4::read_from_prefix(rest).ok().map(|(ip, _)| {
            let (from, to) = (Ipv4Addr::from(ip.source), Ipv4Addr::from(ip.destination));
            format!("{from} > {to} protocol {}", ip.protocol)
        }),
        eth::IPV6 => Ipv6::read_from_prefix(rest).ok().map(|(ip, _)| {
            let (from, to) = (Ipv6Addr::from(ip.source), Ipv6Addr::from(ip.destination));
            format!("{from} > {to} protocol {}", ip.next_header)
        }),
        _ => None,
    };
    format!("{macs} {}", said.unwrap_or_else(|| format!("ethertype {:#06x}", head.ethertype.get())))
}

fn arp_said(message: &Arp) -> String {
    let (sender, target) = (Ipv4Addr::from(message.sender_ip), Ipv4Addr::from(message.target_ip));
    match message.operation.get() {
        arp::REQUEST => format!("who has {target}, tell {sender}"),
        arp::REPLY => format!("{sender} is at {}", Mac(message.sender_mac)),
        other => format!("ARP operation {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::map::Counter;
    use zerocopy::IntoBytes;

    fn decision(counter: Counter, parts: &[&[u8]]) -> Decision {
        let bytes = parts.concat();
        let mut frame = [0; DECISION_LEN];
        bytes.iter().zip(&mut frame).for_each(|(byte, place)| *place = *byte);
        let frame_len = u32::try_from(bytes.len()).unwrap();
        let counter = u32::try_from(counter.index()).unwrap();
        Decision { at: 2_000_123_456, ifindex: 2, slot: 1, counter, frame_len, frame }
    }

    #[test]
    fn a_line_says_when_where_why_and_what() {
        let (client, router) = (Mac([2, 0, 0, 0, 0, 0xc1]), Mac([0, 0, 0x5e, 0, 1, 7]));
        let ip = Ipv4::unrouted([10, 0, 0, 9].into(), [10, 0, 0, 1].into(), 0, 17, 8);
        let head = Ethernet::new(router, client, eth::IPV4);
        let udp = [head.as_bytes(), ip.as_bytes(), &[0; 8]];
        let host = ("lan0".to_owned(), 7);
        assert_eq!(
            line(&decision(Counter::VirtualMacFenced, &udp), Some(&host), Instant::from_nanos(1_000_000_000)),
            "  1.000123 lan0@7 vmac-fenced: 02:00:00:00:00:c1 > 00:00:5e:00:01:07 10.0.0.9 > 10.0.0.1 protocol 17, 42 bytes\n"
        );
        let reply = Arp::new(arp::REPLY, (router, [10, 0, 0, 1]), (client, [10, 0, 0, 9]));
        let head = Ethernet::new(client, router, eth::ARP);
        let answer = [head.as_bytes(), reply.as_bytes()];
        let line = line(&decision(Counter::ArpAnswered, &answer), None, Instant::ZERO);
        assert!(line.ends_with("slot 1 arp-answered: 00:00:5e:00:01:07 > 02:00:00:00:00:c1 10.0.0.1 is at 00:00:5e:00:01:07, 42 bytes\n"), "{line}");
    }

    #[test]
    fn json_has_the_frame_as_far_as_it_was_kept() {
        let long = decision(Counter::VipFenced, &[&[0xab; 100]]);
        let object: serde_json::Value = serde_json::from_str(&object(&long, None)).unwrap();
        assert_eq!(object["frame_len"], 100);
        assert_eq!(object["frame"], "ab".repeat(DECISION_LEN));
        assert_eq!(object["decision"], "vip-fenced");
    }
}
