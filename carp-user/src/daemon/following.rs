//! Another configuration takes effect: what is needed for it first, then the node, then whatever is not needed any more.

use super::Daemon;
use super::reload::Ready;
use crate::config::Config;
use crate::io::bpf::Reach;
use crate::io::clock;
use crate::proto::event::{Changes, Event};
use crate::ruleset::Ruleset;
use crate::shells::Prepared;
use anyhow::Result;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

impl Daemon {
    /// Everything that can fail comes first, and changes nothing that is served.
    pub(super) fn apply(&mut self, config: Config, changes: Changes, reach: Option<Reach>) -> Result<()> {
        if config == self.config && changes.is_empty() {
            return Ok(());
        }
        self.settle_now();
        let set = self.shells.set_kernel(&config);
        let prepared = match set.and_then(|()| self.shells.prepare(self.node.setups(), &changes, reach)) {
            Ok(prepared) => prepared,
            Err(error) => {
                if let Err(error) = self.shells.set_kernel(&self.config) {
                    tracing::warn!(%error, "undoing a reload");
                }
                return Err(error);
            }
        };
        let leaving = changes.removed.iter().filter_map(|id| Some((*id, self.node.setup(*id)?.name())));
        self.leaving = leaving.collect();
        let is_edited = config.config_sync != self.config.config_sync;
        let edited = if is_edited { self.shells.edit(&config) } else { Ok(()) };
        if let Err(error) = edited.and_then(|()| self.shells.track(&config, &self.alarm)) {
            self.prepared = Some(prepared);
            self.settle_now();
            return Err(error);
        }
        self.tell_hooks_of_all();
        // What is published from here on follows it.
        self.config = config;
        self.detect(&changes);
        // The node may remember one that comes back as it was.
        self.describe_new(&prepared);
        let actions = self.node.handle(Event::Configure(changes), clock::now());
        self.unpublished = true;
        self.perform(actions.into());
        self.watch_anew();
        self.leaving.clear();
        self.describe_new(&prepared);
        self.prepared = Some(prepared);
        self.settle();
        if let (Some(replication), Some(sync)) = (&self.shells.replication, &self.config.sync) {
            replication.set_keys(sync.keys.clone());
        }
        Ok(())
    }

    /// Takes away what is not needed any more, if the kernel holds no address of those that have left: the datapath is what
    /// keeps these silent.
    pub(super) fn settle(&mut self) {
        let is_applied = *self.shells.applier.applied.borrow() == *self.shells.wanted.borrow();
        if is_applied {
            self.settle_now();
        }
    }

    /// nft replaces them as a whole or not at all.
    pub(super) fn load_rules(&self, ready: Ready) -> JoinHandle<Result<Ready>> {
        let table = Arc::clone(&self.shells.table);
        spawn_blocking(move || {
            table.replace(ready.ruleset.as_ref())?;
            Ok(Ready { are_rules_loaded: true, ..ready })
        })
    }

    /// Those of the configuration that runs.
    pub(super) fn restore_rules(&self) {
        let (table, ruleset) = (Arc::clone(&self.shells.table), Ruleset::of(&self.config));
        spawn_blocking(move || {
            if let Err(error) = table.replace(ruleset.as_ref()) {
                tracing::error!(%error, "the rules of nftables are not those of the configuration");
            }
        });
    }

    fn describe_new(&mut self, Prepared { links, .. }: &Prepared) {
        links.iter().for_each(|(link, facts)| self.link(*link, *facts));
    }

    /// A virtual host that is new may get the number of one that has left.
    fn settle_now(&mut self) {
        if let Some(prepared) = self.prepared.take() {
            self.shells.settle(prepared, self.node.setups());
        }
    }
}
