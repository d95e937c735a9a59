//! What a gateway sends for its addresses, seen from the switch and from a client: with the virtual
//! MAC while it serves, nothing at all when it does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::capture::{Capture, speaks_for};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::ping::{ping, ping_as};
use std::net::IpAddr;

const VIPS: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
const CLIENTS: [&str; 2] = ["10.77.1.10", "fd77:1::10"];
const VIRTUAL_MAC: &str = "00:00:5e:00:01:01";
const TRY: Span = Span::millis(300);

#[test]
fn whoever_begins_the_client_learns_the_vip_at_the_virtual_mac() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    let capture = Capture::start(&duo.pair.switch, "lan-gw1")?;
    let begun = clock::now();
    for (vip, client) in VIPS.map(address).into_iter().zip(CLIENTS.map(address)) {
        answers(|| ping(&duo.pair.client, vip, TRY))?;
        at_the_virtual_mac(&duo, vip)?;
        // Now the gateway asks first, and the client knows only what it says.
        duo.pair.gw1().ip("neighbour flush dev lan0")?;
        duo.pair.client.ip("neighbour flush dev eth0")?;
        answers(|| ping_as(duo.pair.gw1(), Some(vip), client, TRY))?;
        at_the_virtual_mac(&duo, vip)?;
        answers(|| ping(&duo.pair.client, vip, TRY))?;
        at_the_virtual_mac(&duo, vip)?;
    }
    let real = real_mac(&duo)?;
    let mut asked = 0;
    for (_, frame) in capture.since(begun) {
        let is_arp = frame[12..14] == [8, 6];
        let is_neighbour = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && matches!(frame[54], 135 | 136);
        if (is_arp || is_neighbour) && VIPS.map(address).iter().any(|vip| speaks_for(&frame, *vip)) {
            assert!(!frame.windows(6).any(|six| six == real), "the real MAC left in {frame:02x?}");
            asked += 1;
        }
    }
    assert!(asked >= 4, "the gateway asked and answered {asked} times only");
    duo.never_two_masters()
}

#[test]
fn a_frozen_master_falls_silent_with_its_lease_whatever_its_kernel_would_say() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let capture = Capture::start(&duo.pair.switch, "lan-gw1")?;
    let vips = VIPS.map(address);
    for (vip, client) in vips.into_iter().zip(CLIENTS.map(address)) {
        answers(|| ping_as(duo.pair.gw1(), Some(vip), client, TRY))?;
    }
    duo.gw1.freeze()?;
    let within_the_lease = ping_as(duo.pair.gw1(), Some(vips[0]), address(CLIENTS[0]), TRY)?;
    assert!(within_the_lease.is_some(), "until its lease ends it serves");
    duo.wait_moved()?;
    // Its lease was over before gw2 served. Its kernel still has the addresses.
    let silent = clock::now();
    for (vip, client) in vips.into_iter().zip(CLIENTS.map(address)) {
        let to_gw1 = if vip.is_ipv4() { "10.77.1.2" } else { "fd77:1::2" };
        for _ in 0..3 {
            assert_eq!(ping_as(duo.pair.gw1(), Some(vip), client, TRY)?, None);
        }
        duo.pair.gw1().ip("neighbour flush dev lan0")?;
        assert_eq!(ping_as(duo.pair.gw1(), Some(vip), client, TRY)?, None);
        // It is not deaf and dumb, only fenced.
        answers(|| ping(&duo.pair.client, address(to_gw1), TRY))?;
        answers(|| ping(&duo.pair.client, vip, TRY))?;
    }
    let frames = capture.since(silent);
    assert!(!frames.is_empty(), "the capture works");
    let spoken = frames.iter().find(|(_, frame)| vips.iter().any(|vip| speaks_for(frame, *vip)));
    assert!(spoken.is_none(), "the fenced node said {spoken:02x?}");
    let virtual_mac = frames.iter().find(|(_, frame)| frame[6..12] == [0, 0, 0x5e, 0, 1, 1]);
    assert!(virtual_mac.is_none(), "the fenced node used the virtual MAC: {virtual_mac:02x?}");
    duo.gw1.thaw()?;
    duo.wait_as_configured()?;
    duo.never_two_masters()
}

fn at_the_virtual_mac(duo: &Duo, vip: IpAddr) -> Result<()> {
    let known = duo.pair.client.ip(&format!("neighbour show to {vip} dev eth0"))?;
    assert!(known.contains(VIRTUAL_MAC), "{vip} is not at the virtual MAC: {known}");
    Ok(())
}

fn answers(ask: impl Fn() -> Result<Option<Span>>) -> Result<()> {
    clock::wait_for("a reply", PATIENCE, || ask().ok().flatten().map(drop))
}

fn real_mac(duo: &Duo) -> Result<[u8; 6]> {
    let line = duo.pair.gw1().ip("-o link show dev lan0")?;
    let text = line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Ok(bytes.try_into().unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
