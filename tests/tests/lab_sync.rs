//! Connections that live on when the gateway changes: replicated before, under a firewall that knows no others.

use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::process::run_with_input;
use carp_tests::lab::stream::Stream;
use std::net::IpAddr;
use std::process::Command;

const SERVER: &str = "10.77.2.10";
/// Connections of a test.
const STREAMS: usize = 20;

/// Source translation to the WAN's virtual address, and a firewall that lets in only what the LAN began. A packet that
/// fits no connection, or not into its window, ends here.
const RULES: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 tcp flags & (syn|ack) == syn ct state new counter accept
        iifname lan0 ip protocol != tcp ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 counter snat to 10.77.2.1
    }
}
";

#[test]
fn connections_live_on_through_a_planned_move_and_back() -> Result<()> {
    let mut duo = replicating()?;
    let streams = streams(&duo)?;
    duo.gw1.stop()?;
    duo.wait_moved()?;
    all_talk(&streams)?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    all_talk(&streams)?;
    streams.into_iter().try_for_each(|stream| stream.finish().map(drop))?;
    duo.never_two_masters()
}

#[test]
fn connections_live_on_when_the_masters_daemon_is_killed_and_when_it_is_back() -> Result<()> {
    let mut duo = replicating()?;
    let streams = streams(&duo)?;
    duo.gw1.kill()?;
    duo.wait_moved()?;
    all_talk(&streams)?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    all_talk(&streams)?;
    streams.into_iter().try_for_each(|stream| stream.finish().map(drop))?;
    duo.never_two_masters()
}

#[test]
fn connections_live_on_when_the_master_loses_its_links() -> Result<()> {
    let duo = replicating()?;
    let streams = streams(&duo)?;
    for port in ["lan-gw1", "wan-gw1"] {
        duo.pair.plug(port, false)?;
    }
    duo.wait_moved()?;
    all_talk(&streams)?;
    for port in ["lan-gw1", "wan-gw1"] {
        duo.pair.plug(port, true)?;
    }
    duo.wait_as_configured()?;
    all_talk(&streams)?;
    streams.into_iter().try_for_each(|stream| stream.finish().map(drop))?;
    duo.never_two_masters()
}

#[test]
fn without_replication_the_same_connections_die() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    firewalls(&duo)?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, SERVER.parse::<IpAddr>()?)?;
    clock::sleep(Span::millis(200));
    duo.gw1.stop()?;
    duo.wait_moved()?;
    let before = stream.blocks();
    clock::sleep(Span::secs(3));
    assert_eq!(stream.blocks(), before, "this firewall lets nothing through that it has not seen begin");
    Ok(())
}

fn replicating() -> Result<Duo> {
    let duo = Duo::elected(&Config::gateway().with_sync())?;
    firewalls(&duo)?;
    Ok(duo)
}

fn firewalls(duo: &Duo) -> Result<()> {
    duo.pair.gateways.iter().try_for_each(firewall)
}

fn firewall(gateway: &Namespace) -> Result<()> {
    gateway.sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    run_with_input(Command::new("ip").args(["netns", "exec", gateway.name(), "nft", "--file", "-"]), RULES)
}

fn streams(duo: &Duo) -> Result<Vec<Stream>> {
    let start = |_| Stream::start(&duo.pair.client, &duo.pair.server, SERVER.parse::<IpAddr>()?);
    let streams = (0..STREAMS).map(start).collect::<Result<Vec<_>>>()?;
    all_talk(&streams)?;
    Ok(streams)
}

/// Each has a block come back that left after this moment.
fn all_talk(streams: &[Stream]) -> Result<()> {
    for (number, stream) in streams.iter().enumerate() {
        let before = stream.blocks();
        let talks = || (stream.blocks() > before + 1).then_some(());
        clock::wait_for(
            &format!("connection {number} of {} to talk", streams.len()),
            PATIENCE.times(2),
            talks,
        )?;
    }
    Ok(())
}
