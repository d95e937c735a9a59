//! The datapath of real daemons, seen by a client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anyhow::Result;
use carp_common::map::Counter;
use carp_common::time::Span;
use carp_tests::lab::capture::Capture;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::ping::ping;
use carp_user::io::bpf::{Counters, read_pinned};
use std::net::IpAddr;

const VIPS: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
const REAL: [&str; 2] = ["10.77.1.2", "fd77:1::2"];
const VIRTUAL_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 1];
const TRY: Span = Span::millis(300);

#[test]
fn pings_are_answered_by_the_datapath_alone_when_its_virtual_host_says_so() -> Result<()> {
    let duo = Duo::elected(&Config { answer_ping: true, ..Config::gateway() })?;
    let (client, gw1) = (&duo.pair.client, duo.pair.gw1());
    gw1.sysctl("ipv4/icmp_echo_ignore_all", "1")?;
    gw1.sysctl("ipv6/icmp/echo_ignore_all", "1")?;
    let capture = Capture::start(&duo.pair.switch, "lan-gw1")?;
    let begun = clock::now();
    for (vip, real) in VIPS.map(address).into_iter().zip(REAL.map(address)) {
        clock::wait_for("an answer", PATIENCE, || ping(client, vip, TRY).ok().flatten())?;
        assert_eq!(ping(client, real, TRY)?, None, "the kernel of gw1 answers no ping");
    }
    let frames = capture.since(begun);
    let answers: Vec<_> = frames.iter().filter(|(_, frame)| is_answer(frame)).collect();
    assert!(answers.len() >= 2, "both families: {answers:02x?}");
    assert!(answers.iter().all(|(_, frame)| frame[6..12] == VIRTUAL_MAC), "{answers:02x?}");
    assert!(count(&duo, Counter::PingAnswered)? >= 2);
    duo.never_two_masters()
}

fn is_answer(frame: &[u8]) -> bool {
    match frame[12..14] {
        [8, 0] => frame[23] == 1 && frame[34] == 0,
        [0x86, 0xdd] => frame[20] == 58 && frame[54] == 129,
        _ => false,
    }
}

/// Of gw1, all virtual hosts together.
fn count(duo: &Duo, counter: Counter) -> Result<u64> {
    Ok(Counters::sum(read_pinned(duo.gw1.instance())?.counters.values()).get(counter))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
