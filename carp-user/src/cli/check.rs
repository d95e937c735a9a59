//! `carpctl check`: whether a configuration is right, before anybody uses it.

use crate::config::{self, Config, Mistakes};
use crate::io::link::Links;
use anyhow::Result;
use serde::Serialize;
use serde_json::to_string_pretty;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Whether a configuration is right; changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 valid, 3 invalid, 4 valid, but of something that does not fit this machine.\n\n\
                        Examples:\n  carpctl check\n  carpctl check new.toml --node /etc/carp/node.toml\n  \
                        carpctl check --json | jq -r '.mistakes[] | \"\\(.file):\\(.line): \\(.what)\"'"
)]
pub struct Args {
    /// The configuration that both nodes share.
    #[arg(default_value = "/etc/carp/carp.toml")]
    file: PathBuf,
    /// What is of this node alone; without it node.toml beside the other, where there is one.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Print JSON, valid or not.
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;
/// Exit codes.
const INVALID: u8 = 3;
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
    let beside = args.file.with_file_name("node.toml");
    let node = args.node.clone().or_else(|| beside.is_file().then_some(beside));
    match config::load(&args.file, node.as_deref()) {
        Ok(config) => valid(args, &config),
        Err(mistakes) => {
            invalid(args, &mistakes)?;
            Ok(ExitCode::from(INVALID))
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
        super::print(&format!("{}\n", config.check_line(Path::new(&args.file))));
    }
    Ok(code)
}

/// What of a valid configuration does not fit the machine that this runs on: it may be meant for another one.
fn misfits(config: &Config) -> Result<Vec<String>> {
    let vips: BTreeSet<IpAddr> =
        config.hosts.iter().flat_map(|host| &host.addresses).map(|vip| vip.ip).collect();
    let devices: BTreeSet<&str> = config.hosts.iter().map(|host| host.device.as_str()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let mut warnings = Vec::new();
    for device in devices {
        let links = match Links::open(&[device.to_owned()], vips.clone()) {
            Ok(links) => links,
            Err(error) => {
                warnings.push(error.to_string());
                continue;
            }
        };
        let Some(link) = links.index(device) else { continue };
        let hosts = config.hosts.iter().filter(|host| host.device == device);
        let refused =
            hosts.flat_map(|host| &host.addresses).filter_map(|vip| links.admits(link, vip.ip).err());
        warnings.extend(refused.map(|error| error.to_string()));
    }
    Ok(warnings)
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
