//! `carpctl demote` and `undemote`: a node ranks itself lower for a reason with a name.

use super::instance;
use crate::api::Request;
use anyhow::Result;

/// Rank this node lower until the demotion of that name is lifted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carpctl demote maintenance --reason 'new memory'\n  carpctl undemote maintenance"
)]
pub struct Args {
    /// Name of the demotion.
    name: String,
    /// Added to the skew of every virtual host, 1 to 240.
    #[arg(long, default_value_t = crate::proto::demote::FACTOR)]
    amount: u8,
    /// Why, for whoever looks at the status.
    #[arg(long, default_value = "asked for by carpctl")]
    reason: String,
}

/// Lift a demotion.
#[derive(Debug, clap::Args)]
pub struct UndemoteArgs {
    /// Name of the demotion.
    name: String,
}

/// Puts a demotion in place.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn run(args: Args, name: Option<&str>) -> Result<()> {
    let request = Request::Demote { name: args.name, amount: args.amount, reason: args.reason };
    instance::ask(name, &request).map(drop)
}

/// Lifts it.
///
/// # Errors
/// When the daemon does not answer.
pub fn undo(args: UndemoteArgs, name: Option<&str>) -> Result<()> {
    instance::ask(name, &Request::Undemote { name: args.name }).map(drop)
}
