//! How the datapath finds a VIP: by a table with open addressing that is laid into two array maps. A look into an
//! array is part of the program; into the kernel's hash map it is calls, which take a third of what dropping a
//! frame costs.

use super::window::in_words;
use super::{Host, MAX_HOSTS};
use crate::id::{IfIndex, Vhid};
use core::net::{IpAddr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the map of [`VipBlock`]s, in which a [`VipPlace`] says which of the [`VIPS`] a VIP is.
pub const VIP_INDEX: &str = "VIP_INDEX";

/// Entries of that map. Of its places one in sixteen is taken, at most.
pub const VIP_BLOCKS: u32 = 4096;

/// The places of addresses that differ in their last six bits: whoever has many has them one after the other. A
/// number in [`VIPS`], [`NO_VIP`] or [`FORMER_VIP`].
pub type VipBlock = [u16; BLOCK];

/// Nothing was ever at this place, nor at one that comes later.
pub const NO_VIP: u16 = 0;

/// Nothing is at this place; something may be at one that comes later.
pub const FORMER_VIP: u16 = u16::MAX;

/// Most places that a VIP can be at. Policy when all are taken: the VIP is refused. With [`MAX_VIPS`](super::MAX_VIPS)
/// of them a sixth place is rare.
pub const VIP_STEPS: u32 = 16;

/// Name of the map of [`VipEntry`]s; number 0 is never used.
pub const VIPS: &str = "VIPS";

const BLOCK: usize = 64;

/// Where the number of a VIP can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipPlace {
    /// Which [`VipBlock`].
    pub block: u32,
    /// Which number of it.
    pub at: usize,
}

/// A VIP on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VipKey {
    link: u64,
    address: [u64; 2],
}

/// What the datapath knows of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Vip {
    /// Index of its window in [`WINDOWS`](super::WINDOWS).
    pub slot: u32,
    /// The vhid, hence the virtual MAC; 0 in an absent entry.
    pub vhid: u16,
    /// [`Host::ROUTER`], [`Host::ANSWER_PING`].
    pub flags: u16,
}

/// A VIP, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VipEntry {
    /// Which one.
    pub key: VipKey,
    /// What is known of it.
    pub vip: Vip,
}

impl VipKey {
    /// For this address on this link.
    #[inline(always)]
    pub fn new(link: IfIndex, vip: IpAddr) -> Self {
        // Not by way of bytes in memory, for which half the frames would have to wait.
        let address = match vip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
            }
            IpAddr::V6(ip) => in_words(ip.octets()),
        };
        Self { link: u64::from(link.0), address }
    }

    /// The same by its words.
    #[inline(always)]
    pub const fn from_words([link, high, low]: [u64; 3]) -> Self {
        Self { link, address: [high, low] }
    }

    /// It in words, for registers.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        [self.link, self.address[0], self.address[1]]
    }

    /// The link that a frame came in by, or leaves by.
    pub fn link(&self) -> IfIndex {
        IfIndex(u32::try_from(self.link).unwrap_or(0))
    }

    /// The address.
    pub const fn address(&self) -> IpAddr {
        let octets: [u8; 16] = zerocopy::transmute!(self.address);
        Ipv6Addr::from_octets(octets).to_canonical()
    }

    /// One of the places that it can be at, by its number from 0 on. (What is hashed is what an administrator
    /// chose. Who sends packets to addresses that are hashed alike makes nothing slower than a few places.)
    #[inline(always)]
    pub const fn place(&self, step: u32) -> VipPlace {
        /// Odd numbers without a pattern: 2^64 divided by the golden ratio, and by its square.
        const SPREAD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x61c8_8646_80b5_83eb];
        const LAST: u64 = BLOCK as u64 - 1;
        let [high, low] = self.address;
        let low = u64::from_be(low);
        let hash = self.link.wrapping_mul(SPREAD[1]) ^ high;
        let hash = (hash ^ (hash >> 32)).wrapping_mul(SPREAD[0]) ^ (low / BLOCK as u64);
        let hash = hash.wrapping_mul(SPREAD[0]);
        VipPlace {
            block: ((hash >> 52) as u32).wrapping_add(step) % VIP_BLOCKS,
            at: (((hash >> 46) ^ low) & LAST) as usize,
        }
    }

    /// All of them.
    pub fn places(self) -> impl Iterator<Item = VipPlace> {
        (0..VIP_STEPS).map(move |step| self.place(step))
    }

    /// What is known of it, from one of its places on: `number` is what stands at a place, `entry` the VIP with
    /// a number.
    #[inline(always)]
    pub fn find<'a>(
        &self,
        from: u32,
        number: impl Fn(VipPlace) -> Option<u16>,
        entry: impl Fn(u16) -> Option<&'a VipEntry>,
    ) -> Option<Vip> {
        let mut step = from;
        while step < VIP_STEPS {
            let number = number(self.place(step))?;
            if number == NO_VIP {
                return None;
            }
            let found = entry(number).and_then(|entry| entry.of(self));
            if found.is_some() {
                return found;
            }
            step += 1;
        }
        None
    }

    /// By words: as the compiler would do it, it is a call of a byte loop.
    #[inline(always)]
    const fn is(&self, other: &Self) -> bool {
        self.link == other.link && self.address[0] == other.address[0] && self.address[1] == other.address[1]
    }
}

impl VipEntry {
    /// Nobody's.
    pub const NONE: Self = zerocopy::transmute!([0_u8; size_of::<Self>()]);

    /// What is known of this VIP; `None` when the entry is another's, or as good as none.
    #[inline(always)]
    pub const fn of(&self, key: &VipKey) -> Option<Vip> {
        if self.vip.exists() && self.key.is(key) { Some(self.vip) } else { None }
    }
}

impl Vip {
    /// As [`Host::exists`].
    #[inline(always)]
    pub const fn exists(&self) -> bool {
        self.vhid != 0 && self.slot < MAX_HOSTS
    }

    /// Whether its neighbour advertisements carry the router flag.
    #[inline(always)]
    pub const fn is_router(&self) -> bool {
        self.flags & Host::ROUTER != 0
    }

    /// Whether echo requests to it are answered here.
    #[inline(always)]
    pub const fn answers_ping(&self) -> bool {
        self.flags & Host::ANSWER_PING != 0
    }

    /// The virtual host's number; `None` in an absent entry.
    #[inline(always)]
    pub fn vhid(&self) -> Option<Vhid> {
        Vhid::new(u8::try_from(self.vhid).ok()?)
    }
}
