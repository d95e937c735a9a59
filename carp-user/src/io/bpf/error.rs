//! Why the datapath could not be opened or written, and what to do next.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;

use super::holder::Foreign;
use super::pins;
use super::tc::Way;
use crate::io::error::chain;

/// An error of `io/bpf`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks capabilities.
    #[error(
        "loading XDP: {missing} is missing: run carpd as root, or grant it (systemd: AmbientCapabilities={missing})"
    )]
    Privilege {
        /// What is missing, as `capabilities(7)` names it, separated by spaces.
        missing: String,
    },
    /// There is no BPF file system, and it cannot be mounted.
    #[error(
        "{} is no BPF file system and mounting one failed ({source}): mount it (mount -t bpf bpf {}), \
         or set xdp = \"off\"",
        pins::BPFFS,
        pins::BPFFS
    )]
    NoBpffs {
        /// What the kernel said.
        source: io::Error,
    },
    /// The instance's name would leave its folder.
    #[error("{instance:?} cannot be the name of an instance: use 1 to 32 of a-z, 0-9 and -")]
    Instance {
        /// The name.
        instance: String,
    },
    /// Somebody else's program is in the link's XDP slot.
    #[error(
        "{name} already has a {mode} XDP program, {program}: an interface takes one, native or generic. Remove \
         it ({}), or set xdp = \"tcx\" (carp works behind it) or \"off\"",
        .program.remedy(.name)
    )]
    Occupied {
        /// The link.
        name: String,
        /// "native" or "generic".
        mode: &'static str,
        /// The program, and whose it is.
        program: Box<Foreign>,
    },
    /// Another instance of ours is on the link.
    #[error("{name} has the datapath of carpd instance {instance}: an interface takes one")]
    Rival {
        /// The link.
        name: String,
        /// Of the other.
        instance: String,
    },
    /// The kernel or the driver does not take the program.
    #[error("{name} takes no {mode} XDP program: {reason}; set {choices}")]
    Attach {
        /// The link.
        name: String,
        /// "native" or "generic".
        mode: &'static str,
        /// What the kernel said.
        reason: String,
        /// What may be set instead.
        choices: &'static str,
    },
    /// A bond hands a program of its driver on to its members, where it sees their numbers and not the bond's.
    #[error(
        "{name} is a bond: native XDP runs on its members, which are other interfaces; set xdp = \"auto\", \
         \"generic\", \"tcx\" or \"off\""
    )]
    Members {
        /// The link.
        name: String,
    },
    /// The kernel does not take a program at tc.
    #[error("{name} takes no tc {way} program: {reason}; set xdp = \"off\"")]
    Tc {
        /// The link.
        name: String,
        /// "ingress" or "egress".
        way: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// The kernel does not know links between programs and interfaces.
    #[error("XDP on {name}: this kernel has no BPF links; carp needs Linux 5.10 or newer, or xdp = \"off\"")]
    NoLinks {
        /// The link.
        name: String,
    },
    /// The kernel refuses the program.
    #[error(
        "the kernel refuses a BPF program: {reason}; report it with the kernel's version, and set xdp = \"off\""
    )]
    Load {
        /// What the kernel said; its verifier's last words included.
        reason: String,
    },
    /// A pinned object cannot be read or changed.
    #[error("{doing} {}: {source}", .path.display())]
    Pin {
        /// What was tried.
        doing: &'static str,
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No instance of this name has a datapath.
    #[error(
        "instance {instance} has no datapath: no carpd of that name ran here, or it runs with xdp = \"off\""
    )]
    NotPinned {
        /// The name.
        instance: String,
    },
    /// The pinned maps are of another version of carp.
    #[error("the datapath of instance {instance} was made by another version of carp: use its own carpctl")]
    OtherVersion {
        /// The name.
        instance: String,
    },
    /// Somebody reads the log already.
    #[error("another carpctl reads the log of instance {instance}: one may at a time")]
    Traced {
        /// The name.
        instance: String,
    },
    /// A map cannot be read or written.
    #[error("BPF map {map}: {reason}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// The datapath's table of VIPs has room, but none for this one.
    #[error(
        "VIP {address} has no place in BPF map VIPS beside the others: choose another address, or set xdp = \"off\""
    )]
    NoPlace {
        /// The VIP.
        address: IpAddr,
    },
    /// A link that has no place in the table.
    #[error(
        "interface #{ifindex} has no place in BPF map LINKS beside the others, which holds about a thousand: take fewer interfaces, or set xdp = \"off\""
    )]
    TooManyLinks {
        /// The link.
        ifindex: u32,
    },
    /// The links of this network namespace cannot be listed.
    #[error("listing the XDP programs of the interfaces: {source}")]
    Links {
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn pinned_map(map: &'static str, error: &io::Error) -> Self {
        Self::Map { map, reason: error.to_string() }
    }

    pub(super) fn map(map: &'static str, error: &MapError) -> Self {
        Self::Map { map, reason: chain(error) }
    }

    pub(super) fn load(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Load { reason: last_words(&chain(error)) }
    }

    pub(super) fn tc(way: Way, name: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Tc { name: name.to_owned(), way: way.name(), reason: chain(error) }
    }

    pub(super) fn attach(
        name: &str,
        mode: &'static str,
        choices: &'static str,
        error: &ProgramError,
    ) -> Self {
        // The slot is free, as somebody has looked.
        let is_below = os_error(error) == Some(libc::EEXIST);
        let above = if is_below { ": an interface above it (a VLAN, a bond, a bridge) has one" } else { "" };
        Self::Attach { name: name.to_owned(), mode, reason: format!("{}{above}", chain(error)), choices }
    }
}

/// The number that the kernel gave.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let number =
        |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    std::iter::successors(Some(error), |error| error.source()).find_map(number)
}

/// The verifier's log is long; what it stumbled over is at its end.
fn last_words(reason: &str) -> String {
    const LINES: usize = 6;
    let lines: Vec<&str> = reason.trim_end().lines().collect();
    match lines.split_first() {
        Some((first, rest)) if rest.len() > LINES => {
            let last = rest.get(rest.len() - LINES..).unwrap_or_default();
            format!("{first}\n  ...\n{}", last.join("\n"))
        }
        Some(_) | None => reason.to_owned(),
    }
}
