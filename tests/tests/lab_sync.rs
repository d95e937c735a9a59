//! Connections that live on when the gateway changes: replicated before, under a firewall that knows no others.

use anyhow::Result;
use carp_common::time::{Instant, Span};
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{
    SERVER, STRICT, fortify, in_step, known, replicating, streams, wait_for_state,
};
use carp_tests::lab::stream::{Load, Stream, all_talk, finish_all};

/// Keys of the sync link; the first is that of [`Config::with_sync`].
const KEYS: [&str; 3] = [
    "c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
];
/// Connections of a test.
const STREAMS: usize = 20;

#[test]
fn connections_live_on_through_a_planned_move_and_back() -> Result<()> {
    live_on(|duo| duo.gw1.stop().map(drop), |duo| duo.gw1.run())
}

#[test]
fn connections_live_on_when_the_masters_daemon_is_killed_and_when_it_is_back() -> Result<()> {
    live_on(|duo| duo.gw1.kill().map(drop), |duo| duo.gw1.run())
}

#[test]
fn connections_live_on_when_the_master_loses_its_links() -> Result<()> {
    let plug = |duo: &mut Duo, up| ["lan-gw1", "wan-gw1"].iter().try_for_each(|port| duo.pair.plug(port, up));
    live_on(|duo| plug(duo, false), |duo| plug(duo, true))
}

#[test]
fn connections_live_on_when_the_masters_daemon_is_frozen_and_when_it_wakes_up() -> Result<()> {
    live_on(|duo| duo.gw1.freeze().map(drop), |duo| duo.gw1.thaw().map(drop))
}

#[test]
fn connections_live_on_when_the_master_is_dead_and_off_all_its_links_and_when_it_is_back() -> Result<()> {
    let leave = |duo: &mut Duo| {
        duo.gw1.freeze()?;
        duo.pair.connect(0, false)
    };
    let come_back = |duo: &mut Duo| {
        // Longer than the silence after which a peer is gone: what this node knows of the connections is old.
        clock::sleep(Span::secs(6));
        duo.pair.connect(0, true)?;
        duo.gw1.thaw().map(drop)
    };
    live_on(leave, come_back)
}

#[test]
fn both_kernels_have_the_same_connections_and_the_status_says_so() -> Result<()> {
    let (duo, streams) = begun()?;
    in_step(&duo)?;
    let said = duo.gw2.carpctl(&["sync", "status"])?;
    let text = String::from_utf8(said.stdout)?;
    assert!(said.status.success() && text.starts_with("sync: in step with gw1-"), "{text}");
    assert!(text.contains(", 0 of 4096 buckets differ, lag "), "{text}");
    for (carpd, place) in [(&duo.gw1, "local"), (&duo.gw2, "replicated")] {
        let listed = carpd.carpctl(&["states", "list", "--protocol", "tcp", "--address", SERVER])?;
        let listed = String::from_utf8(listed.stdout)?;
        let of_both = listed.lines().filter(|line| line.ends_with(&format!(" s: {place}"))).count();
        assert_eq!((of_both, listed.lines().count()), (STREAMS, STREAMS), "{listed}");
        assert!(listed.contains(", from 10.77.2.1:") && listed.contains(", ESTABLISHED, "), "{listed}");
        let said = carpd.carpctl(&["states", "count", "--json"])?;
        let counts: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        assert_eq!(counts["tcp"][place], STREAMS, "{counts}");
        let said = carpd.carpctl(&["sync", "diff"])?;
        assert!(said.status.success() && said.stdout == b"nothing differs\n", "{said:?}");
    }
    finish_all(streams)
}

#[test]
fn when_the_sync_link_was_out_for_a_while_the_tables_become_equal_again() -> Result<()> {
    let (duo, before) = begun()?;
    in_step(&duo)?;
    duo.pair.gw2().ip("link set sync0 down")?;
    // Both find out by themselves, after five seconds of silence.
    for carpd in [&duo.gw1, &duo.gw2] {
        wait_for_state(carpd, "alone")?;
    }
    let said = duo.gw2.carpctl(&["sync", "status"])?;
    let text = String::from_utf8(said.stdout)?;
    assert!(said.status.code() == Some(10) && text.starts_with("sync: no peer since "), "{text}");
    let meanwhile = streams(&duo.pair, STREAMS, Load::default())?;
    let said = duo.gw1.carpctl(&["sync", "diff"])?;
    let named = String::from_utf8(said.stdout)?;
    let unconfirmed = named.lines().filter(|line| line.contains(SERVER) && line.ends_with(": unconfirmed"));
    assert_eq!((unconfirmed.count(), said.status.code()), (STREAMS, Some(10)), "{named}");
    finish_all(before)?;
    duo.pair.gw2().ip("link set sync0 up")?;
    in_step(&duo)?;
    all_talk(&meanwhile, 1)?;
    finish_all(meanwhile)
}

#[test]
fn a_peer_with_another_key_gets_nothing_and_the_election_goes_on() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let config = Config::gateway().with_sync();
    let other = Config {
        sync: config.sync.map(|(own, peer, _)| {
            (peer, own, "00ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42c0ffee42")
        }),
        skew: 100,
        ..config.clone()
    };
    let gw1 = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    let gw2 = Carpd::start(&pair.lab, pair.gw2(), &other)?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw2.wait_role("BACKUP", PATIENCE)?;
    // Neither waits for its peer's connections for ever.
    clock::wait_for("the demotions to end", PATIENCE.times(2), || {
        [&gw1, &gw2].iter().all(|carpd| demotion(carpd) == Some(0)).then_some(())
    })?;
    for carpd in [&gw1, &gw2] {
        let state = carpd.status()?["sync"]["state"].clone();
        assert!(state == "alone" || state == "greeting", "{state}");
    }
    Ok(())
}

/// By the steps of `docs/replication.md`: first with both keys good for a while, then with none that both have.
#[test]
fn the_key_is_changed_on_one_node_after_the_other_and_nothing_moves_nor_is_lost() -> Result<()> {
    let config = Config::gateway().with_sync();
    let mut duo = replicating()?;
    let begun = clock::now();
    let streams = streams(&duo.pair, STREAMS, Load::default())?;
    in_step(&duo)?;
    for (on_master, keys, goes_on) in
        [(true, [KEYS[1], KEYS[0]].as_slice(), true), (false, &KEYS[1..2], false), (true, &KEYS[1..2], true)]
    {
        let at = clock::now();
        change_key(&mut duo, on_master, &config, keys)?;
        new_session(&duo, at, !goes_on)?;
        in_step(&duo)?;
        all_talk(&streams, 1)?;
    }
    change_key(&mut duo, true, &config, &KEYS[2..])?;
    wait_for_state(&duo.gw1, "alone")?;
    let held = [known(duo.pair.gw1())?, known(duo.pair.gw2())?];
    assert!(held[0] == held[1] && held[0].len() == STREAMS, "{held:?}");
    change_key(&mut duo, false, &config, &KEYS[2..])?;
    in_step(&duo)?;
    duo.watch.catch_up()?;
    let changes = duo.watch.changes(begun, Instant::MAX);
    assert!(changes.is_empty() && duo.gw1.is_all("MASTER"), "nothing moves: {changes:?}");
    // What the backup has, it has rightly.
    duo.gw1.kill()?;
    duo.wait_moved()?;
    all_talk(&streams, 1)?;
    finish_all(streams)?;
    duo.never_two_masters()
}

#[test]
fn without_replication_the_same_connections_die() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    fortify(&duo.pair, STRICT)?;
    let stream = Stream::start(&duo.pair.client, &duo.pair.server, SERVER.parse()?)?;
    clock::sleep(Span::millis(200));
    duo.gw1.stop()?;
    duo.wait_moved()?;
    let before = stream.blocks();
    clock::sleep(Span::secs(3));
    assert_eq!(stream.blocks(), before, "this firewall lets nothing through that it has not seen begin");
    Ok(())
}

/// Through the move that `leave` brings about, and through the one back.
fn live_on(
    leave: impl FnOnce(&mut Duo) -> Result<()>,
    come_back: impl FnOnce(&mut Duo) -> Result<()>,
) -> Result<()> {
    let (mut duo, streams) = begun()?;
    leave(&mut duo)?;
    duo.wait_moved()?;
    all_talk(&streams, 1)?;
    come_back(&mut duo)?;
    duo.wait_as_configured()?;
    all_talk(&streams, 1)?;
    finish_all(streams)?;
    duo.never_two_masters()
}

fn change_key(duo: &mut Duo, on_master: bool, config: &Config, keys: &[&'static str]) -> Result<()> {
    let config = config.clone().with_sync_keys(keys);
    let (carpd, config) = if on_master { (&mut duo.gw1, config) } else { (&mut duo.gw2, config.of_backup()) };
    carpd.reread(&config, "reloaded: keys of the sync link").map(drop)
}

/// Whether the session that both have began after this moment, as it should or should not.
fn new_session(duo: &Duo, since: Instant, wanted: bool) -> Result<()> {
    for carpd in [&duo.gw1, &duo.gw2] {
        let is_so = || {
            let sync = carpd.status().ok()?["sync"].clone();
            // Replication tells of itself once a second.
            let settled = clock::now().since(since) > Span::millis(1500);
            let is_new = sync["since_ms"].as_u64()? < clock::now().since(since).as_millis();
            (settled && is_new == wanted && sync["state"] == "in-step").then_some(())
        };
        clock::wait_for("the session to be the right one", PATIENCE, is_so)?;
    }
    Ok(())
}

fn demotion(carpd: &Carpd) -> Option<i64> {
    carpd.status().ok()?["demotion"].as_i64()
}

fn begun() -> Result<(Duo, Vec<Stream>)> {
    let duo = replicating()?;
    let streams = streams(&duo.pair, STREAMS, Load::default())?;
    Ok((duo, streams))
}
