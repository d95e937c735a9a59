//! Where the programs are attached, and how.

use aya::util::KernelVersion;
use carp_common::id::IfIndex;

/// A link to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The kernel's number for it.
    pub link: IfIndex,
    /// Its name.
    pub name: String,
    /// How to attach.
    pub mode: Mode,
}

/// How the program is to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, else at tc: behind the driver every large packet, and each with little room in front,
    /// would be copied first, which costs a quarter to half of what TCP carries (docs/benchmarks.md).
    Auto,
    /// In the driver or not at all.
    Native,
    /// Behind the driver.
    Generic,
    /// At tc, leaving the link's XDP slot to others.
    Tcx,
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// Behind the driver, in the kernel's receive path.
    Generic,
    /// At tc.
    Tcx,
}

impl Attached {
    /// As it is called in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
        }
    }
}

/// Whether a frame to which generic XDP has given the link's own MAC counts as the link's: since Linux
/// 5.13 (commit 22b6034323fd). Before, it stays somebody else's, and the kernel drops it.
pub(super) fn generic_delivers() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(5, 13, 0))
}

impl Mode {
    /// Whether a program that is attached so may stay.
    pub(super) fn is_met_by(self, attached: Attached) -> bool {
        match (self, attached) {
            (Self::Auto | Self::Native, Attached::Native) | (Self::Generic, Attached::Generic) => true,
            (Self::Auto | Self::Native, Attached::Generic) | (Self::Generic, Attached::Native) => false,
            (Self::Tcx, Attached::Tcx) => true,
            (Self::Tcx, Attached::Native | Attached::Generic) => false,
            (Self::Auto | Self::Native | Self::Generic, Attached::Tcx) => false,
        }
    }
}
