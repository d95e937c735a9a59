//! `carpctl config`: what a configuration says, and which ones carpd has had.

use super::files::{Files, INVALID};
use super::instance;
use super::table::{columns, span};
use crate::api::{Request, Response};
use crate::config::render::{Form, render};
use crate::io::clock;
use crate::io::revisions::{Revision, Revisions};
use anyhow::{Context, Result, bail};
use similar::TextDiff;
use std::process::ExitCode;

/// Show a configuration, or which ones carpd has had.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 shown, 3 invalid.\n\n\
                        Examples:\n  carpctl config show --effective\n  carpctl config show new.toml --node /etc/carp/node.toml\n  \
                        carpctl config log\n  carpctl config diff 7\n  carpctl config diff peer\n  carpctl config push")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a configuration in one order and one spelling, as one file that is a configuration again. Of secrets it
    /// has the names of their files.
    Show {
        #[command(flatten)]
        files: Files,
        /// With every default.
        #[arg(long)]
        effective: bool,
    },
    /// Push the shared configuration to the node that follows this one ([config_sync]), and say what it changed there.
    Push,
    /// List the last revisions of the shared file that carpd has used, the newest last.
    Log {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Print how one revision differs from another; with `peer`, how the shared configuration of the node that follows
    /// differs from this one's.
    Diff {
        /// The older one; the one before the newest if there is none. Or `peer`.
        from: Option<Older>,
        /// The newer one; the newest if there is none.
        to: Option<u32>,
    },
}

/// Prints what is asked for, or every mistake in it.
///
/// # Errors
/// When revisions cannot be read.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    match &args.verb {
        Verb::Show { files, effective } => Ok(show(files, *effective)),
        Verb::Log { json } => log(*json, name).map(|()| ExitCode::SUCCESS),
        Verb::Push => push(name).map(|()| ExitCode::SUCCESS),
        Verb::Diff { from: Some(Older::Peer), .. } => diff_peer(name).map(|()| ExitCode::SUCCESS),
        Verb::Diff { from, to } => diff(from.and_then(Older::number), *to, name).map(|()| ExitCode::SUCCESS),
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Older {
    Revision(u32),
    Peer,
}

impl Older {
    const fn number(self) -> Option<u32> {
        match self {
            Self::Revision(number) => Some(number),
            Self::Peer => None,
        }
    }
}

impl std::str::FromStr for Older {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "peer" => Ok(Self::Peer),
            number => number.parse().map(Self::Revision).map_err(|_| "give a number, or `peer`".to_owned()),
        }
    }
}

fn push(name: Option<&str>) -> Result<()> {
    let Response::Reloaded { changes, .. } = instance::ask(name, &Request::Push)? else {
        return Err(instance::something_else());
    };
    let text =
        if changes.is_empty() { "nothing changes there\n".to_owned() } else { changes.join("\n") + "\n" };
    super::print(&text);
    Ok(())
}

fn diff_peer(name: Option<&str>) -> Result<()> {
    let Response::Text { text: there } = instance::ask(name, &Request::PeerText)? else {
        return Err(instance::something_else());
    };
    let Response::Shared(here) = instance::ask(name, &Request::Shared { sections: Vec::new() })? else {
        return Err(instance::something_else());
    };
    let diff = TextDiff::from_lines(&there, &here.text);
    super::print(&diff.unified_diff().header("peer", "here").to_string());
    Ok(())
}

fn show(files: &Files, effective: bool) -> ExitCode {
    match files.load() {
        Ok(config) => {
            super::print(&render(&config, if effective { Form::Effective } else { Form::Short }));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            INVALID.into()
        }
    }
}

fn log(json: bool, name: Option<&str>) -> Result<()> {
    let (_, known) = revisions(name)?;
    if json {
        super::print(&(serde_json::to_string_pretty(&known)? + "\n"));
        return Ok(());
    }
    let now = clock::seconds_since_1970();
    let row = |Revision { number, at, origin }: &Revision| {
        let age = span(now.saturating_sub(*at).saturating_mul(1000));
        vec![number.to_string(), format!("{age} ago"), origin.clone()]
    };
    let head = ["REVISION", "SINCE", "BY"].map(str::to_owned).to_vec();
    super::print(&columns(&[head].into_iter().chain(known.iter().map(row)).collect::<Vec<_>>()));
    Ok(())
}

fn diff(from: Option<u32>, to: Option<u32>, name: Option<&str>) -> Result<()> {
    let (revisions, known) = revisions(name)?;
    let back = |steps: usize| known.iter().rev().nth(steps).map(|revision| revision.number);
    let (Some(from), Some(to)) = (from.or(back(1)), to.or(back(0))) else {
        bail!("there are no two revisions yet: see `carpctl config log`");
    };
    let text = |number| {
        let text = revisions.text(number);
        text.with_context(|| format!("there is no revision {number}: see `carpctl config log`"))
    };
    let (old, new) = (text(from)?, text(to)?);
    let (old_name, new_name) = (format!("revision {from}"), format!("revision {to}"));
    let diff = TextDiff::from_lines(&old, &new);
    super::print(&diff.unified_diff().header(&old_name, &new_name).to_string());
    Ok(())
}

fn revisions(name: Option<&str>) -> Result<(Revisions, Vec<Revision>)> {
    let revisions = Revisions::of(&instance::resolve(name)?);
    let known = revisions.list().context("reading the revisions")?;
    Ok((revisions, known))
}
