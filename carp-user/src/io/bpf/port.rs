//! Where the programs are attached, and how.

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
    /// In the driver, else behind it.
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

impl Mode {
    /// Whether a program that is attached so may stay.
    pub(super) fn is_met_by(self, attached: Attached) -> bool {
        match (self, attached) {
            (Self::Auto | Self::Native, Attached::Native) | (Self::Generic, Attached::Generic) => true,
            // Auto prefers the driver, but where it was refused once it need not be tried again.
            (Self::Auto, Attached::Generic) => true,
            (Self::Native, Attached::Generic) | (Self::Generic, Attached::Native) => false,
            (Self::Tcx, Attached::Tcx) => true,
            (Self::Tcx, Attached::Native | Attached::Generic) => false,
            (Self::Auto | Self::Native | Self::Generic, Attached::Tcx) => false,
        }
    }
}
