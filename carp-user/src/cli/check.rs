//! `carpctl check`: whether a configuration is right, before anybody uses it.

mod pair;

use super::files::{Files, INVALID};
use super::instance;
use crate::api::{Authority, Request, Response};
use crate::config::{self, Config, HostConfig, Mistakes};
use crate::io::accounts::Accounts;
use crate::io::address::{self, Held};
use crate::io::error::Error;
use crate::io::forwarding::{is_off, setting};
use crate::io::link::Links;
use crate::io::nft;
use crate::io::{sysctl, tuning};
use crate::proto::family::Family;
use crate::proto::sync::rule::Prefix;
use crate::ruleset::{Ruleset, Service, droppers};
use anyhow::{Context, Result};
use carp_common::id::IfIndex;
use serde::Serialize;
use serde_json::to_string_pretty;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

/// Whether a configuration is right, and what the carpd that runs would change for it; changes nothing.
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
#[derive(Debug, Default, Serialize)]
struct Report {
    schema: u32,
    valid: bool,
    virtual_hosts: usize,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
    /// Settings of the kernel that are 0, and that carpd makes 1 while it runs.
    switches_on: Vec<&'static str>,
    /// The others that it sets while it runs, where they are not right already.
    sets: Vec<Set>,
    /// What the carpd that runs would change; left out where none runs, or where this user may not ask it.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
}

/// One setting of the kernel.
#[derive(Debug, Serialize)]
struct Set {
    setting: String,
    /// Its value; left out where the kernel has no such setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<String>,
    value: u32,
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
        let report = Report { schema: SCHEMA, virtual_hosts: 0, mistakes, ..Report::default() };
        super::print(&format!("{}\n", to_string_pretty(&report)?));
    } else {
        eprintln!("{mistakes}");
    }
    Ok(())
}

fn valid(args: &Args, config: &Config) -> Result<ExitCode> {
    let mut warnings = misfits(config)?;
    let changes = changes(&args.files.file, &config.node.name).unwrap_or_else(|error| {
        warnings.push(format!("the carpd that runs cannot use it: {error}"));
        None
    });
    let code = if warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DOUBTFUL) };
    let off = config.forwarded().into_iter().filter(|family| is_off(*family, sysctl::read));
    let switches_on: Vec<&'static str> = off.map(setting).collect();
    let sets = sets(config);
    if args.json {
        let virtual_hosts = config.hosts.len();
        let mistakes = Vec::new();
        let report = Report {
            schema: SCHEMA,
            valid: true,
            virtual_hosts,
            mistakes,
            warnings,
            switches_on,
            sets,
            changes,
        };
        super::print(&format!("{}\n", to_string_pretty(&report)?));
    } else {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        super::print(&format!("{}\n", config.check_line(&args.files.file)));
        for setting in switches_on {
            super::print(&format!("{setting} is 0: carpd sets it to 1 while it runs\n"));
        }
        for Set { setting, present, value } in sets {
            let is = present.unwrap_or_else(|| "not there yet".to_owned());
            super::print(&format!("{setting} is {is}: carpd sets it to {value} while it runs\n"));
        }
        let none = ["nothing changes for the carpd that runs".to_owned()];
        let lines = changes.as_ref().map(|changes| if changes.is_empty() { &none[..] } else { changes });
        lines.unwrap_or_default().iter().for_each(|line| super::print(&format!("{line}\n")));
    }
    Ok(code)
}

/// Of the settings that are asked for, those that are not right already.
fn sets(config: &Config) -> Vec<Set> {
    let settings = config.settings().into_iter().map(|(setting, value)| {
        let present = tuning::read(&setting);
        let is_right = present.as_ref().is_some_and(|present| value.is_met_by(present));
        (!is_right).then(|| Set { setting: setting.to_string(), present, value: value.number() })
    });
    settings.flatten().collect()
}

/// What the daemon of this name would change to have the file in the place of its shared one, beside its own file of the
/// node; `None` where it does not answer, or does not answer this user.
fn changes(file: &Path, name: &str) -> Result<Option<Vec<String>>> {
    let (Ok(file), true) = (file.canonicalize(), rustix::process::geteuid().is_root()) else {
        return Ok(None);
    };
    let request =
        Request::Apply { file, dry_run: true, confirm_s: None, origin: String::new(), by: Authority::Here };
    let Ok(Response::Reloaded { changes, .. }) = instance::call(name, &request)? else { return Ok(None) };
    Ok(Some(changes))
}

/// What of a valid configuration does not fit the machine that this runs on: it may be meant for another one.
pub(super) fn misfits(config: &Config) -> Result<Vec<String>> {
    let vips: BTreeSet<IpAddr> =
        config.hosts.iter().flat_map(|host| &host.addresses).map(|vip| vip.ip).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let others = address::others().context("reading the addresses of this machine")?;
    let (links, mut warnings) = present(config, &vips)?;
    warnings.extend(forwarding(config, sysctl::read));
    for host in &config.hosts {
        let Some(link) = links.index(&host.device) else { continue };
        for vip in &host.addresses {
            warnings.extend(links.admits(link, vip.ip).err().map(|error| error.to_string()));
            warnings.extend(doubt(&host.device, link, vip.ip, &others));
        }
    }
    warnings.extend(pair::mtus(config, &links));
    warnings.extend(pair::ranks(config));
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
        let session = (Service::Session, format!("the session with {}, TCP port {}", sync.peer, sync.port));
        let calls = (Service::Config, format!("XML-RPC with {}, TCP port {}", sync.peer, sync.config_port));
        // Without an account nobody calls.
        let is_called = Accounts::of(&config.node.name).list().is_ok_and(|accounts| !accounts.is_empty());
        for (service, what) in [session].into_iter().chain(is_called.then_some(calls)) {
            let chains = droppers(&listed, sync, service).into_iter();
            warnings.extend(chains.map(|chain| {
                format!("{chain} of nftables drops {what}: let it through (carpctl firewall print)")
            }));
        }
    }
    warnings
}

/// What keeps a gateway from forwarding, unless carpd sees to it. It is one if it has VIPs on several links, or a peer to
/// replicate connections to; a VIP on one link alone may be that of a service.
///
/// It is all that a pair needs of the kernel. The datapath answers and corrects ARP itself, so `arp_ignore` and
/// `arp_announce` may be anything; a strict `rp_filter` (1) goes by the routes of a node, whoever is master; and
/// replication sets what it needs of connection tracking when it starts (docs/replication.md).
fn forwarding(config: &Config, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let devices = |family: Family| -> BTreeSet<&String> {
        let has = |host: &&HostConfig| host.addresses.iter().any(|vip| Family::of(vip.ip) == family);
        config.hosts.iter().filter(has).map(|host| &host.device).collect()
    };
    let least = if config.sync.is_some() { 1 } else { 2 };
    let families = [(Family::V4, "IPv4"), (Family::V6, "IPv6")];
    let ends_here = |(family, _): &(Family, &str)| {
        !config.kernel.forwarding && devices(*family).len() >= least && is_off(*family, &read)
    };
    let warning = |(family, name): (Family, &str)| {
        let setting = setting(family);
        format!(
            "{setting} is 0: what others send through this gateway by {name} ends here, also when it is master: \
             forwarding = true below [kernel] has carpd set it while it runs; or sysctl -w {setting}=1, and the same \
             line in /etc/sysctl.d, for the next boot"
        )
    };
    families.into_iter().filter(ends_here).map(warning).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, parse};

    fn warned(hosts: &[(&str, &str)], sync: &str, off: &[&str]) -> Vec<String> {
        let hosts = (1..).zip(hosts).map(|(vhid, (device, vip))| {
            format!(
                "[[virtual_host]]\ninterface = \"{device}\"\nvhid = {vhid}\naddresses = [\"{vip}\"]\npassword_file = \"pw\"\n"
            )
        });
        let text = format!("[node]\nname = \"a\"\n{sync}{}", hosts.collect::<String>());
        let content = |file: &Path| {
            let digits = if file == Path::new("pw") { 4 } else { 32 };
            Ok("0a".repeat(digits).into_bytes().into())
        };
        let config = parse(Source { name: "carp.toml".into(), text }, None, content).expect("right");
        let value = |setting: &str| Some(if off.contains(&setting) { "0" } else { "1" }.to_owned());
        let warnings = forwarding(&config, value);
        assert!(forwarding(&config, |_| None).is_empty(), "a kernel without IPv6 has no such setting");
        warnings.into_iter().filter_map(|text| Some(text.split_once(" is 0")?.0.to_owned())).collect()
    }

    #[test]
    fn a_gateway_that_does_not_forward_is_told_so_for_each_family_and_a_service_is_not() {
        let [v4, v6] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
        let both = [("eth0", "10.0.0.1"), ("eth1", "10.1.0.1"), ("eth1", "fd00::1")];
        assert_eq!(warned(&both, "", &[v4, v6]), [v4], "IPv6 is on one link only");
        assert!(warned(&both, "", &[v6]).is_empty());
        assert!(warned(&both[1..], "", &[v4, v6]).is_empty(), "a service on one link");
        let sync =
            "[sync]\ninterface = \"eth2\"\naddress = \"10.9.0.1\"\npeer = \"10.9.0.2\"\nkey_file = \"key\"\n";
        assert_eq!(warned(&both[1..], sync, &[v4, v6]), [v4, v6], "who replicates connections forwards");
        assert!(warned(&both, "[kernel]\nforwarding = true\n", &[v4, v6]).is_empty(), "carpd sees to it");
    }
}
