//! Moves that an operator asks for, with real daemons: that they are refused where nobody could take over, and that they stay.

use anyhow::{Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::Duo;
use carp_user::api::{Event, What};

/// Some more than the pace of adverts: by then a node that preempts has done so.
const PREEMPTED: Span = Span::millis(2_500);
/// Three adverts that do not come.
const DEAD: Span = Span::secs(3);

#[test]
fn a_failover_is_refused_where_there_is_nothing_or_nobody_to_hand_over_to() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    for (words, why) in [
        (&["failover", "lan0@9"][..], "no virtual host lan0@9"),
        (&["failover", "--to", "gw9"], "gw9 is not the node that can take over"),
        (&["failover", "--back"], "nothing is held back here"),
    ] {
        let said = fails(&duo.gw1, words)?;
        ensure!(said.contains(why), "{words:?}: {said}");
    }
    let said = fails(&duo.gw2, &["failover"])?;
    ensure!(said.contains("run it on the node that does"), "{said}");
    duo.gw2.kill()?;
    clock::sleep(Span::millis(6_500));
    for words in [&["failover"][..], &["maintenance", "on"]] {
        let said = fails(&duo.gw1, words)?;
        ensure!(said.contains("has said nothing for"), "{words:?}: {said}");
    }
    ensure!(duo.gw1.is_all("MASTER"), "it went all the same");
    duo.never_two_masters()
}

#[test]
fn a_failover_takes_no_dead_time_stays_tells_its_steps_and_is_taken_back() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    let asked = clock::now();
    let said = succeeds(&duo.gw1, &["failover"])?;
    ensure!(said.contains("lan0@1: ") && said.contains("wan0@2: "), "{said}");
    duo.wait_moved()?;
    let took = duo.served_at(1, asked)?.since(asked);
    ensure!(took < DEAD, "the other node served after {took}");
    clock::sleep(PREEMPTED + PREEMPTED);
    ensure!(duo.gw2.is_all("MASTER"), "it took the role back, as it ranks higher");
    let told = steps(&duo.gw2)?;
    ensure!(told == [["advert", "datapath", "announce", "addresses"]; 2], "{told:?}");
    succeeds(&duo.gw1, &["failover", "--back"])?;
    duo.wait_as_configured()?;
    duo.never_two_masters()
}

#[test]
fn maintenance_hands_over_outlives_a_restart_and_ends() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    let said = succeeds(&duo.gw1, &["maintenance", "on", "--for", "1h", "--reason", "new memory"])?;
    ensure!(said.contains("wan0@2: ") && duo.gw2.is_all("MASTER"), "{said}");
    let status = duo.gw1.carpctl(&["status"])?;
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.status.code() == Some(13) && text.contains("maintenance (new memory"), "{text}");
    duo.gw1.stop()?;
    duo.gw1.run()?;
    clock::sleep(PREEMPTED + PREEMPTED);
    ensure!(duo.gw2.is_all("MASTER"), "it came back");
    let demotions = duo.gw1.status()?["demotions"].clone();
    ensure!(
        demotions[0]["name"] == "maintenance" && demotions[0]["expires_ms"].as_u64() > Some(3_500_000),
        "{demotions}"
    );
    succeeds(&duo.gw1, &["maintenance", "off"])?;
    duo.wait_as_configured()?;
    duo.gw1.stop()?;
    duo.gw1.run()?;
    ensure!(duo.gw1.status()?["demotions"] == serde_json::json!([]), "its file is still there");
    duo.never_two_masters()
}

/// The steps of each take-over of a node, in their order.
fn steps(node: &Carpd) -> Result<Vec<Vec<String>>> {
    let told = succeeds(node, &["events", "--json"])?;
    let events = told.lines().map(serde_json::from_str::<Event>).collect::<Result<Vec<_>, _>>()?;
    let of_one = |event: Event| {
        let What::TakenOver { steps, .. } = event.what else { return None };
        Some(steps.into_iter().map(|step| step.step).collect())
    };
    Ok(events.into_iter().filter_map(of_one).collect())
}

fn succeeds(node: &Carpd, words: &[&str]) -> Result<String> {
    let output = node.carpctl(words)?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "carpctl {words:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

fn fails(node: &Carpd, words: &[&str]) -> Result<String> {
    let output = node.carpctl(words)?;
    ensure!(output.status.code() == Some(1), "carpctl {words:?} ended with {}", output.status);
    Ok(String::from_utf8(output.stderr)?)
}
