//! Somebody else takes the addresses of a master away.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::pair::Pair;
use serde_json::Value;

/// How long a VIP may be away.
const AWAY: Span = Span::millis(50);
const VIPS: [&str; 2] = ["10.77.1.1/32", "fd77:1::1/128"];

fn taken(carpd: &Carpd) -> Result<u64> {
    carpd.carpctl_status()?.get("addresses_taken").and_then(Value::as_u64).context("no counter")
}

#[test]
fn a_vip_that_somebody_else_removes_is_back_at_once_counted_and_named() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    carpd.wait_role("MASTER", PATIENCE)?;
    let shown = || pair.gw1().ip("-oneline address show dev lan0");
    let all = |text: &str| VIPS.iter().all(|vip| text.contains(vip));
    clock::wait_for("the VIPs", PATIENCE, || shown().is_ok_and(|text| all(&text)).then_some(()))?;
    assert_eq!(taken(&carpd)?, 0);
    // The time that it takes to look is in it, and what else this machine does: so the best of a few counts.
    let mut best = PATIENCE;
    for round in 1_u64..=5 {
        for vip in VIPS {
            pair.gw1().ip(&format!("address del {vip} dev lan0"))?;
            let gone = clock::now();
            clock::wait_for(vip, Span::secs(1), || {
                shown().is_ok_and(|text| text.contains(vip)).then_some(())
            })?;
            best = best.min(clock::now().since(gone));
        }
        assert_eq!(taken(&carpd)?, round * 2);
    }
    ensure!(best <= AWAY, "away for {best} at best");
    // It looks again whether all is gone, takes away what is back, and may give up: it is counted each time.
    drop(pair.gw1().ip("address flush dev lan0 to 10.77.1.1/32"));
    clock::wait_for("a flush", PATIENCE, || taken(&carpd).is_ok_and(|count| count > 10).then_some(()))?;
    clock::wait_for("the VIPs", Span::secs(1), || shown().is_ok_and(|text| all(&text)).then_some(()))?;
    let log = carpd.process()?.log();
    for word in ["10.77.1.1", "fd77:1::1", "lan0"] {
        let named = |line: &str| line.contains("took a VIP of ours away") && line.contains(word);
        assert!(log.lines().any(named), "{word} is not named in: {log}");
    }
    Ok(())
}

#[test]
fn what_carpd_or_its_link_takes_away_is_not_counted() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway())?;
    for _ in 0..3 {
        carpd.wait_role("MASTER", PATIENCE)?;
        carpd.carpctl(&["demote", "test"])?;
        pair.gw1().ip("link set lan0 down")?;
        clock::wait_for("INIT", PATIENCE, || carpd.has_role(0, "INIT").then_some(()))?;
        pair.gw1().ip("link set lan0 up")?;
        carpd.carpctl(&["undemote", "test"])?;
    }
    carpd.wait_role("MASTER", PATIENCE)?;
    assert_eq!(taken(&carpd)?, 0);
    Ok(())
}
