//! The pins under `/sys/fs/bpf/carp/<instance>/`: one per map, two per interface, and two symbolic links
//! that name what made them: `abi`, the version of the map layouts, and `build`, the BPF object.
//!
//! A start changes none of an earlier daemon's maps that it cannot go on with: new ones are made
//! beside them, and take their names when the new programs have taken the links.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use carp_common::map;

use super::layout::{Layout, MAPS};
use super::sys::{self, Access};
use super::tc::Way;
use super::{BUILD, Error, clsact, share};
use crate::io::readers::GROUP;

/// Where the BPF file system belongs.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// No program has this id.
pub(super) const NO_PROGRAM: u32 = 0;

/// The folder of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Program that it holds; [`NO_PROGRAM`] when that is not known, as of a filter.
    pub(super) program: u32,
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

    /// The pin of the link at tc on this interface.
    pub(super) fn tcx(&self, way: Way, interface: &str) -> PathBuf {
        self.root.join(format!("{}{interface}", tcx_prefix(way)))
    }

    /// Where it is noted that this interface has a filter instead.
    pub(super) fn clsact(&self, way: Way, interface: &str) -> PathBuf {
        self.root.join(format!("{}{interface}", clsact_prefix(way)))
    }

    /// Where it is made when the one that is pinned cannot be gone on with.
    pub(super) fn new_map(&self, name: &str) -> PathBuf {
        self.root.join(format!("{NEW}{name}"))
    }

    /// Whether a daemon has left anything, or is at work.
    ///
    /// # Errors
    /// When this user may not know.
    pub(super) fn exist(&self) -> Result<bool, Error> {
        self.root.try_exists().map_err(|source| self.error("reading", &self.root, source))
    }

    /// That a daemon of this version has left its maps, or is at work.
    ///
    /// # Errors
    /// [`Error::NotPinned`], [`Error::OtherVersion`]; when this user may not know.
    pub(super) fn require(&self, instance: &str) -> Result<(), Error> {
        let instance = || instance.to_owned();
        match self.version() {
            Some(map::ABI) => Ok(()),
            None if !self.exist()? => Err(Error::NotPinned { instance: instance() }),
            Some(_) | None => Err(Error::OtherVersion { instance: instance() }),
        }
    }

    /// The folder itself.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn folder(&self) -> Result<File, Error> {
        File::open(&self.root).map_err(|source| self.error("opening", &self.root, source))
    }

    /// The version of the map layouts that made the pins; none when there are none.
    pub(super) fn version(&self) -> Option<u32> {
        self.text(ABI)?.parse().ok()
    }

    /// The build of the programs; none when there are none.
    pub(super) fn build(&self) -> Option<String> {
        self.text(BUILT)
    }

    /// Whether all that is pinned was made by this very build, and its maps are as it made them.
    pub(super) fn are_of_this_build(&self) -> bool {
        self.build().as_deref() == Some(BUILD) && MAPS.iter().all(|map| self.keep(map))
    }

    /// Whether this map is gone on with.
    pub(super) fn keep(&self, map: &Layout) -> bool {
        map.is_kept(self.version(), &self.map(map.name))
    }

    /// The pinned XDP links, of whatever version.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn links(&self) -> Result<Vec<PinnedLink>, Error> {
        self.pinned(|path| read_link_pin(path, LINK))
    }

    /// The pinned links at tc, and the marks of filters.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn tc(&self, way: Way) -> Result<Vec<PinnedLink>, Error> {
        self.pinned(|path| read_mark(path.clone(), way).or_else(|| read_link_pin(path, tcx_prefix(way))))
    }

    /// Everything in the folder, in the order of names; nothing without one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(super) fn list(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.error("listing", &self.root, source))?,
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        Ok(paths)
    }

    fn pinned(&self, read: impl Fn(PathBuf) -> Option<PinnedLink>) -> Result<Vec<PinnedLink>, Error> {
        Ok(self.list()?.into_iter().filter_map(read).collect())
    }

    /// Makes the folder where there is none, and removes what a start that failed left in it.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        // Another instance that closes removes the folder above when it finds it empty, perhaps
        // between our two steps.
        let make = || DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        let made = (0..RACES).map(|_| make()).find(|made| !is_missing(made)).unwrap_or_else(make);
        made.map_err(|source| self.error("making", &self.root, source))?;
        self.forget_new()
    }

    /// Removes the maps made by this start.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn forget_new(&self) -> Result<(), Error> {
        self.remove_where(|path| stripped(path, NEW).is_some())
    }

    /// The new programs are at work: gives the new maps their names, and removes what no map of
    /// this version is. The version comes last: should this be cut short, the next start finds an
    /// older one, and takes over less.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn settle(&self) -> Result<(), Error> {
        for map in &MAPS {
            let (new, place) = (self.new_map(map.name), self.map(map.name));
            if new.exists() {
                fs::rename(&new, &place).map_err(|source| self.error("naming", &new, source))?;
            }
        }
        let is_known = |path: &Path| {
            MAPS.iter().any(|map| path == self.map(map.name))
                || [BUILT, ABI].iter().any(|name| path == self.root.join(name))
        };
        self.remove_where(|path| !is_link(path) && !is_known(path))?;
        self.share();
        self.write(BUILT, BUILD)?;
        self.write(ABI, &map::ABI.to_string())
    }

    /// Detaches a link and removes its pin, or a filter and its mark.
    ///
    /// # Errors
    /// The kernel's, when the pin stays.
    pub(super) fn remove_link(&self, path: &Path) -> Result<(), Error> {
        if let Some(way) = WAYS.into_iter().find(|way| stripped(path, clsact_prefix(*way)).is_some()) {
            clsact::remove(way, path).map_err(|source| self.error("removing", path, source))?;
            return fs::remove_file(path).map_err(|source| self.error("removing", path, source));
        }
        // A link whose interface has gone is detached already and says so.
        let _already = sys::open_pin(path, Access::Full).and_then(|link| sys::detach_link(&link));
        fs::remove_file(path).map_err(|source| self.error("removing", path, source))
    }

    /// Removes all of it, and the folder above when no other instance is left there.
    ///
    /// # Errors
    /// The first one; all the rest is removed nevertheless.
    pub(super) fn remove(&self) -> Result<(), Error> {
        self.remove_where(|_| true)?;
        fs::remove_dir(&self.root).map_err(|source| self.error("removing", &self.root, source))?;
        // Not empty: another instance lives there.
        if self.root.parent().is_some_and(|above| fs::remove_dir(above).is_ok()) {
            share::end();
        }
        Ok(())
    }

    fn share(&self) {
        let folders: Vec<&Path> = self.root.parent().into_iter().chain([self.root.as_path()]).collect();
        let maps: Vec<PathBuf> = MAPS.iter().filter(|map| map.shared).map(|map| self.map(map.name)).collect();
        if let Err((path, error)) = share::with_group(&folders, &maps) {
            tracing::warn!(path = %path.display(), %error, "group {GROUP} may not read the pinned maps");
        }
    }

    fn remove_where(&self, is_to_go: impl Fn(&Path) -> bool) -> Result<(), Error> {
        let mut result = Ok(());
        for path in self.list()?.into_iter().filter(|path| is_to_go(path)) {
            let removed = match is_link(&path) {
                true => self.remove_link(&path),
                false => fs::remove_file(&path).map_err(|source| self.error("removing", &path, source)),
            };
            result = result.and(removed);
        }
        result
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_link(self.root.join(name)).ok()?.into_os_string().into_string().ok()
    }

    /// A symbolic link that leads nowhere: a BPF file system has no other place for text.
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let (new, place) = (self.new_map(name), self.root.join(name));
        let written = std::os::unix::fs::symlink(text, &new).and_then(|()| fs::rename(&new, &place));
        written.map_err(|source| self.error("making", &place, source))
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
const BUILT: &str = "build";
/// A BPF file system takes no dots in names.
const NEW: &str = "new-";
/// How often making the folder is tried.
const RACES: u32 = 8;
const LINK: &str = "link-";
/// Both.
pub(super) const WAYS: [Way; 2] = [Way::In, Way::Out];
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

fn is_missing(made: &io::Result<()>) -> bool {
    made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// No prefix begins like another: an interface may have any name behind it.
const fn tcx_prefix(way: Way) -> &'static str {
    match way {
        Way::In => "ingress-",
        Way::Out => "egress-",
    }
}

const fn clsact_prefix(way: Way) -> &'static str {
    match way {
        Way::In => "clsact_in-",
        Way::Out => "clsact-",
    }
}

fn is_link(path: &Path) -> bool {
    let at_tc = WAYS.into_iter().flat_map(|way| [tcx_prefix(way), clsact_prefix(way)]);
    at_tc.chain([LINK]).any(|prefix| stripped(path, prefix).is_some())
}

fn stripped<'a>(path: &'a Path, prefix: &str) -> Option<&'a str> {
    path.file_name()?.to_str()?.strip_prefix(prefix)
}

/// A filter's program is not told.
fn read_mark(path: PathBuf, way: Way) -> Option<PinnedLink> {
    let name = stripped(&path, clsact_prefix(way))?.to_owned();
    let (ifindex, _) = clsact::read(&path)?;
    Some(PinnedLink { name, path, ifindex, program: NO_PROGRAM })
}

/// The kernel tells a link's interface and program in the descriptor's fdinfo. Whoever may not open
/// the link is told which interface has its name.
fn read_link_pin(path: PathBuf, prefix: &str) -> Option<PinnedLink> {
    let name = stripped(&path, prefix)?.to_owned();
    let (ifindex, program) = match sys::open_pin(&path, Access::Full) {
        Ok(link) => {
            let info = sys::fdinfo(&link);
            let number = |key| sys::field(&info, key).and_then(|value| value.parse().ok());
            (number("ifindex"), number("prog_id"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (index_of(&name), None),
        Err(_) => (None, None),
    };
    Some(PinnedLink { name, path, ifindex: ifindex.unwrap_or(0), program: program.unwrap_or(NO_PROGRAM) })
}

fn index_of(name: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}
