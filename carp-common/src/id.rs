//! Names of things: virtual host ids, MAC addresses, links.

use core::fmt;

/// A virtual host id, 1..=255, unique on its layer-2 segment (`carp-protocol` section 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vhid(core::num::NonZeroU8);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

/// The kernel's number for a link (network interface).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// First five bytes of every virtual MAC; the sixth is the vhid. The same for IPv4 and IPv6.
pub const VIRTUAL_MAC_PREFIX: [u8; 5] = [0x00, 0x00, 0x5e, 0x00, 0x01];

/// The virtual MAC 00:00:5e:00:01:VHID (`carp-protocol` section 4.1).
pub const fn virtual_mac(vhid: Vhid) -> Mac {
    let [a, b, c, d, e] = VIRTUAL_MAC_PREFIX;
    Mac([a, b, c, d, e, vhid.get()])
}

impl Vhid {
    /// `None` for 0, which is never valid.
    pub const fn new(vhid: u8) -> Option<Self> {
        match core::num::NonZeroU8::new(vhid) {
            Some(vhid) => Some(Self(vhid)),
            None => None,
        }
    }

    /// As the byte on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is no single station's.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The vhid, when this is a virtual MAC.
    #[inline(always)]
    pub const fn vhid(self) -> Option<Vhid> {
        match self.0 {
            [0x00, 0x00, 0x5e, 0x00, 0x01, vhid] => Vhid::new(vhid),
            _ => None,
        }
    }
}

impl fmt::Display for Vhid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
