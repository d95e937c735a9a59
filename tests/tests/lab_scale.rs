//! A thousand VIPs and five thousand rules of NAT: checked, applied and moved. The figures are printed; what is asserted
//! is no tighter than what a person would call broken.

use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::arrivals::Arrivals;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_user::io::address;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

const HOSTS: u8 = 250;
const VIPS: u8 = 4;
const ALL: usize = HOSTS as usize * VIPS as usize;
const RULES: u16 = 5000;
/// Of anything here, on a machine that is busy with other things.
const BROKEN: Span = Span::secs(10);

/// They live as long as the test.
fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn config() -> Result<Config> {
    let addresses =
        |host: u8| (0..VIPS).map(move |vip| kept(format!("10.77.{}.{host}", 100 + vip))).collect();
    let host = |vhid| VirtualHost { interface: "lan", vhid, addresses: addresses(vhid), base: 1, skew: 0 };
    Ok(Config { hosts: (1..=HOSTS).map(host).collect(), ..Config::gateway() })
}

fn rules() -> Result<&'static str> {
    let mut text = String::new();
    for number in 0..RULES / 2 {
        let (host, [high, low]) = (number % u16::from(HOSTS) + 1, number.to_be_bytes());
        writeln!(
            text,
            "[[nat.outbound]]\nsource = [\"172.16.{high}.{low}/32\"]\ninterface = \"lan\"\nto = \"10.77.100.{host}\""
        )?;
        writeln!(
            text,
            "[[nat.forward]]\nto = \"10.77.101.{host}\"\nport = {}\nhost = \"172.16.{high}.{low}\"",
            1000 + number / u16::from(HOSTS)
        )?;
    }
    Ok(kept(text))
}

/// How long carpctl takes for this.
fn timed(gw: &Carpd, words: &[&str]) -> Result<Span> {
    let begun = clock::now();
    let output = gw.carpctl(words)?;
    let took = clock::now().since(begun);
    // 4: valid, with warnings; the VIPs are in no network of the link.
    let is_fine = matches!(output.status.code(), Some(0 | 4));
    ensure!(is_fine, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(took < BROKEN, "{words:?} took {took}");
    Ok(took)
}

/// VIPs that are on the node's links.
fn held(gw: &Carpd) -> Result<usize> {
    let own = gw.namespace().enter(|| Ok(address::own()?))?;
    let is_vip = |ip: &&std::net::IpAddr| ip.to_string().starts_with("10.77.10");
    Ok(own.iter().filter(is_vip).count())
}

#[test]
fn a_thousand_vips_and_five_thousand_rules_are_checked_applied_and_moved() -> Result<()> {
    let small = config()?;
    let mut duo = Duo::elected(&small)?;
    let large = small.clone().with_rules(rules()?);
    let folder = duo.gw1.files().carp.parent().context("a folder")?.to_owned();
    let file = folder.join("large.toml");
    std::fs::write(&file, large.carp_toml())?;
    let (file, node) = (file.to_str().context("a name")?, duo.gw1.files().node.to_str().context("a name")?);
    let from = clock::now();
    let check = timed(&duo.gw1, &["check", file, "--node", node])?;
    let apply = timed(&duo.gw1, &["apply", file])?;
    let again = timed(&duo.gw1, &["reload"])?;
    duo.watch.catch_up()?;
    let changes = duo.watch.changes(from, Instant::MAX);
    assert!(changes.is_empty(), "nothing moves: {changes:?}");
    eprintln!("{ALL} VIPs and {RULES} rules: check {check}, apply {apply}, the same again {again}");
    moves(&mut duo, "each for itself")
}

#[test]
fn a_thousand_vips_of_a_group_move_at_once() -> Result<()> {
    moves(&mut Duo::elected(&config()?.as_one())?, "as one")
}

/// The master stops, and the other node takes over all.
fn moves(duo: &mut Duo, how: &str) -> Result<()> {
    ensure!(held(&duo.gw1)? == ALL, "they are not held");
    let mut windows = duo.gw2.windows();
    clock::wait_for("gw2 to be the heir of all", PATIENCE, || {
        let mut all = (0..u32::from(HOSTS)).map(|slot| windows.read(slot).ok());
        all.all(|one| one.is_some_and(|one| one.window.is_armed(clock::now()))).then_some(())
    })?;
    let arrivals = Arrivals::listen(duo.gw2.namespace())?;
    let from = duo.gw1.begin_stop()?;
    let is_vip = |ip: Ipv4Addr| ip.octets().starts_with(&[10, 77]) && ip.octets()[2] >= 100;
    let (came_first, came_last) = arrivals.of(ALL, is_vip, PATIENCE)?;
    duo.gw1.finish_stop()?;
    duo.gw2.wait_serving(PATIENCE)?;
    duo.watch.catch_up()?;
    let changes = duo.watch.changes(from, Instant::MAX);
    let opened = || changes.iter().filter(|change| change.node == 1 && change.serves).map(|change| change.at);
    let closed = changes.iter().filter(|change| change.node == 0 && !change.serves).map(|change| change.at);
    let fenced = closed.min().context("it was fenced")?;
    let steps: BTreeSet<Instant> = opened().collect();
    let (first, last) = (opened().min().context("it serves")?, opened().max().context("it serves")?);
    eprintln!(
        "{ALL} VIPs, {how}: fenced {} after the signal; the datapath of all moves within {} in {} steps, {} after the \
         fence; the addresses within {}, all of them {} after the first window",
        fenced.since(from),
        last.since(first),
        steps.len(),
        last.since(fenced),
        came_last.since(came_first),
        came_last.since(first)
    );
    duo.never_two_masters()
}
