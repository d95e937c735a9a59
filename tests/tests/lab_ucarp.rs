//! carpd and ucarp, an implementation that is not ours, as each other's peer.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::adverts::{Listener, STAMPS};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::ping;
use carp_tests::lab::ucarp::{Options, Ucarp};
use carp_tests::lab::{Purpose, clock};

/// Our dead time with skew 0; not a moment earlier.
const DEAD: Span = Span::secs(3);
/// And so much later at most.
const LATE: Span = Span::millis(50);
/// ucarp notices things up to a second late, twice, and waits for its script.
const UCARP_PATIENCE: Span = Span::secs(12);

#[test]
fn the_role_moves_between_ucarp_and_us_both_ways_again_and_again() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let adverts = Listener::start(&pair.switch, &["lan-gw1", "lan-gw2"])?;
    // Better than ucarp but patient: it is master until it dies.
    let config = Config { preempt: false, ..Config::gateway().for_ucarp() };
    let mut ours = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    let mut theirs = start_ucarp(&pair)?;
    theirs.wait_master(true, UCARP_PATIENCE)?;
    for turn in 1..=turns() {
        ours.run()?;
        let begun = clock::now();
        // Two of its adverts, so that we have heard one for certain.
        let heard = adverts.first_after("lan-gw2", begun, UCARP_PATIENCE)?;
        adverts.first_after("lan-gw2", heard.at + Span::millis(1), UCARP_PATIENCE)?;
        ensure!(ours.is_all("BACKUP"), "turn {turn}: not its backup: {}", ours.status()?);
        answers(&pair).with_context(|| format!("turn {turn}, ucarp is master"))?;

        let killed = theirs.kill()?;
        let first = adverts.first_after("lan-gw1", killed, PATIENCE)?;
        let last = adverts.last_before("lan-gw2", first.at)?;
        let took = first.at.since(last.at);
        ensure!(
            took + STAMPS >= DEAD && took <= DEAD + LATE,
            "turn {turn}: we advertised {took} after its last advert"
        );
        ours.wait_serving(PATIENCE)?;
        answers(&pair).with_context(|| format!("turn {turn}, we are master"))?;

        theirs = start_ucarp(&pair)?;
        let listening = clock::now();
        adverts.first_after("lan-gw1", listening, PATIENCE)?;
        let stopped = ours.stop()?;
        theirs.wait_master(true, UCARP_PATIENCE).with_context(|| format!("turn {turn}, after we stopped"))?;
        let farewell = adverts.all().into_iter().rfind(|seen| seen.port == "lan-gw1");
        ensure!(
            farewell.is_some_and(|seen| seen.is_bow_out() && seen.at >= stopped),
            "turn {turn}: no farewell"
        );
    }
    Ok(())
}

#[test]
fn a_better_ucarp_that_preempts_makes_us_its_backup() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let ours = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().for_ucarp().with_skew(50))?;
    ours.wait_role("MASTER", PATIENCE)?;
    let options = Options { preempt: true, ..Options::lan("10.77.1.3") };
    let theirs = Ucarp::start(pair.lab.folder(), pair.gw2(), &options)?;
    theirs.wait_master(true, UCARP_PATIENCE)?;
    ours.wait_role("BACKUP", PATIENCE)?;
    answers(&pair)
}

#[test]
fn with_preemption_we_take_over_from_a_worse_ucarp_and_it_yields() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let theirs = start_ucarp(&pair)?;
    theirs.wait_master(true, UCARP_PATIENCE)?;
    let ours = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().for_ucarp())?;
    ours.wait_role("MASTER", PATIENCE)?;
    theirs.wait_master(false, UCARP_PATIENCE)?;
    ours.wait_serving(PATIENCE)?;
    answers(&pair)
}

#[test]
fn with_different_passwords_both_are_master_and_our_counter_says_badauth() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let ours = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().for_ucarp())?;
    let options = Options { password: "another", ..Options::lan("10.77.1.3") };
    let theirs = Ucarp::start(pair.lab.folder(), pair.gw2(), &options)?;
    theirs.wait_master(true, UCARP_PATIENCE)?;
    ours.wait_role("MASTER", PATIENCE)?;
    let refused = || ours.refused(0, "badauth").ok().filter(|&count| count >= 2);
    clock::wait_for("two adverts refused as badauth", PATIENCE, refused)?;
    assert!(ours.is_all("MASTER") && theirs.is_master());
    Ok(())
}

/// Worse than ours, and patient.
fn start_ucarp(pair: &Pair) -> Result<Ucarp> {
    Ucarp::start(pair.lab.folder(), pair.gw2(), &Options { skew: 20, ..Options::lan("10.77.1.3") })
}

fn answers(pair: &Pair) -> Result<()> {
    let vip = "10.77.1.1".parse()?;
    clock::wait_for("a reply of the VIP", PATIENCE, || {
        ping(&pair.client, vip, Span::millis(500)).ok().flatten().map(drop)
    })
}

/// Three, or with `CARP_LONG` set, twenty.
fn turns() -> u32 {
    if std::env::var_os("CARP_LONG").is_some() { 20 } else { 3 }
}
