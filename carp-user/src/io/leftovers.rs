//! What a killed daemon left on the machine, for when none of its name is to follow: the next one
//! would go on with it, or take it back.

use super::address::{Addresses, Held};
use super::applier::{Kernel, Wanted};
use super::bpf;
use super::fdb::{self, VirtualMacs};
use super::instance::{self, Instance, Other, RUN};
use super::marks::{self, Mark};
use super::nft;
use super::route::Routes;
use super::{forwarding, tuning};
use carp_common::id::{IfIndex, Mac, Vhid, virtual_mac};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All of it that is there.
#[derive(Debug)]
pub struct Leftovers {
    name: String,
    links: BTreeSet<(IfIndex, String)>,
    kernel: Kernel,
    macs: BTreeSet<(IfIndex, Mac)>,
    pins: Vec<PathBuf>,
    table: bool,
    /// What was switched on, in words.
    settings: Vec<String>,
    files: BTreeSet<PathBuf>,
}

/// Why it is not to be known, or not to be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon is alive, perhaps stopped or starved.
    #[error(
        "instance {name} runs, as process {pid}: stop it (kill {pid}), and it takes everything back itself"
    )]
    Running {
        /// Name of the instance.
        name: String,
        /// Its process.
        pid: String,
    },
    /// It was in another network namespace, which is still there.
    #[error(
        "instance {name} was in another network namespace, {namespace}, and its addresses are there: run this \
         there (nsenter --net={namespace} carpctl cleanup {name})"
    )]
    Elsewhere {
        /// Name of the instance.
        name: String,
        /// A path that leads to the namespace.
        namespace: String,
    },
    /// The datapath.
    #[error(transparent)]
    Bpf(#[from] bpf::Error),
    /// Links and addresses.
    #[error(transparent)]
    Link(#[from] super::error::Error),
    /// The rules of nftables.
    #[error(transparent)]
    Nft(#[from] nft::Error),
    /// Forwarding.
    #[error(transparent)]
    Forwarding(#[from] forwarding::Error),
    /// As it says.
    #[error(transparent)]
    Tuning(#[from] tuning::Error),
    /// The instance's lock.
    #[error(transparent)]
    Lock(#[from] instance::Error),
    /// A file.
    #[error("removing {}: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
}

/// Instances that left something and do not run.
pub fn instances() -> Vec<String> {
    let folders = fs::read_dir(RUN).into_iter().flatten().flatten();
    let known = folders.filter_map(|folder| folder.file_name().into_string().ok());
    let known: BTreeSet<String> = known.chain(bpf::pinned_instances()).collect();
    known.into_iter().filter(|name| Other::running(name).is_none()).collect()
}

impl Leftovers {
    /// Of the instance of this name. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Elsewhere`]; what may not be read.
    pub fn of(name: &str) -> Result<Self, Error> {
        let pins = bpf::pins_of(name)?;
        if let Some(other) = Other::running(name) {
            return Err(Error::Running { name: name.to_owned(), pid: other.pid().to_owned() });
        }
        let noted = marks::left_by(name);
        if let Some(namespace) = noted.elsewhere.iter().find_map(|netns| path_to(*netns)) {
            return Err(Error::Elsewhere { name: name.to_owned(), namespace });
        }
        let held = |mark: &Mark| {
            let link = mark.link();
            mark.vips.iter().map(move |vip| Held { link, address: *vip }).collect::<Vec<_>>()
        };
        let addresses = Addresses::open(&noted.here.iter().flat_map(held).collect())?;
        let routes = Routes::open(noted.here.iter().map(Mark::link).collect())?;
        let mac = |mark: &Mark| Some((mark.link(), virtual_mac(Vhid::new(mark.vhid)?)));
        let macs: BTreeSet<_> = noted.here.iter().filter_map(mac).collect();
        let there = fdb::present()?;
        let files = fs::read_dir(Path::new(RUN).join(name)).into_iter().flatten().flatten();
        Ok(Self {
            name: name.to_owned(),
            links: noted.here.iter().map(|mark| (mark.link(), mark.interface().to_owned())).collect(),
            kernel: Kernel { addresses, routes },
            macs: macs.intersection(&there).copied().collect(),
            pins,
            table: nft::is_left_by(name),
            settings: forwarding::left_by(name).into_iter().chain(tuning::left_by(name)).collect(),
            files: files.map(|entry| entry.path()).collect(),
        })
    }

    /// What there is, a line each; none when there is nothing.
    pub fn list(&self) -> Vec<String> {
        let on = |link: IfIndex| {
            let known = self.links.iter().find(|(index, _)| *index == link);
            known.map_or_else(|| format!("interface number {link}"), |(_, name)| name.clone())
        };
        let routes = self.kernel.routes.ours().iter();
        let routes = routes.map(|route| format!("route {route} on {}", on(route.link)));
        let addresses = self.kernel.addresses.ours().iter();
        let addresses = addresses.map(|held| format!("address {} on {}", held.address, on(held.link)));
        let macs = self.macs.iter().map(|(link, mac)| format!("forwarding entry {mac} on {}", on(*link)));
        let paths = self.pins.iter().chain(&self.files).map(|path| path.display().to_string());
        let table = self.table.then(|| "table inet carp of nftables".to_owned());
        let settings = self.settings.iter().cloned();
        routes.chain(addresses).chain(macs).chain(settings).chain(table).chain(paths).collect()
    }

    /// Removes it, and returns what could not be: routes and addresses first, as the datapath is what keeps
    /// them silent.
    ///
    /// # Errors
    /// When the instance has been started meanwhile; nothing is removed then.
    pub fn remove(mut self) -> Result<Vec<Error>, Error> {
        let lock = Instance::take(&self.name)?;
        let kept = self.kernel.apply(&Wanted::default());
        let mut errors: Vec<Error> = kept.into_iter().map(|failure| failure.error.into()).collect();
        let mut macs = VirtualMacs::open()?;
        self.macs.iter().for_each(|(link, mac)| macs.adopt(*link, *mac));
        errors.extend(macs.close().into_iter().map(Error::from));
        if !errors.is_empty() {
            return Ok(errors);
        }
        errors.extend(bpf::remove_pinned(&self.name).err().map(Error::from));
        errors.extend(forwarding::put_back(&self.name).err().map(Error::from));
        errors.extend(tuning::put_back_of(&self.name).err().map(Error::from));
        if self.table {
            errors.extend(nft::remove().err().map(Error::from));
        }
        if errors.is_empty() {
            for path in self.files {
                errors.extend(fs::remove_file(&path).err().map(|source| Error::File { path, source }));
            }
        }
        drop(lock);
        Ok(errors)
    }
}

/// A path that leads to the network namespace with this inode, if anything keeps it.
fn path_to(netns: u64) -> Option<String> {
    let named = entries("/run/netns").map(|entry| entry.path());
    let of_process = entries("/proc").map(|entry| entry.path().join("ns/net"));
    let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.ino() == netns);
    named.chain(of_process).find(is_it).map(|path| path.display().to_string())
}

fn entries(folder: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}
