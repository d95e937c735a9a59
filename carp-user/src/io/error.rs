//! Why a shell around the kernel's network could not do what it was asked, and what to do next.

use std::io;
use std::net::IpAddr;

/// An error of `io/{clock,link,address,fdb,advert,group,conntrack}`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks a capability.
    #[error(
        "{doing}: {capability} is missing: run carpd as root, or grant it (systemd: AmbientCapabilities={capability})"
    )]
    Privilege {
        /// What was tried.
        doing: String,
        /// The capability, as `capabilities(7)` names it.
        capability: &'static str,
    },
    /// A configured link is not there.
    #[error("no interface named {names} here; there are: {}", .existing.join(", "))]
    NoSuchLink {
        /// Every name of the configuration that no link has.
        names: String,
        /// Every link of this network namespace.
        existing: Vec<String>,
    },
    /// A link that CARP cannot run on.
    #[error("{name} is no Ethernet interface: CARP needs one with a 6-byte hardware address")]
    NotEthernet {
        /// The link.
        name: String,
    },
    /// A VIP on a link where its family cannot work.
    #[error(
        "{vip} on {name}: IPv6 is switched off there: set net.ipv6.conf.{name}.disable_ipv6 to 0, or take the VIP out"
    )]
    Ipv6Disabled {
        /// The link.
        name: String,
        /// The VIP.
        vip: IpAddr,
    },
    /// A VIP on a link that has no address of its family to advertise from.
    #[error(
        "{vip} on {name}: the interface has no {family} address of its own to advertise from: \
         give it one that is no VIP, or take the VIP out"
    )]
    NoAddress {
        /// The link.
        name: String,
        /// The VIP.
        vip: IpAddr,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// The driver cannot receive a second unicast MAC.
    #[error(
        "{name} cannot receive the virtual MAC {mac}: its driver has no unicast filter; make it promiscuous \
         (ip link set {name} promisc on), or set xdp = \"off\""
    )]
    NoUnicastFilter {
        /// The link.
        name: String,
        /// The virtual MAC.
        mac: carp_common::id::Mac,
    },
    /// The kernel was built without something.
    #[error("{doing}: this kernel lacks {option}")]
    Unsupported {
        /// What was tried.
        doing: String,
        /// The option of its configuration.
        option: &'static str,
    },
    /// Anything else that the kernel said.
    #[error("{doing}: {source}")]
    Kernel {
        /// What was tried.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Names the capability when that is what the kernel misses, else passes on what it said.
    pub(super) fn kernel(doing: impl Into<String>, capability: &'static str, source: io::Error) -> Self {
        let doing = doing.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Privilege { doing, capability }
        } else {
            Self::Kernel { doing, source }
        }
    }
}

/// An error and its causes in one line, each said once: some messages repeat their cause, others (aya's
/// name the call only) do not.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        cause = source.source();
    }
    text
}

/// Needed for packet sockets.
pub(super) const CAP_NET_RAW: &str = "CAP_NET_RAW";
/// Needed for addresses and forwarding entries.
pub(super) const CAP_NET_ADMIN: &str = "CAP_NET_ADMIN";
