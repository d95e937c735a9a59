//! The shells of one daemon. What changes the machine is opened last and undone by itself on an
//! error, so a failed start leaves the machine as it was; so does a clean stop.

mod reload;

pub use reload::Prepared;

use crate::config::{self, Config, Sync, XdpMode};
use crate::health::Health;
use crate::io::address::{Addresses, Held};
use crate::io::advert::Sender;
use crate::io::applier::{Applier, Kernel, Wanted};
use crate::io::bpf::{self, Mode, Port, Rings};
use crate::io::control::{self, Call};
use crate::io::ear::{Ear, RefusedEar};
use crate::io::epoch;
use crate::io::fdb::VirtualMacs;
use crate::io::forwarding::Forwarding;
use crate::io::group::Membership;
use crate::io::instance::Instance;
use crate::io::link::Links;
use crate::io::marks::{Mark, Marks};
use crate::io::nft::Table;
use crate::io::privilege;
use crate::io::prober::Prober;
use crate::io::route::{Route, Routes};
use crate::io::shield::{self, Shield};
use crate::io::tuning::Tuning;
use crate::pair_config::editor::{self, Editor};
use crate::proto::event::{HostSetup, Setup};
use crate::remote::{self, Door, Remote};
use crate::replication::{Replication, Start};
use crate::ruleset::Ruleset;
use anyhow::{Context, Result};
use carp_common::id::{IfIndex, Vhid, virtual_mac};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Everything that stands between a node and the machine.
#[derive(Debug)]
pub struct Shells {
    /// The links, and their changes.
    pub links: Links,
    /// Sends frames.
    pub sender: Sender,
    /// Hears adverts.
    pub ear: Ear,
    /// Hears of adverts that XDP refused.
    pub refused: RefusedEar,
    /// XDP, unless it is off.
    pub shield: Option<Shield>,
    /// Asks masters whether they serve, and shows that this daemon runs, once a group wants that.
    pub prober: Option<Prober>,
    /// Requests of the control socket.
    pub calls: mpsc::Receiver<Call>,
    /// The addresses and routes that the kernel shall hold.
    pub wanted: watch::Sender<Wanted>,
    /// Makes the kernel hold them.
    pub applier: Applier,
    /// Tells the peer of connections, and the kernel of the peer's.
    pub replication: Option<Replication>,
    /// Has the other node follow.
    pub editor: Option<Editor>,
    /// What another editor starts with: the daemon's door, and the number of this start.
    seat: (Door, u32),
    /// Looks at tracks and tells hooks, if there ever were any.
    pub health: Option<Health>,
    /// Answers XML-RPC.
    remote: Option<Remote>,
    /// The rules of nftables.
    pub table: Arc<Table>,
    settings: (Forwarding, Tuning),
    memberships: Vec<Membership>,
    marks: Marks,
    instance: Instance,
}

impl Shells {
    /// Opens all of them for this configuration. The `Setup` is what the node is to be told.
    ///
    /// # Errors
    /// The first thing that is not as it should be, in words, with what to do.
    pub fn open(config: &Config, seed: u64) -> Result<(Self, Setup)> {
        privilege::check(config.node.xdp != XdpMode::Off)?;
        let names: BTreeSet<String> = config.hosts.iter().map(|host| host.device.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let vips: BTreeSet<IpAddr> =
            config.hosts.iter().flat_map(|host| &host.addresses).map(|vip| vip.ip).collect();
        let links = Links::open(&names, vips)?;
        let mut setup = config.setup(|name| links.index(name), seed)?;
        let instance = Instance::take(&config.node.name)?;
        if config.sync.is_some() || setup.hosts.iter().any(|host| host.mode.signs_strictly()) {
            setup.epoch = epoch::next(&instance)?;
        }
        for host in &setup.hosts {
            host.vips.iter().try_for_each(|vip| links.admits(host.link, *vip))?;
        }
        let mut marks = Marks::enter(&instance, &setup)?;
        let left = marks.left(&instance);
        let sender = Sender::open()?;
        let memberships = join(&links, setup.hosts.iter())?;
        let (door, calls) = answer_locally(&instance)?;
        let (shield, rings) = raise(config, &links, &setup)?;
        if let Some(shield) = &shield {
            let leases = shield.leases();
            for (slot, host) in (0..).zip(&mut setup.hosts) {
                host.resume_until = leases.get(&slot).copied();
            }
        }
        let (adverts, samples) = rings.map(|rings| (rings.adverts, rings.samples)).unzip();
        let deaf = if shield.is_some() { BTreeSet::new() } else { link_set(&setup) };
        let listen = || Ok((Ear::open(adverts, &Vec::from_iter(deaf))?, RefusedEar::open(samples)?));
        let seat = (Door::new(door.clone()), setup.epoch);
        let opened = listen().and_then(|ears| {
            Ok((
                ears,
                (replicate(config, setup.epoch)?, answer_remotely(config, door)?, edit(config, &seat)?),
                forward(config, &instance)?,
                start_applier(config, &setup, &left)?,
            ))
        });
        match opened {
            Ok(((ear, refused), (replication, remote, editor), (table, settings), (wanted, applier))) => {
                remove_left(&config.node.name, &left, &setup, shield.is_some());
                settle(&mut marks);
                let shells = Self {
                    links,
                    sender,
                    ear,
                    refused,
                    shield,
                    prober: None,
                    calls,
                    wanted,
                    applier,
                    replication,
                    editor,
                    seat,
                    health: None,
                    remote,
                    table: Arc::new(table),
                    settings,
                    memberships,
                    marks,
                    instance,
                };
                Ok((shells, setup))
            }
            Err(error) => {
                lower(shield);
                Err(error)
            }
        }
    }

    /// Has the kernel do what this configuration asks for.
    ///
    /// # Errors
    /// What the kernel says; some of it may be done then.
    pub fn set_kernel(&self, config: &Config) -> Result<()> {
        let (forwarding, tuning) = &self.settings;
        forwarding.set(&config.forwarded())?;
        Ok(tuning.set(&config.settings())?)
    }

    /// Another node follows, or in another way.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn edit(&mut self, config: &Config) -> Result<()> {
        self.editor = edit(config, &self.seat)?;
        Ok(())
    }

    /// Takes back everything: routes and addresses first, then the datapath, then the rest.
    pub fn close(self) {
        let Self {
            wanted,
            applier,
            shield,
            prober,
            ear,
            refused,
            memberships,
            marks,
            instance,
            replication,
            editor,
            health,
            remote,
            table,
            settings,
            ..
        } = self;
        drop((editor, replication, remote, prober));
        drop(wanted);
        for failure in applier.finish() {
            tracing::warn!(what = failure.what, error = %failure.error, "left behind");
        }
        drop((ear, refused));
        lower(shield);
        drop(settings);
        drop((table, memberships));
        marks.clear();
        // Hooks have a moment to be told of the end.
        drop(health);
        drop(instance);
    }
}

fn replicate(config: &Config, epoch: u32) -> Result<Option<Replication>> {
    let start = |sync: &Sync| Start { sync: sync.clone(), node: config.node.name.clone(), epoch };
    config.sync.as_ref().map(|sync| Replication::start(start(sync))).transpose()
}

fn answer_remotely(config: &Config, calls: mpsc::Sender<Call>) -> Result<Option<Remote>> {
    let node = config.node.name.clone();
    config.sync.clone().map(|sync| Remote::start(remote::Start { sync, node, calls })).transpose()
}

fn edit(config: &Config, (door, epoch): &(Door, u32)) -> Result<Option<Editor>> {
    let (Some(sync), Some(config_sync)) = (&config.sync, &config.config_sync) else { return Ok(None) };
    let start = editor::Start {
        sync: sync.clone(),
        config_sync: config_sync.clone(),
        node: config.node.name.clone(),
        epoch: *epoch,
        door: door.clone(),
    };
    Editor::start(start).map(Some)
}

/// The daemon's door, and who comes in by it.
fn answer_locally(instance: &Instance) -> Result<(mpsc::Sender<Call>, mpsc::Receiver<Call>)> {
    let (door, calls) = control::door();
    control::listen(&instance.socket(), door.clone())
        .with_context(|| format!("opening the control socket {}", instance.socket().display()))?;
    Ok((door, calls))
}

fn settle(marks: &mut Marks) {
    if let Err(error) = marks.settle() {
        tracing::warn!(%error, "writing down what this daemon has");
    }
}

/// The rules first: what is forwarded has to be translated.
fn forward(config: &Config, instance: &Instance) -> Result<(Table, (Forwarding, Tuning))> {
    let table = Table::raise(instance, Ruleset::of(config).as_ref())?;
    let tuning = Tuning::raise(instance, &config.settings())?;
    Ok((table, (Forwarding::raise(instance, &config.forwarded())?, tuning)))
}

/// XDP on every link, unless it is off.
fn raise(config: &Config, links: &Links, setup: &Setup) -> Result<(Option<Shield>, Option<Rings>)> {
    let Some(mode) = mode_of(config.node.xdp) else { return Ok((None, None)) };
    let port = |link: IfIndex| Port { link, name: links.name(link).unwrap_or_default().to_owned(), mode };
    let aside = aside(config, links, mode);
    let ports: Vec<Port> = link_set(setup).into_iter().map(port).chain(aside.clone()).collect();
    let (mut shield, rings) =
        Shield::open(&config.node.name, &ports, links, (setup.numbered(), setup.epoch))?;
    shield.set_aside(aside.map(|port| port.link));
    Ok((Some(shield), Some(rings)))
}

/// The sync link, where masters are asked over it, too.
fn aside(config: &Config, links: &Links, mode: Mode) -> Option<Port> {
    let Sync { device, .. } = config.asks_aside()?;
    Some(Port { link: links.find(device)?, name: device.clone(), mode })
}

/// None where there is no datapath.
const fn mode_of(xdp: XdpMode) -> Option<Mode> {
    match xdp {
        XdpMode::Off => None,
        XdpMode::Auto => Some(Mode::Auto),
        XdpMode::Native => Some(Mode::Native),
        XdpMode::Generic => Some(Mode::Generic),
        XdpMode::Tcx => Some(Mode::Tcx),
    }
}

fn lower(shield: Option<Shield>) {
    let errors: Vec<shield::Error> = shield.map(Shield::close).unwrap_or_default();
    for error in errors {
        tracing::warn!(%error, "left behind");
    }
}

fn join<'a>(links: &Links, hosts: impl Iterator<Item = &'a HostSetup>) -> Result<Vec<Membership>> {
    let mut vips = BTreeMap::<IfIndex, Vec<IpAddr>>::new();
    hosts.for_each(|host| vips.entry(host.link).or_default().extend(&host.vips));
    let name = |link| links.name(link).unwrap_or_default();
    Ok(vips
        .iter()
        .map(|(link, vips)| Membership::join(*link, name(*link), vips))
        .collect::<Result<_, _>>()?)
}

/// What the kernel shall hold while this node serves these virtual hosts: their addresses, and the routes by an
/// interface where it serves one with addresses of the route's family, or with the route's source.
pub fn wanted<'a>(serving: impl Iterator<Item = &'a HostSetup>, routes: &[config::Route]) -> Wanted {
    let (mut addresses, mut links) = (BTreeSet::new(), BTreeMap::new());
    for host in serving {
        addresses.extend(held(host));
        links.insert(host.interface.as_str(), host.link);
    }
    let families: BTreeSet<_> = addresses.iter().map(|held| (held.link, held.address.is_ipv4())).collect();
    let route = |route: &config::Route| {
        let link = *links.get(route.device.as_str())?;
        let follows = match route.source {
            Some(address) => addresses.contains(&Held { link, address }),
            None => families.contains(&(link, route.via.is_ipv4())),
        };
        let metric = route.priority();
        follows.then_some(Route { link, to: route.to, via: route.via, source: route.source, metric })
    };
    let routes = routes.iter().filter_map(route).collect();
    Wanted { addresses, routes }
}

fn held(host: &HostSetup) -> impl Iterator<Item = Held> {
    host.vips.iter().map(|vip| Held { link: host.link, address: *vip })
}

fn start_applier(config: &Config, setup: &Setup, left: &[Mark]) -> Result<(watch::Sender<Wanted>, Applier)> {
    let links = left.iter().map(Mark::link).chain(link_set(setup)).collect();
    let left =
        left.iter().flat_map(|mark| mark.vips.iter().map(|vip| Held { link: mark.link(), address: *vip }));
    let known = setup.hosts.iter().flat_map(held).chain(left);
    // What a killed daemon held and this one goes on with stays where it is.
    let resumed = setup.hosts.iter().filter(|host| host.resume_until.is_some());
    let (wanted, receiver) = watch::channel(wanted(resumed, &config.routes));
    let addresses = Addresses::open(&known.collect())?;
    for stranger in addresses.strangers() {
        tracing::warn!(address = %stranger.address, "the VIP is on its link already, put there by somebody \
            else: remove it (ip address del), without XDP this node answers for it at all times");
    }
    let kernel = Kernel { addresses, routes: Routes::open(links)? };
    Ok((wanted, Applier::start(kernel, receiver)?))
}

/// What a killed daemon left on the links and this one does not use: virtual MACs; without XDP, its
/// programs too.
fn remove_left(instance: &str, left: &[Mark], setup: &Setup, shielded: bool) {
    if !shielded && let Err(error) = bpf::remove_pinned(instance) {
        tracing::warn!(%error, "a datapath that a killed daemon left drops what is for the VIPs");
    }
    let used = |link, mac| {
        shielded && setup.hosts.iter().any(|host| (host.link, virtual_mac(host.vhid)) == (link, mac))
    };
    let macs = left.iter().filter_map(|mark| Some((mark.link(), virtual_mac(Vhid::new(mark.vhid)?))));
    let errors = VirtualMacs::open().map(|mut unused| {
        macs.filter(|(link, mac)| !used(*link, *mac)).for_each(|(link, mac)| unused.adopt(link, mac));
        unused.close()
    });
    for error in errors.unwrap_or_else(|error| vec![error]) {
        tracing::warn!(%error, "left behind");
    }
}

fn link_set(setup: &Setup) -> BTreeSet<IfIndex> {
    setup.hosts.iter().map(|host| host.link).collect()
}
