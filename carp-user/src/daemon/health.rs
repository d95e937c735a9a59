//! Tracks that fail demote the node.

use super::Daemon;
use crate::config::Config;
use crate::health::Health;
use crate::proto::event::Event;
use crate::shells::Shells;
use anyhow::{Context, Result};

impl Daemon {
    /// Other findings: demotes the node by the name of each track that fails, and lifts the others.
    pub(super) fn demote_for_tracks(&mut self) {
        let commands = self.shells.health.as_mut().map(Health::commands).unwrap_or_default();
        commands.into_iter().for_each(|command| self.tell(Event::Command(command)));
    }
}

impl Shells {
    /// These tracks are looked at from now on.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn track(&mut self, config: &Config) -> Result<()> {
        match &self.health {
            Some(health) => health.set(&config.tracks),
            None if config.tracks.is_empty() => {}
            None => {
                let health = Health::start(config.tracks.clone()).context("starting the thread of tracks")?;
                self.health = Some(health);
            }
        }
        Ok(())
    }
}
