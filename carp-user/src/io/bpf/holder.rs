//! Whose a program is: what pins it or its link, which process holds either, and its name.
//!
//! All this for one message, so it looks everywhere. What carpd may not see, with the capabilities
//! that it has kept, it does not name: the processes of users and of root that may do more than it,
//! and the name of a program that neither a pin nor a process leads to.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;

use super::sys::{self, Access};

/// A program of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its id, as `bpftool prog` shows it.
    pub id: u32,
    /// Its name, if that is to be known.
    pub name: Option<String>,
    /// Who keeps it.
    pub holders: Vec<Holder>,
}

/// What keeps a program loaded, besides the interface it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// A pin or a process.
    pub place: Place,
    /// It holds the link between program and interface: the program is off when that goes.
    pub is_link: bool,
}

/// Where a holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path in a BPF file system.
    Pin(PathBuf),
    /// A process.
    Process {
        /// Its id.
        pid: u32,
        /// Its name.
        name: String,
    },
}

/// Pins that are looked at. Policy when there are more: those are not named.
const MOST_PINS: usize = 10_000;

impl Foreign {
    /// Everything that is to be known of this program.
    pub(super) fn of(id: u32) -> Self {
        let found: Vec<(Holder, String)> = pins(id).chain(processes(id)).collect();
        let name = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .and_then(|program| program.name_as_str().map(ToOwned::to_owned))
            .or_else(|| found.iter().find_map(|(_, info)| name_by_tag(sys::field(info, "prog_tag")?)))
            .filter(|name| !name.is_empty());
        Self { id, name, holders: found.into_iter().map(|(holder, _)| holder).collect() }
    }

    /// How to be rid of it on this interface.
    pub(super) fn remedy(&self, interface: &str) -> String {
        let link = self.holders.iter().find(|holder| holder.is_link);
        match link.map(|holder| &holder.place) {
            Some(Place::Pin(path)) => format!("rm {}", path.display()),
            Some(Place::Process { pid, .. }) => format!("kill {pid}"),
            None => format!("ip link set {interface} xdp off"),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (id {})", self.id)?,
            None => write!(f, "{0} (bpftool prog show id {0} tells its name)", self.id)?,
        }
        for Holder { place, is_link } in &self.holders {
            let what = if *is_link { "its link " } else { "" };
            match place {
                Place::Pin(path) => write!(f, ", {what}pinned as {}", path.display())?,
                Place::Process { pid, name } => write!(f, ", {what}held by process {pid} ({name})")?,
            }
        }
        Ok(())
    }
}

/// Of every mounted BPF file system.
fn pins(program: u32) -> impl Iterator<Item = (Holder, String)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_bpffs = |line: &&str| line.split(' ').nth(2) == Some("bpf");
    let roots = mounts.lines().filter(is_bpffs).filter_map(|line| line.split(' ').nth(1));
    let mut left: Vec<PathBuf> = roots.map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let (Some(folder), true) = (left.pop(), files.len() < MOST_PINS) {
        for entry in entries(&folder) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    files.sort();
    files.into_iter().filter_map(move |path| {
        let info = sys::fdinfo(&sys::open_pin(&path, Access::Full).ok()?);
        holder(program, &info, || Place::Pin(path))
    })
}

/// One for each process, the link before the program.
fn processes(program: u32) -> impl Iterator<Item = (Holder, String)> {
    entries(Path::new("/proc")).filter_map(move |entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let infos = entries(&entry.path().join("fdinfo"));
        let infos = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
        let name = || fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
        let found = infos.filter_map(|info| holder(program, &info, || Place::Process { pid, name: name() }));
        found.max_by_key(|(holder, _)| holder.is_link)
    })
}

/// If an open object with this fdinfo is the program or a link of it.
fn holder(program: u32, info: &str, place: impl FnOnce() -> Place) -> Option<(Holder, String)> {
    let is_it = sys::field(info, "prog_id").and_then(|id| id.parse().ok()) == Some(program);
    let is_link = sys::field(info, "link_type").is_some();
    is_it.then(|| (Holder { place: place(), is_link }, info.to_owned()))
}

/// A compiled program is a symbol of the kernel: `bpf_prog_TAG_NAME`.
fn name_by_tag(tag: &str) -> Option<String> {
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    let prefix = format!("bpf_prog_{tag}_");
    let name = symbols.lines().find_map(|line| line.split_whitespace().nth(2)?.strip_prefix(&prefix));
    name.map(ToOwned::to_owned)
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_who_holds_it_and_what_to_do() {
        let pin = Holder { place: Place::Pin("/sys/fs/bpf/filter".into()), is_link: false };
        let process = Place::Process { pid: 7, name: "xdp-tool".to_owned() };
        let mut foreign = Foreign { id: 34, name: Some("filter".to_owned()), holders: vec![pin] };
        assert_eq!(foreign.to_string(), "filter (id 34), pinned as /sys/fs/bpf/filter");
        assert_eq!(foreign.remedy("lan0"), "ip link set lan0 xdp off");
        foreign.holders.push(Holder { place: process, is_link: true });
        assert!(foreign.to_string().ends_with(", its link held by process 7 (xdp-tool)"));
        assert_eq!(foreign.remedy("lan0"), "kill 7");
    }

    #[test]
    fn the_descriptors_of_programs_and_links_are_told_apart_and_others_passed_over() {
        let place = || Place::Pin(PathBuf::new());
        let link = "pos:\t0\nlink_type:\txdp\nprog_tag:\tab\nprog_id:\t34\nifindex:\t2\n";
        let program = "pos:\t0\nprog_type:\t6\nprog_tag:\tab\nprog_id:\t34\n";
        let is_link = |info| holder(34, info, place).map(|(holder, _)| holder.is_link);
        assert_eq!([is_link(link), is_link(program)], [Some(true), Some(false)]);
        assert_eq!(is_link("pos:\t0\nmap_type:\t2\nowner_prog_id:\t34\n"), None);
        assert_eq!(holder(35, link, place), None);
    }
}
