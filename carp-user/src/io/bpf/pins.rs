//! The pins under `/sys/fs/bpf/carp/<instance>/`: one per map, two per link, and `abi`, a symbolic
//! link that names the version of the map layouts, so that another version adopts nothing.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use carp_common::admission::Auth;
use carp_common::map::{self, Captured, Counts, Host, HostKey, Vip, VipKey, Window};

use super::{Error, clsact, sys};

/// Where the BPF file system belongs.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// The folder of one instance.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// A pinned link.
#[derive(Debug)]
pub(super) struct PinnedLink {
    /// Name of the interface it was made for.
    pub(super) name: String,
    /// Where it is pinned.
    pub(super) path: PathBuf,
    /// Interface that it is attached to; 0 when that is gone.
    pub(super) ifindex: u32,
    /// Program that it holds.
    pub(super) program: u32,
}

/// What an earlier daemon left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// All maps, of our version.
    Ours,
    /// Something that we cannot go on with.
    Stale,
}

impl Pins {
    /// Of this instance.
    ///
    /// # Errors
    /// A name that is no single, plain component of a path.
    pub(super) fn of(instance: &str) -> Result<Self, Error> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=32).contains(&instance.len()) || !instance.bytes().all(is_plain) {
            return Err(Error::Instance { instance: instance.to_owned() });
        }
        Ok(Self { root: Path::new(BPFFS).join("carp").join(instance) })
    }

    /// The pin of this map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The pin of the link on this interface.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.root.join(format!("{LINK}{interface}"))
    }

    /// The pin of the egress link on this interface.
    pub(super) fn tcx(&self, interface: &str) -> PathBuf {
        self.root.join(format!("{EGRESS}{interface}"))
    }

    /// Where it is noted that this interface has the egress filter instead.
    pub(super) fn clsact(&self, interface: &str) -> PathBuf {
        self.root.join(format!("{CLSACT}{interface}"))
    }

    /// What is there. Changes nothing.
    pub(super) fn look(&self) -> Found {
        if !self.root.exists() {
            return Found::Nothing;
        }
        let is_our_version =
            fs::read_link(self.root.join(ABI)).is_ok_and(|abi| abi == Path::new(&abi_text()));
        let is_whole = || SHAPES.iter().all(|shape| shape.fits(&self.map(shape.name)));
        if is_our_version && is_whole() { Found::Ours } else { Found::Stale }
    }

    /// The pinned XDP links, of whatever version.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn links(&self) -> Result<Vec<PinnedLink>, Error> {
        self.pinned(|path| read_link_pin(path, LINK))
    }

    /// The pinned egress links, and the marks of filters.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn egress(&self) -> Result<Vec<PinnedLink>, Error> {
        self.pinned(|path| read_mark(path.clone()).or_else(|| read_link_pin(path, EGRESS)))
    }

    fn pinned(&self, read: impl Fn(PathBuf) -> Option<PinnedLink>) -> Result<Vec<PinnedLink>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.error("listing", &self.root, source))?,
        };
        Ok(entries.filter_map(|entry| read(entry.ok()?.path())).collect())
    }

    /// Makes the folder, empty but for the version.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn create(&self) -> Result<(), Error> {
        // Another instance that closes removes the folder above when it finds it empty, perhaps
        // between our two steps.
        let make = || DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        let made = (0..RACES).map(|_| make()).find(|made| !is_missing(made)).unwrap_or_else(make);
        made.map_err(|source| self.error("making", &self.root, source))?;
        let abi = self.root.join(ABI);
        std::os::unix::fs::symlink(abi_text(), &abi).map_err(|source| self.error("making", &abi, source))
    }

    /// Detaches a link and removes its pin, or a filter and its mark.
    ///
    /// # Errors
    /// The kernel's, when the pin stays.
    pub(super) fn remove_link(&self, path: &Path) -> Result<(), Error> {
        if stripped(path, CLSACT).is_some() {
            clsact::remove(path).map_err(|source| self.error("removing", path, source))?;
            return fs::remove_file(path).map_err(|source| self.error("removing", path, source));
        }
        // A link whose interface has gone is detached already and says so.
        let _already = sys::open_pin(path).and_then(|link| sys::detach_link(&link));
        fs::remove_file(path).map_err(|source| self.error("removing", path, source))
    }

    /// Removes all of it, and the folder above when no other instance is left there.
    ///
    /// # Errors
    /// The first one; all the rest is removed nevertheless.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.root).map_err(|source| self.error("listing", &self.root, source))?;
        let mut result = Ok(());
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let removed = match is_link(&path) {
                true => self.remove_link(&path),
                false => fs::remove_file(&path).map_err(|source| self.error("removing", &path, source)),
            };
            result = result.and(removed);
        }
        result?;
        fs::remove_dir(&self.root).map_err(|source| self.error("removing", &self.root, source))?;
        if let Some(above) = self.root.parent() {
            // Not empty: another instance lives there.
            let _shared = fs::remove_dir(above);
        }
        Ok(())
    }

    fn error(&self, doing: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Pin { doing, path: path.to_owned(), source }
    }
}

/// Sees to it that there is a BPF file system. One that we mount stays: others may pin there too.
///
/// # Errors
/// When there is none and we may not mount one.
pub(super) fn mount_bpffs() -> Result<(), Error> {
    use rustix::mount::{MountFlags, mount};
    if is_bpffs_mounted() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", BPFFS, "bpf", flags, c"mode=0700").map_err(|errno| Error::NoBpffs { source: errno.into() })
}

/// Whether there is a BPF file system where it belongs.
pub fn is_bpffs_mounted() -> bool {
    rustix::fs::statfs(BPFFS).is_ok_and(|fs| u64::try_from(fs.f_type) == Ok(BPF_FS_MAGIC))
}

const ABI: &str = "abi";
/// How often making the folder is tried.
const RACES: u32 = 8;
const LINK: &str = "link-";
const EGRESS: &str = "egress-";
const CLSACT: &str = "clsact-";
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// What a map must look like.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

const SHAPES: [Shape; 7] = [
    shape::<HostKey, Host>(map::HOSTS, MapType::Hash, map::MAX_HOSTS),
    shape::<VipKey, Vip>(map::VIPS, MapType::Hash, map::MAX_VIPS),
    shape::<u32, Window>(map::WINDOWS, MapType::Array, map::MAX_HOSTS),
    shape::<u32, u64>(map::HEARD, MapType::Array, map::MAX_HOSTS),
    shape::<(), ()>(map::ADVERTS, MapType::RingBuf, map::RING_BYTES),
    shape::<u32, Counts>(map::COUNTERS, MapType::PerCpuArray, map::MAX_HOSTS),
    shape::<u32, Auth>(map::AUTH, MapType::Array, map::MAX_HOSTS),
];

// What a record of the ring buffer looks like is in no map's shape: it is in the version alone.
const _: () = assert!(size_of::<Captured>() == 144 && map::ABI == 5);

const fn shape<K, V>(name: &'static str, kind: MapType, entries: u32) -> Shape {
    Shape { name, kind, key: size_of::<K>(), value: size_of::<V>(), entries }
}

impl Shape {
    fn fits(&self, path: &Path) -> bool {
        let Ok(info) = MapInfo::from_pin(path) else { return false };
        let is_size = |given: u32, wanted: usize| usize::try_from(given) == Ok(wanted);
        info.map_type().is_ok_and(|kind| kind == self.kind)
            && is_size(info.key_size(), self.key)
            && is_size(info.value_size(), self.value)
            && info.max_entries() == self.entries
    }
}

fn is_missing(made: &io::Result<()>) -> bool {
    made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn abi_text() -> String {
    map::ABI.to_string()
}

fn is_link(path: &Path) -> bool {
    [LINK, EGRESS, CLSACT].iter().any(|prefix| stripped(path, prefix).is_some())
}

fn stripped<'a>(path: &'a Path, prefix: &str) -> Option<&'a str> {
    path.file_name()?.to_str()?.strip_prefix(prefix)
}

/// A filter's program is not told.
fn read_mark(path: PathBuf) -> Option<PinnedLink> {
    let name = stripped(&path, CLSACT)?.to_owned();
    let (ifindex, _) = clsact::read(&path)?;
    Some(PinnedLink { name, path, ifindex, program: 0 })
}

/// The kernel tells a link's interface and program in the descriptor's fdinfo.
fn read_link_pin(path: PathBuf, prefix: &str) -> Option<PinnedLink> {
    let name = stripped(&path, prefix)?.to_owned();
    let field = |text: &str, key: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
    };
    let info = sys::open_pin(&path)
        .and_then(|link| fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", link.as_raw_fd())))
        .unwrap_or_default();
    let (ifindex, program) = (field(&info, "ifindex"), field(&info, "prog_id"));
    Some(PinnedLink { name, path, ifindex: ifindex.unwrap_or(0), program: program.unwrap_or(0) })
}
