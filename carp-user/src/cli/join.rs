//! `carpctl join`: the second node of a pair.

use super::files::INVALID;
use super::init::machine::Machine;
use super::init::plan::{Link, NewFile, OWN, SHARED, SYNC_KEY, node_file};
use super::init::{judge, writing};
use super::pair::{PORT, is_plain};
use crate::api::remote::Access;
use crate::config::PASSWORD_FILE;
use crate::io::accounts::{self, Accounts};
use crate::io::https::{Fingerprint, Identity, pin};
use crate::io::pairing::message::{Accept, Done, Hello, Offer, VERSION};
use crate::io::pairing::{self, Code};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the first node may take to write what it has to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Join the node that says `carpctl pair`: gets its shared configuration, its passwords and a new key, and writes them beside a
/// node.toml of this node alone. What that needs to know and is not given is asked on a terminal.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 joined, 1 error, 2 usage, 3 what came is no valid configuration here.\n\n\
                  Examples:\n  carpctl join 10.255.0.1 7H2K-9QXM-0ATB-V4ZE-3C\n  \
                  carpctl join 10.255.0.1 7H2K-9QXM-0ATB-V4ZE-3C --role lan=eth1 --role wan=eth0 --role sync=eth2 --name gw2"
)]
pub struct Args {
    /// Address of the first node on the sync link.
    address: IpAddr,
    /// The code that `carpctl pair` printed there; - to read it from standard input.
    code: String,
    /// Which interface has a role here; several times for several.
    #[arg(long, value_name = "ROLE=IFACE", value_parser = role)]
    role: Vec<(String, String)>,
    /// Interface to the other node, when it has no role there.
    #[arg(long, value_name = "IFACE")]
    sync: Option<String>,
    /// Name of this node.
    #[arg(long, default_value = "gw2")]
    name: String,
    /// Added to the skew of every virtual host: the node with the smallest leads.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(..=254))]
    skew: u8,
    /// TCP port at which the first node waits.
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Folder of the files.
    #[arg(long, value_name = "DIR", default_value = "/etc/carp")]
    output: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// Joins.
///
/// # Errors
/// When the first node is not to be reached or has another code, when a role has no interface here, when a file is there already.
pub fn run(args: Args) -> Result<ExitCode> {
    ensure!(is_plain(&args.name), "{:?} cannot be the name of a node", args.name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = code(&args.code)?;
    for name in [SHARED, OWN] {
        let path = args.output.join(name);
        ensure!(
            args.force || !path.exists(),
            "{} is there already: name another folder (--output), or replace it (--force)",
            path.display()
        );
    }
    let _inside = runtime.enter();
    let machine = Machine::look()?;
    let (device, own) = towards(&args, &machine)?;
    runtime.block_on(async {
        let mut line = pairing::call((args.address, args.port).into(), &device, own, &code).await?;
        let identity = Identity::of(&args.name)?;
        let fingerprint = identity.fingerprint().to_string();
        line.say(&Hello { version: VERSION, node: args.name.clone(), fingerprint }).await?;
        let offer: Offer = line.hear(PATIENCE).await?;
        let roles = roles(&args, &offer, &machine, &device)?;
        let link = Link { device, own, peer: args.address };
        let files = files(&args, &offer, &roles, &link)?;
        if let Err(mistakes) = judge(&args.output, &files) {
            eprintln!("{mistakes}");
            return Ok(INVALID.into());
        }
        let password = accounts::password()?;
        keep(&args, &offer, &files, &password)?;
        line.say(&Accept { password: password.to_string() }).await?;
        let done: Result<Done> = line.hear(PATIENCE).await;
        done.context("everything is written here; the first node has not said that it is there: pair again, with --force")?;
        let folder = args.output.display();
        super::print(&format!(
            "joined {}: its certificate is {}\n\nNext:\n  carpctl check {folder}/{SHARED}   # whether all of it fits this machine\n  \
             carpd --config {folder}/{SHARED} --node {folder}/{OWN}\n",
            offer.node, offer.fingerprint
        ));
        Ok(ExitCode::SUCCESS)
    })
}

fn code(given: &str) -> Result<Code> {
    if given != "-" {
        return Ok(given.parse()?);
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().parse()?)
}

/// The interface to the first node, and the address of this one there.
fn towards(args: &Args, machine: &Machine) -> Result<(String, IpAddr)> {
    let of_role = args.role.iter().find(|(role, _)| role == "sync").map(|(_, device)| device);
    let device = match args.sync.as_ref().or(of_role) {
        Some(device) => {
            machine.has(std::slice::from_ref(device))?;
            device.clone()
        }
        None => {
            let mut on_link =
                machine.interfaces().iter().filter(|device| machine.reaches(device, args.address));
            let found = on_link.next().filter(|_| on_link.next().is_none());
            found.cloned().with_context(|| format!("no interface has an address in the network of {}: give it one first (ip address add), or name it (--sync)", args.address))?
        }
    };
    let own = machine.address_towards(&device, args.address);
    let own = own.with_context(|| {
        format!("{device} has no address to reach {} from: give it one first (ip address add)", args.address)
    })?;
    Ok((device, own))
}

/// An interface for every role of the first node.
fn roles(args: &Args, offer: &Offer, machine: &Machine, sync: &str) -> Result<BTreeMap<String, String>> {
    let mut roles: BTreeMap<String, String> = args.role.iter().cloned().collect();
    roles.entry("sync".to_owned()).or_insert_with(|| sync.to_owned());
    for role in &offer.roles {
        if roles.contains_key(role) {
            continue;
        }
        let there = machine.interfaces().join(", ");
        if !std::io::stdin().is_terminal() {
            bail!(
                "name the interface with role {role} here, with --role {role}=IFACE; there are: {there}. Then pair again"
            );
        }
        eprint!("Interface here with role {role} (there are: {there}): ");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        roles.insert(role.clone(), line.trim().to_owned());
    }
    machine.has(&roles.values().cloned().collect::<Vec<_>>())?;
    Ok(roles)
}

fn files(args: &Args, offer: &Offer, roles: &BTreeMap<String, String>, link: &Link) -> Result<Vec<NewFile>> {
    let mut own = node_file(
        &args.name,
        args.skew,
        roles.iter().map(|(role, device)| (role.as_str(), device.as_str())),
        Some(link),
    );
    let [port, config_port] = offer.ports;
    own.push_str(&format!("port = {port}\nconfig_port = {config_port}\n"));
    let mut files = Vec::new();
    let mut add = |name: &str, text: &str| {
        files.push(NewFile { name: name.to_owned(), text: Zeroizing::new(text.to_owned()) });
    };
    for (name, text) in &offer.secrets {
        ensure!(
            is_plain(name) && ![SHARED, OWN].contains(&name.as_str()),
            "{name:?} cannot be a file with a secret"
        );
        add(name, text);
    }
    add(SYNC_KEY, &offer.sync_key);
    add(PASSWORD_FILE, &format!("{}\n", offer.password));
    add(SHARED, &offer.shared);
    add(OWN, &own);
    Ok(files)
}

fn keep(args: &Args, offer: &Offer, files: &[NewFile], password: &str) -> Result<()> {
    let fingerprint: Fingerprint = offer.fingerprint.parse()?;
    writing::write(&args.output, files, args.force)?;
    pin::write(&args.name, fingerprint).context("pinning the first node")?;
    Accounts::of(&args.name)
        .set(&offer.node, password, Access::Full, true)
        .context("making the account of the first node")
}

fn role(text: &str) -> Result<(String, String)> {
    let (role, device) = text.split_once('=').context("write it as role=interface, like lan=eth1")?;
    Ok((role.to_owned(), device.to_owned()))
}
