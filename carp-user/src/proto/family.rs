//! The families of addresses, each of which has adverts of its own.

use std::net::IpAddr;

/// Address family of an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Families that a virtual host has VIPs of; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// It has IPv4 VIPs.
    pub v4: bool,
    /// It has IPv6 VIPs.
    pub v6: bool,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Families {
    /// Those of these addresses.
    pub fn of(vips: &[IpAddr]) -> Self {
        let has = |family| vips.iter().any(|vip| Family::of(*vip) == family);
        Self { v4: has(Family::V4), v6: has(Family::V6) }
    }

    /// Those in use, IPv4 first.
    pub fn list(self) -> impl Iterator<Item = Family> {
        [(self.v4, Family::V4), (self.v6, Family::V6)]
            .into_iter()
            .filter_map(|(used, family)| used.then_some(family))
    }

    /// Whether this one is in use.
    pub const fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}
