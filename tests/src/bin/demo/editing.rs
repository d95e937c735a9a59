//! What is changed on gw1 alone while everything runs: gw2 follows, or both stay as they were.

use crate::moves::Stage;
use crate::report::Edit;
use crate::screen::Screen;
use crate::translation::{self, OUTSIDE, OUTSIDE_THEN, PORTS};
use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::follow::{self, DRIFT, standing};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::{clock, ping};
use std::fs;

/// The LAN's list as it is, and with one more VIP.
const LISTS: [&str; 2] = ["\"10.77.1.1/24\",", "\"10.77.1.1/24\", \"10.77.1.7/24\","];
const NEW_VIP: &str = "10.77.1.7";
/// On a link that gw2 does not have.
const BAD: &str = "[[virtual_host]]
interface = \"dmz\"
vhid = 9
addresses = [\"10.77.3.9/24\"]
password_file = \"password\"

";
/// Longest that a ping may take.
const PING: Span = Span::secs(1);

/// Both edits, one after the other.
///
/// # Errors
/// What did not come as it should, in words.
pub fn perform(stage: &Stage, pair: &Pair, nodes: &[Carpd; 2], screen: &mut Screen) -> Result<Vec<Edit>> {
    let [gw1, _] = nodes;
    screen.wait("gw1 to know how gw2 stands", DRIFT, || follow::is_met(gw1))?;
    let (took, calm) = stage.calm(nodes, screen, |nodes, screen| follows(pair, nodes, screen))?;
    let good = Edit { name: "good change", took, calm };
    screen.line(&format!("       {}", good.summary()));
    let (took, calm) = stage.calm(nodes, screen, refuses)?;
    let bad = Edit { name: "bad change", took, calm };
    screen.line(&format!("       {}", bad.summary()));
    Ok(vec![good, bad])
}

/// A new VIP and another forwarded port, applied on gw1: how long until both use them.
fn follows(pair: &Pair, nodes: &[Carpd; 2], screen: &mut Screen) -> Result<Span> {
    let [gw1, gw2] = nodes;
    let text = fs::read_to_string(&gw1.files().carp)?;
    let text = [LISTS, PORTS].iter().fold(text, |text, [from, to]| text.replacen(from, to, 1));
    let at = clock::now();
    let said = follow::apply(gw1, &text, &[])?;
    let took = clock::now().since(at);
    ensure!(said.status.success(), "gw1 does not apply it: {}", follow::says(&said));
    quote("gw1  carpctl apply new.toml", &follow::says(&said), screen);
    for (name, carpd) in ["gw1", "gw2"].into_iter().zip(nodes) {
        let nat = follow::says(&carpd.carpctl(&["nat"])?);
        ensure!(nat.contains(OUTSIDE_THEN) && !nat.contains(OUTSIDE), "{name} translates otherwise: {nat}");
        ensure!(follow::uses(carpd, NEW_VIP), "{name} does not have {NEW_VIP}");
    }
    let answers = ping::ping(&pair.client, NEW_VIP.parse()?, PING)?.is_some();
    ensure!(answers, "{NEW_VIP} does not answer");
    ensure!(translation::is_forwarded(pair, OUTSIDE_THEN)?, "{OUTSIDE_THEN} is not forwarded");
    ensure!(!translation::is_forwarded(pair, OUTSIDE)?, "{OUTSIDE} is still forwarded");
    screen.wait("both to show one configuration", DRIFT, || follow::agree(gw1, gw2))?;
    let shown = is_one(nodes)?;
    screen.line(&format!("       {NEW_VIP} answers, {OUTSIDE_THEN} is forwarded; {shown}"));
    Ok(took)
}

/// What fits gw1 and not gw2: how long until it is refused. Nothing has changed on either.
fn refuses(nodes: &[Carpd; 2], screen: &mut Screen) -> Result<Span> {
    let [gw1, gw2] = nodes;
    let texts =
        || anyhow::Ok([fs::read_to_string(&gw1.files().carp)?, fs::read_to_string(&gw2.files().carp)?]);
    let (before, shown) = (texts()?, is_one(nodes)?);
    let [text, _] = &before;
    let at = clock::now();
    let said = follow::apply(gw1, &format!("{BAD}{text}"), &[])?;
    let took = clock::now().since(at);
    let words = follow::says(&said);
    let is_refused =
        !said.status.success() && words.contains("neither node uses it") && words.contains("dmz");
    ensure!(is_refused, "it should be refused by gw2: {words}");
    quote("gw1  carpctl apply bad.toml", &words, screen);
    ensure!(texts()? == before, "a file has changed");
    ensure!(!nodes.iter().any(|carpd| follow::uses(carpd, "10.77.3.9")), "somebody uses it");
    ensure!(is_one(nodes)? == shown, "another revision than before");
    screen.line(&format!("       as before: {shown}"));
    Ok(took)
}

/// What both nodes show of their configuration: the same revision and the same hash.
fn is_one([gw1, gw2]: &[Carpd; 2]) -> Result<String> {
    let [one, two] = [standing(gw1)?, standing(gw2)?];
    let is_same = one["hash"].is_string() && one["hash"] == two["hash"] && one["revision"] == two["revision"];
    ensure!(is_same, "not the same on both: {one}\n{two}");
    let hash: String = one["hash"].as_str().context("a hash")?.chars().take(12).collect();
    Ok(format!("both nodes have revision {} ({hash}…)", one["revision"]))
}

fn quote(command: &str, says: &str, screen: &mut Screen) {
    screen.line(&format!("       {command}"));
    for line in says.lines().filter(|line| !line.trim().is_empty()) {
        screen.line(&format!("         {line}"));
    }
}
