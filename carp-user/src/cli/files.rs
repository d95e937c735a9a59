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
    /// What they say.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn load(&self) -> Result<Config, Mistakes> {
        let beside = self.file.with_file_name("node.toml");
        let node = self.node.clone().or_else(|| beside.is_file().then_some(beside));
        config::load(&self.file, node.as_deref())
    }
}
