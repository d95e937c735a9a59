//! What a daemon puts on the links, written down before it does: the next one of its name takes back
//! what a killed one left there, also when its configuration is another; and another one sees that a
//! link is taken. The file lies in the instance's directory.

use super::instance::{self, Error, Instance, RUN};
use crate::proto::event::{HostSetup, Setup};
use carp_common::id::IfIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where one virtual host is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Inode of the network namespace.
    netns: u64,
    link: u32,
    interface: String,
    /// Its virtual MAC is on the link, where XDP is.
    pub vhid: u8,
    /// Its addresses are on the link, while it serves.
    pub vips: BTreeSet<IpAddr>,
}

/// The marks of this daemon. Dropping them before [`Marks::settle`] undoes the entry, as a failed
/// start must; dropping them later leaves it, as a killed daemon does.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    netns: u64,
    now: BTreeSet<Mark>,
    before: Option<BTreeSet<Mark>>,
}

impl Marks {
    /// Enters the virtual hosts, beside what a killed daemon of this instance had entered.
    ///
    /// # Errors
    /// [`Error::Rival`] when one of the links is another running daemon's; what the file system says.
    pub fn enter(instance: &Instance, setup: &Setup) -> Result<Self, Error> {
        let path = instance.file(FILE);
        let failed = |source| Error::Io { path: path.display().to_string(), source };
        let netns = netns().map_err(failed)?;
        let now: BTreeSet<Mark> = setup.hosts.iter().map(|host| mark(netns, host)).collect();
        refuse_rivals(instance, &now)?;
        let before = read(&path);
        let all: BTreeSet<Mark> = before.union(&now).cloned().collect();
        write(&path, &all).map_err(failed)?;
        Ok(Self { path, netns, now, before: Some(before) })
    }

    /// What a killed daemon of this instance may have left on links that no other daemon has now,
    /// its own virtual hosts included.
    pub fn left(&self, instance: &Instance) -> Vec<Mark> {
        let others: Vec<Mark> = rivals(instance.name()).into_iter().flat_map(|(_, marks)| marks).collect();
        let is_free = |mark: &&Mark| !others.iter().any(|other| other.is_on_link_of(mark));
        let is_here = |mark: &&Mark| self.now.first().is_some_and(|mine| mine.netns == mark.netns);
        self.before.iter().flatten().filter(is_here).filter(is_free).cloned().collect()
    }

    /// The start has succeeded, and what was left is gone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn settle(&mut self) -> io::Result<()> {
        self.before = None;
        write(&self.path, &self.now)
    }

    /// Enters other virtual hosts beside those of now.
    ///
    /// # Errors
    /// As [`Marks::enter`].
    pub fn add<'a>(
        &mut self,
        instance: &Instance,
        hosts: impl Iterator<Item = &'a HostSetup>,
    ) -> Result<(), Error> {
        let more: BTreeSet<Mark> = hosts.map(|host| mark(self.netns, host)).collect();
        refuse_rivals(instance, &more)?;
        self.now.extend(more);
        write(&self.path, &self.now)
            .map_err(|source| Error::Io { path: self.path.display().to_string(), source })
    }

    /// The virtual hosts are these, and no others.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set<'a>(&mut self, hosts: impl Iterator<Item = &'a HostSetup>) -> io::Result<()> {
        self.now = hosts.map(|host| mark(self.netns, host)).collect();
        write(&self.path, &self.now)
    }

    /// Everything has been taken back.
    pub fn clear(mut self) {
        self.before = Some(BTreeSet::new());
    }
}

/// What an instance that does not run has noted.
#[derive(Debug, Default)]
pub struct Left {
    /// On links of this network namespace that no other daemon has now.
    pub here: Vec<Mark>,
    /// Inodes of the other network namespaces.
    pub elsewhere: BTreeSet<u64>,
}

/// What this instance has noted; nothing when there is no note.
pub fn left_by(instance: &str) -> Left {
    let others: Vec<Mark> = rivals(instance).into_iter().flat_map(|(_, marks)| marks).collect();
    let ours = netns().unwrap_or_default();
    let mut left = Left::default();
    for mark in read(&Path::new(RUN).join(instance).join(FILE)) {
        if mark.netns != ours {
            left.elsewhere.insert(mark.netns);
        } else if !others.iter().any(|other| other.is_on_link_of(&mark)) {
            left.here.push(mark);
        }
    }
    left
}

impl Drop for Marks {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = write(&self.path, before);
        }
    }
}

impl Mark {
    /// The link.
    pub const fn link(&self) -> IfIndex {
        IfIndex(self.link)
    }

    /// The link's name, as configured.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    fn is_on_link_of(&self, other: &Self) -> bool {
        (self.netns, self.link) == (other.netns, other.link)
    }
}

const FILE: &str = "marks";
/// Inode of this thread's network namespace.
pub(super) fn netns() -> io::Result<u64> {
    Ok(fs::metadata(NETNS)?.ino())
}

const NETNS: &str = "/proc/thread-self/ns/net";

/// Largest file that is read, bytes: the most virtual hosts with some dozen addresses each. Policy:
/// of a larger one nothing is known.
const MOST_BYTES: u64 = 8 << 20;

fn mark(netns: u64, host: &HostSetup) -> Mark {
    let vips = host.vips.iter().copied().collect();
    Mark { netns, link: host.link.0, interface: host.interface.clone(), vhid: host.vhid.get(), vips }
}

fn refuse_rivals(instance: &Instance, wanted: &BTreeSet<Mark>) -> Result<(), Error> {
    for (rival, marks) in rivals(instance.name()) {
        let is_taken = |mine: &&Mark| marks.iter().any(|theirs| theirs.is_on_link_of(mine));
        if let Some(taken) = wanted.iter().find(is_taken) {
            return Err(rival.of(&taken.interface));
        }
    }
    Ok(())
}

/// The other running daemons, and what they have entered.
fn rivals(own: &str) -> Vec<(instance::Other, BTreeSet<Mark>)> {
    instance::others(own)
        .into_iter()
        .map(|other| {
            let marks = read(&other.file(FILE));
            (other, marks)
        })
        .collect()
}

/// None when there is no such file. One that was cut off by a crash is as good as none: it is written
/// before anything else is done.
fn read(path: &Path) -> BTreeSet<Mark> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write(path: &Path, marks: &BTreeSet<Mark>) -> io::Result<()> {
    if marks.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_string(marks)?)?;
    fs::rename(&new, path)
}
