//! Text to [`Config`], or every mistake with its place.

pub mod kernel;
pub mod mistake;
pub mod nat;
pub mod password;
pub mod private;
pub mod reference;
pub mod render;
pub mod route;
pub mod script;
pub mod sections;
pub mod track;

mod address;
mod change;
mod config_sync;
mod fields;
mod group;
pub mod hook;
mod host;
mod node;
mod rules;
mod schema;
mod secrets;
mod setup;
mod sync;
mod sync_key;
#[cfg(test)]
mod tests;

pub use config_sync::{ConfigSync, PASSWORD_FILE, Password};
pub use hook::Hook;
pub use kernel::Kernel;
pub use mistake::{File, Mistake, Mistakes, Source};
pub use nat::{Firewall, Nat};
pub use node::{Node, XdpMode};
pub use password::Secret;
pub use reference::reference;
pub use route::Route;
pub use schema::schema;
pub use script::Script;
pub use sync::{DEFAULT_CONFIG_PORT, DEFAULT_PORT, Sync};
pub use sync_key::{SYNC_KEY_LEN, SyncKey, SyncKeys};
pub use track::Track;

use crate::io::program;
use crate::proto::event::{Flavour, Group};
use carp_common::admission::Mode;
use carp_common::auth::Variant;
use carp_common::id::Vhid;
use carp_common::pace::Pace;
use mistake::Place;
use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Largest configuration file, in bytes; the largest permitted configuration has less. Policy: a
/// larger one is refused unread.
const MOST_BYTES: u64 = 4 << 20;

/// What a node and its virtual hosts shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is of this node alone.
    pub node: Node,
    /// The other node, if connections are to go on there.
    pub sync: Option<Sync>,
    /// The node that follows this one, if one does.
    pub config_sync: Option<ConfigSync>,
    /// Of virtual hosts that belong together.
    pub groups: Vec<Group>,
    /// The virtual hosts, in the order of the file.
    pub hosts: Vec<HostConfig>,
    /// What follows the virtual hosts beside their addresses.
    pub routes: Vec<Route>,
    /// What is translated.
    pub nat: Nat,
    /// What nftables does besides.
    pub firewall: Firewall,
    /// What the kernel is to do while carpd runs.
    pub kernel: Kernel,
    /// What has the node rank lower while it fails.
    pub tracks: Vec<Track>,
    /// What is told of virtual hosts.
    pub hooks: Vec<Hook>,
}

/// One `[[virtual_host]]`, its role and defaults resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// As written: a role, or a device.
    pub interface: String,
    /// The device.
    pub device: String,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// Its number.
    pub vhid: Vhid,
    /// Its addresses, in the order of the file, at least one.
    pub addresses: Vec<Vip>,
    /// The file that the secret came from.
    pub password_file: PathBuf,
    /// The shared secret.
    pub secret: Secret,
    /// The file of the next secret, if there is one.
    pub next_password_file: Option<PathBuf>,
    /// Another secret that is accepted and not sent.
    pub next_secret: Option<Secret>,
    /// How adverts are signed, and which are accepted.
    pub auth: Mode,
    /// Base, and skew with the node's added.
    pub pace: Pace,
    /// Whether a backup takes over from a worse master.
    pub preempt: bool,
    /// How many seconds it waits with that after it has come back.
    pub preempt_delay: u16,
    /// Whose timers and rules the election follows.
    pub flavour: Flavour,
    /// Digest variant that is sent.
    pub digest: Variant,
    /// Digest variants that are accepted.
    pub accept: Vec<Variant>,
    /// Whether the datapath answers pings to its addresses.
    pub answer_ping: bool,
    /// TOS and traffic class.
    pub tos: u8,
    /// Whether what comes from inside and leaves by its device gets its first IPv4 address.
    pub snat: bool,
}

/// A VIP with the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vip {
    /// The address.
    pub ip: IpAddr,
    /// 1..=32 or 1..=128; all of it when none was written.
    pub prefix: u8,
}

/// Devices that the configuration names and the machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such interface: {}", .0.join(", "))]
pub struct NoSuchInterface(pub Vec<String>);

/// Where a configuration is read from, and read again.
#[derive(Clone, Debug)]
pub struct Files {
    /// What the pair shares.
    pub shared: PathBuf,
    /// What is of this node alone, if it has a file of its own.
    pub node: Option<PathBuf>,
}

/// A configuration, and the text that the pair shares.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The shared file as it was read.
    pub text: String,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// Every mistake in all of them.
    pub fn load(&self) -> Result<Loaded, Mistakes> {
        self.load_in_place(&self.shared)
    }

    /// Reads another file as if it were the shared one: secrets are looked for where they are for that.
    ///
    /// # Errors
    /// Every mistake in all of them.
    pub fn load_in_place(&self, shared: &Path) -> Result<Loaded, Mistakes> {
        load_from(shared, self.shared.parent().unwrap_or(Path::new("")), self.node.as_deref())
    }
}

/// Reads the shared file, the node's file if there is one, and the password files they name.
///
/// # Errors
/// Every mistake in all of them.
pub fn load(config: &Path, node: Option<&Path>) -> Result<Config, Mistakes> {
    let folder = config.parent().unwrap_or(Path::new(""));
    load_from(config, folder, node).map(|loaded| loaded.config)
}

fn load_from(config: &Path, folder: &Path, node: Option<&Path>) -> Result<Loaded, Mistakes> {
    let mut unreadable = Vec::new();
    let mut source = |path: &Path| {
        let text = read(path).map_err(|what| unreadable.push(Mistake::unreadable(what, FILES)));
        let text = text.unwrap_or_default();
        Source { name: path.display().to_string(), text }
    };
    let shared = source(config);
    let own = node.map(&mut source);
    if !unreadable.is_empty() {
        return Err(Mistakes::new(shared, own.unwrap_or_default(), unreadable));
    }
    let text = shared.text.clone();
    let config = parse_here(shared, own, |file| private::read_named(folder, file), &program::examine)?;
    Ok(Loaded { config, text })
}

/// What [`load`] does once the files are read; `read` gives what is in a file with a secret. Does no
/// IO itself.
///
/// # Errors
/// Every mistake.
pub fn parse(
    shared: Source,
    node: Option<Source>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
) -> Result<Config, Mistakes> {
    parse_here(shared, node, read, &|_| Ok(()))
}

/// The same, with somebody who looks at the machine that the scripts are for.
fn parse_here(
    shared: Source,
    node: Option<Source>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    examine: &dyn Fn(script::Asked<'_>) -> Result<(), script::Unfit>,
) -> Result<Config, Mistakes> {
    let mut mistakes = Vec::new();
    let own = node.as_ref().map(|source| document(File::Node, source, &mut mistakes));
    let all = document(File::Shared, &shared, &mut mistakes);
    let syntax: Vec<Place> = mistakes.iter().filter_map(|mistake| mistake.place.clone()).collect();
    let node_config = node::read(&all, own.as_ref(), examine, &mut mistakes);
    let sync = sync::read((&all, own.as_ref()), node_config.as_ref(), &read, &mut mistakes);
    let config_sync =
        config_sync::read((&all, own.as_ref()), (node_config.as_ref(), sync.as_ref()), &read, &mut mistakes);
    let groups = group::read(&all, &mut mistakes);
    let hosts = host::read_all(&all, (node_config.as_ref(), &groups), &read, &mut mistakes);
    let around = nat::Around::new(&hosts, sync.as_ref(), mistakes.is_empty());
    let routes = route::read(&all, node_config.as_ref(), &around, &mut mistakes);
    let nat = nat::read(&all, node_config.as_ref(), &around, &mut mistakes);
    let firewall = nat::read_firewall(&all, &around, &mut mistakes);
    let kernel = kernel::read(&all, &mut mistakes);
    let tracks = track::read(&all, node_config.as_ref(), &hosts, &mut mistakes);
    let hooks = hook::read(&all, node_config.as_ref(), &mut mistakes);
    match node_config {
        Some(node) if mistakes.is_empty() => Ok(Config {
            node,
            sync,
            config_sync,
            groups,
            hosts,
            routes,
            nat,
            firewall,
            kernel,
            tracks,
            hooks,
        }),
        Some(_) | None => {
            Err(Mistakes::new(shared, node.unwrap_or_default(), mistakes).without_echoes(&syntax))
        }
    }
}

impl Config {
    /// What `carpd --check` says of a good configuration.
    pub fn check_line(&self, file: &Path) -> String {
        let count = self.hosts.len();
        let s = if count == 1 { "" } else { "s" };
        format!("{}: ok, {count} virtual host{s}", file.display())
    }
}

impl XdpMode {
    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Native, Self::Generic, Self::Tcx, Self::Off]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A file as far as the parser of TOML understood it.
struct Document<'a> {
    file: File,
    top: DeTable<'a>,
    /// Its syntax is in order, so a missing key is really missing.
    whole: bool,
}

impl<'a> Document<'a> {
    /// The table of this name at the top, if it is there; something else of this name is a mistake.
    fn table(
        &'a self,
        name: &str,
        header: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<(&'a DeTable<'a>, Range<usize>)> {
        let value = self.top.get(name)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some((table, value.span()));
        }
        let place = Place { file: self.file, span: value.span() };
        let mistake = Mistake::at(place, format!("`{name}` is a table"), "expected a table");
        mistakes.push(mistake.help(format!("write {header}")));
        None
    }
}

const FILES: &str =
    "name a text file with --config FILE, and the node's own, if there is one, with --node FILE";

fn read(path: &Path) -> Result<String, String> {
    let name = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(size) if u64::try_from(size).is_ok_and(|size| size <= MOST_BYTES) => Ok(text),
        Ok(_) => Err(format!("{name} has more than {MOST_BYTES} bytes")),
        Err(error) => Err(format!("cannot read {name}: {error}")),
    }
}

/// Parses with recovery, so that the mistakes after a slip of syntax are found too.
fn document<'a>(file: File, source: &'a Source, mistakes: &mut Vec<Mistake>) -> Document<'a> {
    let (top, errors) = DeTable::parse_recoverable(&source.text);
    // A key given twice leaves the first one standing: nothing is missing because of it.
    let whole = errors.iter().all(|error| error.message() == DUPLICATE);
    for error in &errors {
        let place = Place { file, span: error.span().unwrap_or(0..0) };
        let mistake = match error.message() {
            DUPLICATE => Mistake::at(place, "the same key twice in one table", "it already has a value")
                .help("keep one of the two"),
            message => {
                let message = message.replace('\n', ", ");
                Mistake::at(place, format!("not TOML: {message}"), "here")
            }
        };
        mistakes.push(mistake);
    }
    Document { file, top: top.into_inner(), whole }
}

/// What the parser of TOML says of a key that was given before.
const DUPLICATE: &str = "duplicate key";
