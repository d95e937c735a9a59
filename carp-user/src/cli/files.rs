//! The files of a configuration, as verbs take them that need no daemon.

use crate::config::{self, Config, Mistakes};
use std::path::PathBuf;

/// Exit code of an invalid configuration.
pub(super) const INVALID: u8 = 3;

/// Which files.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// The configuration that both nodes share.
    #[arg(default_value = "/etc/carp/carp.toml")]
    pub(super) file: PathBuf,
    /// What is of this node alone; without it node.toml beside the other, where there is one.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
}

impl Files {
    /// Those that are named so.
    pub(super) const fn at(file: PathBuf, node: Option<PathBuf>) -> Self {
        Self { file, node }
    }

    /// What they say.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn load(&self) -> Result<Config, Mistakes> {
        config::load(&self.file, self.node().as_deref())
    }

    /// The file of this node alone, if there is one.
    pub(super) fn node(&self) -> Option<PathBuf> {
        let beside = self.file.with_file_name("node.toml");
        self.node.clone().or_else(|| beside.is_file().then_some(beside))
    }
}
