//! The CARP daemon and its control tool as a library: the pure election (`proto`), the shells
//! around it (`io`), the configuration, and what the two binaries share.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod health;
pub mod io;
pub mod pair_config;
pub mod proto;
pub mod remote;
pub mod replication;
pub mod ruleset;
pub mod shells;
