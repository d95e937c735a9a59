//! A pair that serves and is probed, whose configuration is changed: of the virtual hosts that are not named in the change
//! nothing is to be seen of it.

use super::carpd::Carpd;
use super::clock;
use super::config::Config;
use super::duo::{Duo, PATIENCE};
use super::echo::Echo;
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 2, 10));
/// A probe whose answer is still under way is not lost.
const UNDER_WAY: Span = Span::millis(200);

/// An elected pair, and what is known of it before it is changed.
pub struct Scene {
    echo: Echo,
    from: Instant,
    /// The first two virtual hosts of gw1 and gw2, by slot.
    before: [Vec<Value>; 2],
    /// The pair.
    pub duo: Duo,
}

impl Scene {
    /// Probes go from the client to the server from now on, one in a millisecond.
    ///
    /// # Errors
    /// When no pair comes about.
    pub fn new(config: &Config) -> Result<Self> {
        let duo = Duo::elected(config)?;
        let echo = Echo::start(&duo.pair.client, &duo.pair.server, SERVER)?;
        let begun = clock::now();
        clock::wait_for("probes", PATIENCE, || echo.answered_since(begun).then_some(()))?;
        let before = [hosts(&duo.gw1)?, hosts(&duo.gw2)?];
        Ok(Self { echo, from: clock::now(), before, duo })
    }

    /// gw2 first, or else gw1; the other so much later.
    ///
    /// # Errors
    /// When one of them does not follow.
    pub fn reload(&mut self, config: &Config, gw2_first: bool, apart: Span) -> Result<()> {
        let backup = config.clone().of_backup();
        if gw2_first {
            self.duo.gw2.reload_live(&backup)?;
            clock::sleep(apart);
            self.duo.gw1.reload_live(config)?;
        } else {
            self.duo.gw1.reload_live(config)?;
            clock::sleep(apart);
            self.duo.gw2.reload_live(&backup)?;
        }
        Ok(())
    }

    /// gw1 serves the first two virtual hosts without a break, no probe was lost, and what was counted stays: since it
    /// was asked last.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn untouched(&mut self) -> Result<()> {
        // So that some were sent since.
        clock::sleep(UNDER_WAY);
        let to = clock::now();
        clock::sleep(UNDER_WAY);
        let report = self.echo.report(self.from, to);
        ensure!(report.sent > 50 && report.lost == 0, "{report:?}");
        self.duo.watch.catch_up()?;
        let changes = self.duo.watch.changes(self.from, Instant::MAX);
        ensure!(changes.is_empty(), "{changes:?}");
        self.duo.never_two_masters()?;
        let after = [hosts(&self.duo.gw1)?, hosts(&self.duo.gw2)?];
        for (before, after) in self.before.iter().flatten().zip(after.iter().flatten()) {
            goes_on(before, after).with_context(|| format!("{before}\n{after}"))?;
        }
        (self.before, self.from) = (after, to);
        Ok(())
    }
}

fn hosts(gw: &Carpd) -> Result<Vec<Value>> {
    let status = gw.status()?;
    let hosts = status["hosts"].as_array().context("no hosts")?;
    let all = [("lan0", 1), ("wan0", 2)].map(|(interface, vhid)| {
        let is_it = |host: &&Value| host["interface"] == interface && host["vhid"] == vhid;
        hosts.iter().find(is_it).cloned().context("a virtual host is missing")
    });
    all.into_iter().collect()
}

/// The same role for longer, and no counter that has become less.
fn goes_on(before: &Value, after: &Value) -> Result<()> {
    ensure!(before["role"] == after["role"] && before["reason"] == after["reason"]);
    let number = |of: &Value, name: &str| of.pointer(name).and_then(Value::as_u64).unwrap_or(0);
    for name in ["/since_ms", "/accepted", "/sent"] {
        ensure!(number(before, name) <= number(after, name), "{name}");
    }
    for table in ["refused", "datapath"] {
        for (name, count) in before[table].as_object().context("a table")? {
            ensure!(count.as_u64() <= after[table][name].as_u64(), "{table} {name}");
        }
    }
    Ok(())
}
