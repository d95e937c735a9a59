//! An armed backup, seen by a client: its kernel alone takes over from a dead master, and not for long.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use anyhow::{Context, Result};
use carp_common::id::{IfIndex, Mac};
use carp_common::map::ARMED_FOR;
use carp_common::time::{Instant, Span};
use carp_common::wire::Frame;
use carp_common::wire::arp::{Arp, REQUEST};
use carp_common::wire::eth::{ARP, Ethernet};
use carp_tests::lab::capture::{Capture, Frame as Captured, speaks_for};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::echo::Echo;
use carp_tests::lab::ping::ping;
use carp_user::io::advert::Sender;
use std::net::{IpAddr, Ipv4Addr};
use zerocopy::IntoBytes;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 10);
const VIRTUAL_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 1];
const LAN: u32 = 0;
/// Dead time of gw2: base 1, skew 100.
const DEAD: Span = Span::micros(3_390_625);
/// What a loaded machine may add to a moment.
const SLACK: Span = Span::millis(250);
/// The captures' stamps are of another clock, converted.
const STAMP: Span = Span::millis(1);

#[test]
fn with_its_daemon_frozen_an_armed_backup_serves_from_the_dead_time_on_and_stops_by_itself() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER.into())?;
    let lan = Capture::start(&duo.pair.switch, "lan-gw2")?;
    let wan = Capture::start(&duo.pair.switch, "wan-gw2")?;
    let mut windows = duo.gw2.windows();
    clock::wait_for("gw2 to be armed", PATIENCE, || {
        let standing = windows.read(LAN).ok()?;
        standing.window.opening(standing.heard).map(drop)
    })?;
    let frozen = duo.gw2.freeze()?;
    clock::wait_for("gw2's kernel to hear gw1 without its daemon", PATIENCE, || {
        (windows.read(LAN).ok()?.heard > frozen).then_some(())
    })?;
    let killed = duo.gw1.kill()?;
    duo.pair.plug("lan-gw1", false)?;
    let standing = windows.read(LAN)?;
    let opens = standing.window.opening(standing.heard).context("gw2 is armed for long enough")?;
    let last = duo.adverts.last_before("lan-gw1", killed + STAMP)?.at;
    let silence = opens.since(last);
    assert!(DEAD <= silence + STAMP && silence <= DEAD + SLACK, "it opens {silence} after gw1's last advert");
    let closes = opens + ARMED_FOR;
    clock::sleep_until(opens - SLACK);
    ask_until(&duo, closes + SLACK.times(2))?;
    duo.watch.catch_up()?;
    let begun = duo
        .watch
        .changes(frozen, Instant::MAX)
        .into_iter()
        .find(|change| (change.node, change.slot) == (1, LAN));
    assert!(begun.is_some_and(|change| change.serves && opens <= change.at), "{begun:?}, opens at {opens:?}");
    assert!(windows.serves_none(), "it is closed again");
    let answers = lan.since(frozen).into_iter().filter(|(_, frame)| is_answer(frame)).collect();
    let forwarded = wan.since(frozen).into_iter().filter(|(_, frame)| is_forwarded(frame)).collect();
    within("ARP answers", answers, (opens, closes));
    within("forwarded frames", forwarded, (opens, closes));
    let spoken =
        duo.adverts.all().into_iter().find(|seen| seen.port == "lan-gw2" && seen.at > frozen + STAMP);
    assert!(spoken.is_none(), "its daemon slept: {spoken:?}");
    drop(echo);
    duo.gw2.thaw()?;
    duo.wait_moved()?;
    clock::wait_for("a reply of the VIP", PATIENCE, || {
        ping(&duo.pair.client, IpAddr::V4(VIP), SLACK).ok().flatten().map(drop)
    })?;
    duo.never_two_masters()
}

/// The client asks for the VIP, once in a millisecond.
fn ask_until(duo: &Duo, end: Instant) -> Result<()> {
    let client = &duo.pair.client;
    let link = IfIndex(client.ifindex("eth0")?);
    let mac = Mac([2, 0, 0, 0, 0, 0x10]);
    let ethernet = Ethernet::new(Mac([0xff; 6]), mac, ARP);
    let question = Arp::new(REQUEST, (mac, CLIENT.octets()), (Mac([0; 6]), VIP.octets()));
    let frame = Frame::of(&[ethernet.as_bytes(), question.as_bytes()]);
    client.enter(|| {
        let sender = Sender::open()?;
        while clock::now() < end {
            sender.send(link, &frame)?;
            clock::sleep(Span::millis(1));
        }
        Ok(())
    })
}

/// Some in the window, none outside.
fn within(what: &str, frames: Vec<Captured>, (opens, closes): (Instant, Instant)) {
    let times: Vec<Instant> = frames.into_iter().map(|(at, _)| at).collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { panic!("no {what}") };
    println!(
        "{} {what}, from {} to {} after the window opened",
        times.len(),
        first.since(opens),
        last.since(opens)
    );
    assert!(opens <= *first + STAMP && *first < closes, "the first of the {what} came at {first:?}");
    assert!(*last < closes + SLACK, "the last of the {what} came at {last:?}");
}

fn is_answer(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6] && frame[21] == 2 && frame[6..12] == VIRTUAL_MAC && speaks_for(frame, VIP.into())
}

fn is_forwarded(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[30..34] == SERVER.octets() && speaks_for(frame, CLIENT.into())
}
