//! A sync link that is bad, or gone for a while, and many new flows meanwhile: afterwards both kernels have the same.

use anyhow::{Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::flood::Flood;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::relay::Relay;
use carp_tests::lab::replicating::{
    STRICT, fortify, in_step, known, same_tables, streams, sync, wait_for_state,
};
use carp_tests::lab::stream::{Load, all_talk, finish_all};
use carp_tests::lab::{Purpose, clock};

const STREAMS: usize = 20;
const SEED: u64 = 42;
/// How long a bad cable may delay what has happened.
const SOON: Span = Span::secs(2);

#[test]
fn a_cable_that_loses_doubles_and_swaps_frames_delays_and_changes_nothing() -> Result<()> {
    let pair = place()?;
    let relay = Relay::between(&pair, SEED)?;
    let mut duo = Duo::elected_in(pair, &Config::gateway().with_sync())?;
    let connections = streams(&duo.pair, STREAMS, Load::default())?;
    let flood = Flood::start(&duo.pair, 5)?;
    clock::sleep(Span::secs(5));
    // The cable stays as bad as it is.
    let flows = flood.finish();
    equal_after(&duo, clock::now(), flows, SOON)?;
    in_step(&duo)?;

    let flood = Flood::start(&duo.pair, 5)?;
    clock::sleep(Span::secs(2));
    relay.heal();
    let healed = clock::now();
    equal_after(&duo, healed, flows + flood.finish(), SOON)?;
    in_step(&duo)?;
    let faults = relay.faults();
    ensure!(faults.lost.min(faults.doubled).min(faults.delayed) >= 10, "hardly a bad cable: {faults:?}");
    duo.gw1.stop()?;
    duo.wait_moved()?;
    all_talk(&connections, 1)?;
    finish_all(connections)
}

#[test]
fn a_link_that_was_cut_under_a_flood_of_new_flows_costs_one_bulk() -> Result<()> {
    let mut duo = Duo::elected_in(place()?, &Config::gateway().with_sync())?;
    let connections = streams(&duo.pair, STREAMS, Load::default())?;
    in_step(&duo)?;
    let flood = Flood::start(&duo.pair, 5)?;
    let before = flood.sent();
    duo.pair.gw2().ip("link set sync0 down")?;
    clock::sleep(cut());
    let meanwhile = flood.sent() - before;
    ensure!(meanwhile >= 4000 * cut().as_millis() / 1000, "a small flood: {meanwhile} flows in {}", cut());
    ensure!(!same_tables(&duo.pair)?, "the link is cut");
    duo.pair.gw2().ip("link set sync0 up")?;
    let healed = clock::now();
    // The flood goes on.
    wait_for_state(&duo.gw1, "in-step")?;
    wait_for_state(&duo.gw2, "in-step")?;
    let began = session_began(&duo)?;
    println!("in step after {}, with {} flows", clock::now().since(healed), flood.sent());
    equal_after(&duo, clock::now(), flood.finish(), PATIENCE)?;
    in_step(&duo)?;
    ensure!(began > healed, "the session outlived the cut: nothing was shown");
    ensure!(session_began(&duo)?.since(began) < Span::secs(1), "it took another bulk");
    duo.gw1.stop()?;
    duo.wait_moved()?;
    all_talk(&connections, 1)?;
    finish_all(connections)
}

/// A place where flows of UDP do not end during a test.
fn place() -> Result<Pair> {
    let pair = Pair::new(Purpose::Test)?;
    fortify(&pair, STRICT)?;
    for gateway in &pair.gateways {
        gateway.sysctl("netfilter/nf_conntrack_udp_timeout", "600")?;
    }
    Ok(pair)
}

/// So long after this moment at the latest both kernels have the same, and all of a flood.
fn equal_after(duo: &Duo, moment: Instant, flows: u64, limit: Span) -> Result<()> {
    let equal =
        clock::wait_for("equal tables", limit, || same_tables(&duo.pair).ok()?.then_some(clock::now()));
    let counts = [known(duo.pair.gw1())?.len(), known(duo.pair.gw2())?.len()];
    println!("equal: {:?}, {counts:?} of {flows} flows", equal.as_ref().map(|at| at.since(moment)));
    let equal = equal?;
    ensure!(equal.since(moment) <= limit, "equal {} later", equal.since(moment));
    // A datagram can be lost before it comes to the gateway.
    ensure!(counts[0] as u64 * 100 >= flows * 99, "{counts:?} connections, {flows} flows");
    Ok(())
}

/// When the present session of gw1 began.
fn session_began(duo: &Duo) -> Result<Instant> {
    let since = sync(&duo.gw1)?["since_ms"].as_u64().unwrap_or_default();
    Ok(clock::now() - Span::millis(since))
}

/// Longer than the silence after which a peer is gone; with `CARP_LONG` set, half a minute.
fn cut() -> Span {
    Span::secs(if std::env::var_os("CARP_LONG").is_some() { 30 } else { 7 })
}
