//! `carpctl check`: whether a configuration is right, before anybody uses it.

use super::files::{Files, INVALID};
use crate::config::{self, Config, Mistakes};
use crate::io::address::{self, Held};
use crate::io::error::Error;
use crate::io::link::Links;
use crate::io::nft;
use crate::proto::sync::rule::Prefix;
use crate::ruleset::{Ruleset, droppers};
use anyhow::{Context, Result};
use carp_common::id::IfIndex;
use serde::Serialize;
use serde_json::to_string_pretty;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;

/// Whether a configuration is right; changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 valid, 3 invalid, 4 valid, but of something that does not fit this machine.\n\n\
                        Examples:\n  carpctl check\n  carpctl check new.toml --node /etc/carp/node.toml\n  \
                        carpctl check --json | jq -r '.mistakes[] | \"\\(.file):\\(.line): \\(.what)\"'"
)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// Print JSON, valid or not.
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;
/// Exit code.
const DOUBTFUL: u8 = 4;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    valid: bool,
    virtual_hosts: usize,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

/// One mistake; its place is left out where the file as a whole cannot be read. Lines and columns count from 1.
#[derive(Debug, Serialize)]
struct Mistake {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    what: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    expected: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

/// Reads and judges the files.
///
/// # Errors
/// What the kernel says when this machine is looked at.
pub fn run(args: &Args) -> Result<ExitCode> {
    match args.files.load() {
        Ok(config) => valid(args, &config),
        Err(mistakes) => {
            invalid(args, &mistakes)?;
            Ok(INVALID.into())
        }
    }
}

fn invalid(args: &Args, mistakes: &Mistakes) -> Result<()> {
    if args.json {
        let mistakes = mistakes.list().iter().map(|mistake| Mistake::of(mistakes, mistake)).collect();
        let report =
            Report { schema: SCHEMA, valid: false, virtual_hosts: 0, mistakes, warnings: Vec::new() };
        super::print(&format!("{}\n", to_string_pretty(&report)?));
    } else {
        eprintln!("{mistakes}");
    }
    Ok(())
}

fn valid(args: &Args, config: &Config) -> Result<ExitCode> {
    let warnings = misfits(config)?;
    let code = if warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DOUBTFUL) };
    if args.json {
        let virtual_hosts = config.hosts.len();
        let report = Report { schema: SCHEMA, valid: true, virtual_hosts, mistakes: Vec::new(), warnings };
        super::print(&format!("{}\n", to_string_pretty(&report)?));
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        super::print(&format!("{}\n", config.check_line(&args.files.file)));
    }
    Ok(code)
}

/// What of a valid configuration does not fit the machine that this runs on: it may be meant for another one.
fn misfits(config: &Config) -> Result<Vec<String>> {
    let vips: BTreeSet<IpAddr> =
        config.hosts.iter().flat_map(|host| &host.addresses).map(|vip| vip.ip).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let others = address::others().context("reading the addresses of this machine")?;
    let (links, mut warnings) = present(config, &vips)?;
    for host in &config.hosts {
        let Some(link) = links.index(&host.device) else { continue };
        for vip in &host.addresses {
            warnings.extend(links.admits(link, vip.ip).err().map(|error| error.to_string()));
            warnings.extend(doubt(&host.device, link, vip.ip, &others));
        }
    }
    warnings.extend(rules_doubt(config));
    Ok(warnings)
}

/// What nft says of the rules, and which rules of others are in the way; as far as this user may ask.
fn rules_doubt(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(Err(error)) = Ruleset::of(config).as_ref().map(nft::check)
        && !error.is_of_privilege()
    {
        warnings.push(error.to_string());
    }
    // Without nft there are no rules of it.
    if let (Some(sync), Ok(listed)) = (&config.sync, nft::everything()) {
        let session = format!("the session with {}, TCP port {}", sync.peer, sync.port);
        let let_through = "let it through (carpctl firewall print)";
        let droppers = droppers(&listed, sync).into_iter();
        warnings.extend(droppers.map(|chain| format!("{chain} of nftables drops {session}: {let_through}")));
    }
    warnings
}

/// The interfaces that are there, and what is wrong with the others.
fn present(config: &Config, vips: &BTreeSet<IpAddr>) -> Result<(Links, Vec<String>)> {
    let devices: BTreeSet<&String> = config.hosts.iter().map(|host| &host.device).collect();
    let mut devices: Vec<String> = devices.into_iter().cloned().collect();
    let mut warnings = Vec::new();
    loop {
        let error = match Links::open(&devices, vips.clone()) {
            Ok(links) => return Ok((links, warnings)),
            Err(error) => error,
        };
        let before = devices.len();
        if let Error::NoSuchLink { existing, .. } = &error {
            devices.retain(|device| existing.contains(device));
        } else if let Error::NotEthernet { name, .. } = &error {
            devices.retain(|device| device != name);
        }
        if devices.len() == before {
            return Err(error.into());
        }
        warnings.push(error.to_string());
    }
}

/// What of one VIP and the addresses that are not carpd's.
fn doubt(device: &str, link: IfIndex, vip: IpAddr, others: &[(Held, Prefix)]) -> Option<String> {
    if others.iter().any(|(held, _)| held.address == vip) {
        return Some(format!(
            "{vip} is an address of this machine already, and not by carpd: it is there whoever is master. Take it \
             out of the network configuration"
        ));
    }
    let networks = others.iter().filter(|(held, _)| held.link == link).map(|(_, prefix)| *prefix);
    let networks: Vec<Prefix> =
        networks.filter(|prefix| prefix.address().is_ipv4() == vip.is_ipv4()).collect();
    if networks.is_empty() || networks.iter().any(|prefix| prefix.contains(vip)) {
        return None;
    }
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    let networks = networks.join(", ");
    Some(format!(
        "{vip} lies in none of the networks of {device} ({networks}): who is to reach it there needs a route"
    ))
}

impl Mistake {
    fn of(all: &Mistakes, mistake: &config::Mistake) -> Self {
        let at = all.position(mistake);
        Self {
            file: at.map(|(file, _, _)| file.to_owned()),
            line: at.map(|(_, line, _)| line),
            column: at.map(|(_, _, column)| column),
            what: mistake.what.clone(),
            expected: mistake.expected.clone(),
            help: mistake.help.clone(),
        }
    }
}
