//! Section 9.8 of the protocol's conformance list, with real daemons and a switch: who answers for
//! the VIPs, from where, and what a switch and a client learn from it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anyhow::Result;
use carp_common::id::{IfIndex, Mac};
use carp_common::map::Counter;
use carp_common::time::{Instant, Span};
use carp_common::wire::Frame;
use carp_tests::lab::Purpose;
use carp_tests::lab::capture::{self, Capture, speaks_for};
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::{ping, ping_as};
use carp_user::io::advert::Sender;
use carp_user::io::bpf::{Counters, read_pinned};
use std::net::IpAddr;
use std::process::Command;

const VIPS: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
const SERVERS: [&str; 2] = ["10.77.2.10", "fd77:2::10"];
const VIRTUAL_MAC: Mac = Mac([0, 0, 0x5e, 0, 1, 1]);
const TRY: Span = Span::millis(300);

#[test]
fn items_100_101_only_the_master_answers_and_a_demoted_one_is_silent_from_that_instant() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    let [from_gw1, from_gw2] = captures(&duo.pair)?;
    let begun = clock::now();
    for vip in VIPS.map(address) {
        duo.pair.client.ip("neighbour flush dev eth0")?;
        answered(&duo.pair.client, vip)?;
    }
    // The capture's thread may see it a moment later than the client.
    let spoken = clock::wait_for("an answer by ARP and one by NDP", PATIENCE, || {
        let spoken: Vec<_> = from_gw1.since(begun).into_iter().filter(is_answer).collect();
        (spoken.len() >= 2).then_some(spoken)
    })?;
    assert!(spoken.iter().all(|(_, frame)| frame[6..12] == VIRTUAL_MAC.0), "{spoken:02x?}");
    silent(&from_gw2, begun);
    demote(&duo.gw1)?;
    duo.wait_moved()?;
    let fenced = duo.watch.changes(begun, Instant::MAX).into_iter().filter(|change| !change.serves);
    let fenced =
        fenced.filter(|change| (change.node, change.slot) == (0, 0)).map(|change| change.at).next().unwrap();
    // Whatever comes to it now: from the switch itself, past the port where the client's frames go.
    let before = count(&duo.gw1, Counter::VirtualMacFenced)?;
    let port = IfIndex(duo.pair.switch.ifindex("lan-gw1")?);
    duo.pair.switch.enter(|| Ok(Sender::open()?.send(port, &ping_frame())?))?;
    clock::wait_for("the drop", PATIENCE, || {
        (count(&duo.gw1, Counter::VirtualMacFenced).ok()? > before).then_some(())
    })?;
    for vip in VIPS.map(address) {
        duo.pair.client.ip("neighbour flush dev eth0")?;
        answered(&duo.pair.client, vip)?;
    }
    silent(&from_gw1, fenced);
    duo.never_two_masters()
}

#[test]
fn item_104_a_switch_learns_the_new_port_within_one_interval_and_the_client_asks_nothing() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let (pair, mac) = (&duo.pair, VIRTUAL_MAC.to_string());
    for target in VIPS.into_iter().chain(SERVERS).map(address) {
        answered(&pair.client, target)?;
    }
    assert_eq!(pair.learned("lan", &mac)?.as_deref(), Some("lan-gw1"));
    let asked = Capture::start(&pair.switch, "lan-client")?;
    duo.gw1.kill()?;
    clock::wait_for("gw2 to be master", PATIENCE, || duo.gw2.is_all("MASTER").then_some(()))?;
    let master = clock::now();
    clock::wait_for("the switch to learn", Span::secs(1), || {
        (duo.pair.learned("lan", &mac).ok()?.as_deref() == Some("lan-gw2")).then_some(())
    })?;
    duo.wait_moved()?;
    for server in SERVERS.map(address) {
        answered(&duo.pair.client, server)?;
    }
    // A request to all; that the kernel makes sure of what it knows is another matter.
    let broadcasts = asked.since(master).into_iter().filter(|(_, frame)| frame[0] & 1 == 1);
    let questions: Vec<_> = broadcasts.filter(|(_, frame)| is_question(frame)).collect();
    assert!(questions.is_empty(), "the client asked again: {questions:02x?}");
    duo.never_two_masters()
}

#[test]
fn item_106_no_kernel_says_its_real_mac_for_the_vip_nor_looks_for_duplicates() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    for gateway in &pair.gateways {
        // As distributions have it; the lab switches it off for the hosts' own addresses.
        for (key, value) in [("accept_dad", "1"), ("dad_transmits", "3")] {
            gateway.sysctl(&format!("ipv6/conf/lan0/{key}"), value)?;
        }
    }
    let captures = captures(&pair)?;
    let real = [real_mac(pair.gw1())?, real_mac(pair.gw2())?];
    let begun = clock::now();
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    let gw2 = Carpd::start(&pair.lab, pair.gw2(), &Config::gateway().with_skew(100))?;
    gw1.wait_serving(PATIENCE)?;
    gw2.wait_role("BACKUP", PATIENCE)?;
    for vip in VIPS {
        assert!(!pair.gw2().ip("address show dev lan0")?.contains(&format!("{vip}/")), "a backup has no VIP");
        answered(&pair.client, address(vip))?;
        // Asked at its own MAC too, it says the virtual one.
        pair.client.ip(&format!("neighbour replace {vip} lladdr {} dev eth0 nud probe", Mac(real[0])))?;
        clock::wait_for("the virtual MAC", PATIENCE, || {
            let known = pair.client.ip(&format!("neighbour show to {vip} dev eth0")).ok()?;
            known.contains(&VIRTUAL_MAC.to_string()).then_some(())
        })?;
    }
    gw1.kill()?;
    gw2.wait_serving(PATIENCE)?;
    for vip in VIPS.map(address) {
        answered(&pair.client, vip)?;
    }
    let frames: Vec<_> = captures.iter().flat_map(|capture| capture.since(begun)).collect();
    assert!(frames.iter().any(is_answer), "the captures work");
    for (_, frame) in &frames {
        let speaks = VIPS.map(address).iter().any(|vip| speaks_for(frame, *vip));
        let tells_mac = is_neighbour(frame);
        let says_real = real.iter().any(|mac| frame.windows(6).any(|six| six == mac));
        assert!(!(speaks && tells_mac && says_real), "a real MAC for a VIP: {frame:02x?}");
        let IpAddr::V6(vip) = address(VIPS[1]) else { continue };
        let is_search = is_neighbour(frame) && frame[12] == 0x86 && frame[22..38] == [0; 16];
        assert!(!(is_search && frame[62..78] == vip.octets()), "a search for duplicates: {frame:02x?}");
    }
    Ok(())
}

#[test]
fn item_107_groups_are_joined_once_and_reported_and_left_with_the_daemon() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let [from_gw1, _] = captures(&pair)?;
    let before = groups(pair.gw1())?;
    let begun = clock::now();
    let mut config = Config::gateway();
    // A second virtual host on the LAN: the groups are the link's, not the host's.
    let second = carp_tests::lab::config::VirtualHost {
        vhid: 3,
        addresses: vec!["10.77.1.4/24", "fd77:1::4/64"],
        ..config.hosts[0].clone()
    };
    config.hosts.push(second);
    let mut gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    gw1.wait_role("BACKUP", PATIENCE)?;
    let joined = groups(pair.gw1())?;
    let once = |name: &str, users: &str| {
        let lines: Vec<&String> = joined.iter().filter(|line| line.contains(name)).collect();
        assert_eq!(lines.len(), 1, "{name}: {joined:#?}");
        assert!(lines[0].split_whitespace().any(|word| word == users), "{name} once: {lines:?}");
    };
    once("lan0 120000E0", "1");
    once("lan0 ff020000000000000000000000000012", "1");
    // The addresses' own, also of a backup, whose kernel does not have them.
    once("lan0 ff0200000000000000000001ff000001", "1");
    once("lan0 ff0200000000000000000001ff000004", "1");
    let reported = |group: &[u8]| {
        let is_report = |frame: &[u8]| match frame[12..14] {
            [8, 0] => frame[23] == 2,
            [0x86, 0xdd] => frame[20] == 0 && frame.get(62) == Some(&143),
            _ => false,
        };
        let has = |frame: &[u8]| frame.windows(group.len()).any(|there| there == group);
        from_gw1.since(begun).iter().any(|(_, frame)| is_report(frame) && has(&frame[34..]))
    };
    let carp6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];
    let node: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 4];
    for group in [&[224, 0, 0, 18][..], &carp6, &node] {
        clock::wait_for("the report", PATIENCE, || reported(group).then_some(()))?;
    }
    gw1.stop()?;
    assert_eq!(groups(pair.gw1())?, before);
    Ok(())
}

#[test]
fn item_108_the_virtual_mac_is_used_at_one_port_only_whatever_leaves_from_the_vip() -> Result<()> {
    let duo = Duo::elected(&Config { answer_ping: true, ..Config::gateway() })?;
    let [from_gw1, from_gw2] = captures(&duo.pair)?;
    let begun = clock::now();
    let clients = ["10.77.1.10", "fd77:1::10"].map(address);
    for _ in 0..20 {
        for (vip, client) in VIPS.map(address).into_iter().zip(clients) {
            // Answers of the datapath, and what the kernel sends from the VIP.
            answered(&duo.pair.client, vip)?;
            clock::wait_for("an answer", PATIENCE, || {
                ping_as(duo.pair.gw1(), Some(vip), client, TRY).ok().flatten()
            })?;
            answered(&duo.pair.client, address(SERVERS[usize::from(vip.is_ipv6())]))?;
            let learned = duo.pair.learned("lan", &VIRTUAL_MAC.to_string())?;
            assert_eq!(learned.as_deref(), Some("lan-gw1"));
        }
    }
    assert!(from_gw1.since(begun).iter().any(|(_, frame)| frame[6..12] == VIRTUAL_MAC.0));
    silent(&from_gw2, begun);
    Ok(())
}

fn captures(pair: &Pair) -> Result<[Capture; 2]> {
    Ok([Capture::start(&pair.switch, "lan-gw1")?, Capture::start(&pair.switch, "lan-gw2")?])
}

/// Nothing from a VIP since then, nor from the virtual MAC.
fn silent(capture: &Capture, since: Instant) {
    let vips = VIPS.map(address);
    for (at, frame) in capture.since(since) {
        let speaks = vips.iter().any(|vip| speaks_for(&frame, *vip)) || frame[6..12] == VIRTUAL_MAC.0;
        assert!(!speaks, "{} after it: {frame:02x?}", at.since(since));
    }
}

fn answered(from: &Namespace, target: IpAddr) -> Result<()> {
    clock::wait_for("an answer", PATIENCE, || ping(from, target, TRY).ok().flatten().map(drop))
}

/// A message that tells somebody's MAC: ARP, a neighbour solicitation or advertisement.
fn is_neighbour(frame: &[u8]) -> bool {
    match frame[12..14] {
        [8, 6] => true,
        [0x86, 0xdd] => frame[20] == 58 && matches!(frame[54], 135 | 136),
        _ => false,
    }
}

/// An answer to an ARP request or a solicitation for a VIP.
fn is_answer((_, frame): &capture::Frame) -> bool {
    let vips = VIPS.map(address);
    let kind = if frame[12..14] == [8, 6] { frame[21] == 2 } else { frame.get(54) == Some(&136) };
    is_neighbour(frame) && kind && vips.iter().any(|vip| speaks_for(frame, *vip))
}

/// An ARP request or a solicitation.
fn is_question(frame: &[u8]) -> bool {
    let kind = if frame[12..14] == [8, 6] { frame[21] == 1 } else { frame.get(54) == Some(&135) };
    is_neighbour(frame) && kind
}

/// To the virtual MAC and the VIP, as the client would send it.
fn ping_frame() -> Frame {
    let packet = [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 77, 1, 10, 10, 77, 1, 1];
    let client = [2, 0, 0, 0, 0, 0xc1];
    Frame::of(&[&VIRTUAL_MAC.0, &client, &[8, 0], &packet, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]])
}

/// The link's memberships, IPv4 and IPv6: name, group, users.
fn groups(host: &Namespace) -> Result<Vec<String>> {
    let text = host.enter(|| {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        Ok((read("igmp")?, read("igmp6")?))
    })?;
    let mut link = "";
    let mut all = Vec::new();
    for line in text.0.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, name, ..] if !line.starts_with('\t') => link = name.trim_end_matches(':'),
            [group, users, ..] => all.push(format!("{link} {group} {users}")),
            _ => {}
        }
    }
    for line in text.1.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        all.push(format!("{} {} {}", words[1], words[2], words[3]));
    }
    all.sort();
    Ok(all)
}

fn demote(node: &Carpd) -> Result<()> {
    let mut carpctl = Command::new(product("carpctl")?);
    carpctl.args(["--instance", node.instance(), "demote", "test"]);
    let output = node.namespace().output(&mut carpctl)?;
    assert!(output.status.success(), "{output:?}");
    Ok(())
}

/// All virtual hosts of a node together.
fn count(node: &Carpd, counter: Counter) -> Result<u64> {
    Ok(Counters::sum(read_pinned(node.instance())?.counters.values()).get(counter))
}

fn real_mac(host: &Namespace) -> Result<[u8; 6]> {
    let line = host.ip("-o link show dev lan0")?;
    let text = line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Ok(bytes.try_into().unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
