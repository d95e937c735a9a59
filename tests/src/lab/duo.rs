//! Two gateways with carpd between a client and a server, elected and watched: where most tests
//! of fail-over begin.

use super::adverts::Listener;
use super::carpd::Carpd;
use super::config::Config;
use super::pair::Pair;
use super::windows::Watch;
use super::{Purpose, clock};
use anyhow::{Result, ensure};
use carp_common::time::{Instant, Span};

/// Longest wait for a role: two dead times and then some.
pub const PATIENCE: Span = Span::secs(10);
const PORTS: [&str; 4] = ["lan-gw1", "lan-gw2", "wan-gw1", "wan-gw2"];

/// A pair with daemons. Fields drop in this order: instruments, daemons, network.
pub struct Duo {
    /// What the two datapaths serve.
    pub watch: Watch,
    /// What comes into the switch.
    pub adverts: Listener,
    /// gw1, skew 0.
    pub gw1: Carpd,
    /// gw2, skew 100.
    pub gw2: Carpd,
    /// The network.
    pub pair: Pair,
    begun: Instant,
}

impl Duo {
    /// Starts gw1 with `config` and gw2 with 100 more skew, and waits until gw1 is master and
    /// serves everything and gw2 is its backup.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn elected(config: &Config) -> Result<Self> {
        Self::elected_in(Pair::new(Purpose::Test)?, config)
    }

    /// The same in a network that is already there.
    ///
    /// # Errors
    /// As [`Duo::elected`].
    pub fn elected_in(pair: Pair, config: &Config) -> Result<Self> {
        Self::elected_with(pair, [config, &config.clone().of_backup()], |_, _| Ok(()))
    }

    /// The same with a configuration each, and with this done to gw1 and gw2 before they run.
    ///
    /// # Errors
    /// As [`Duo::elected`], and what that says.
    pub fn elected_with(
        pair: Pair,
        [first, second]: [&Config; 2],
        prepare: impl FnOnce(&Carpd, &Carpd) -> Result<()>,
    ) -> Result<Self> {
        let adverts = Listener::start(&pair.switch, &PORTS)?;
        let mut gw1 = Carpd::configure(&pair.lab, pair.gw1(), first)?;
        let mut gw2 = Carpd::configure(&pair.lab, pair.gw2(), second)?;
        prepare(&gw1, &gw2)?;
        let watch = Watch::start([gw1.windows(), gw2.windows()]);
        let begun = clock::now();
        gw1.run()?;
        gw2.run()?;
        let duo = Self { watch, adverts, gw1, gw2, pair, begun };
        duo.wait_as_configured()?;
        // A backup that has not listened for a lease yet cannot be handed the role at once.
        duo.gw2.wait_since(Span::secs(3), PATIENCE)?;
        Ok(duo)
    }

    /// Waits until gw1 is master of everything and gw2 its backup, and with a datapath, until that
    /// serves.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_as_configured(&self) -> Result<()> {
        self.gw1.wait_role("MASTER", PATIENCE)?;
        self.gw2.wait_role("BACKUP", PATIENCE)?;
        self.gw1.wait_serving(PATIENCE)?;
        self.watch.catch_up()
    }

    /// Waits until gw2 is master of everything and serves it.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn wait_moved(&self) -> Result<()> {
        self.gw2.wait_role("MASTER", PATIENCE)?;
        self.gw2.wait_serving(PATIENCE)?;
        self.watch.catch_up()
    }

    /// The moment at which a node (0 or 1) began to serve every virtual host after `since`: that
    /// of the last of them.
    ///
    /// # Errors
    /// When it did not.
    pub fn served_at(&self, node: usize, since: Instant) -> Result<Instant> {
        let changes = self.watch.changes(since, Instant::MAX);
        let begun = changes.iter().filter(|change| change.node == node && change.serves);
        let last = begun.map(|change| change.at).max();
        ensure!(last.is_some(), "node {node} has not begun to serve; seen: {changes:?}");
        Ok(last.unwrap_or_default())
    }

    /// That never, since the start, two nodes served the same virtual host.
    ///
    /// # Errors
    /// When two did, with everything that was seen.
    pub fn never_two_masters(&self) -> Result<()> {
        let span = self.watch.two_masters(self.begun, Instant::MAX);
        let changes = self.watch.changes(self.begun, Instant::MAX);
        ensure!(span == Span::ZERO, "two nodes served at once for {span}; seen: {changes:#?}");
        Ok(())
    }
}
