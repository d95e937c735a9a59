//! How the datapath finds a virtual host: by its link, in a table with open addressing, and there by its vhid. As for VIPs
//! a look into an array is part of the program, and one into the kernel's hash map is calls.

use super::MAX_HOSTS;
use crate::id::{IfIndex, Vhid};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the map of [`Link`]s.
pub const LINKS: &str = "LINKS";

/// Entries of that map: about as many links can have virtual hosts.
pub const LINK_PLACES: u32 = 1024;

/// Most places that a link can be at. Policy when all are taken: its virtual hosts are refused.
pub const LINK_STEPS: u32 = 16;

/// The virtual hosts of a link. All zero is nobody's, and ends the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Link {
    ifindex: u32,
    /// By vhid, one more than the number in [`HOSTS`](super::HOSTS); 0 is none.
    numbers: [u16; 256],
}

/// No link has this number: whoever looks for one goes on.
const FORMER: u32 = u32::MAX;

const _: () = assert!(size_of::<Link>() == 516 && MAX_HOSTS < u16::MAX as u32);

impl Link {
    /// Nobody's.
    pub const NONE: Self = Self { ifindex: 0, numbers: [0; 256] };

    /// One that is gone, and may have been passed on the way to another.
    pub const FORMER: Self = Self { ifindex: FORMER, ..Self::NONE };

    /// A link without virtual hosts.
    pub const fn new(link: IfIndex) -> Self {
        Self { ifindex: link.0, ..Self::NONE }
    }

    /// One of the places that a link can be at, by its number from 0 on. Links are numbered one after the other, which
    /// the golden ratio spreads best.
    #[inline(always)]
    pub const fn place(link: IfIndex, step: u32) -> u32 {
        const SPREAD: u32 = 0x9e37_79b9;
        (link.0.wrapping_mul(SPREAD) >> 22).wrapping_add(step) % LINK_PLACES
    }

    /// The number of a virtual host in [`HOSTS`](super::HOSTS), from one of its link's places on; `at` is what stands at a
    /// place.
    #[inline(always)]
    pub fn find<'a>(
        link: IfIndex,
        vhid: Vhid,
        from: u32,
        at: impl Fn(u32) -> Option<&'a Self>,
    ) -> Option<u32> {
        let mut step = from;
        while step < LINK_STEPS {
            let here = at(Self::place(link, step))?;
            if here.is(link) {
                return here.number(vhid);
            }
            if here.is_free() {
                return None;
            }
            step += 1;
        }
        None
    }

    /// Whether it is this one.
    #[inline(always)]
    pub const fn is(&self, link: IfIndex) -> bool {
        self.ifindex == link.0
    }

    /// Whether nobody was ever here, nor at a place that comes later.
    #[inline(always)]
    pub const fn is_free(&self) -> bool {
        self.ifindex == 0
    }

    /// Which link it is, if it is one.
    pub fn link(&self) -> Option<IfIndex> {
        Some(self.ifindex).filter(|ifindex| !matches!(*ifindex, 0 | FORMER)).map(IfIndex)
    }

    /// The number of a virtual host in [`HOSTS`](super::HOSTS).
    #[inline(always)]
    pub const fn number(&self, vhid: Vhid) -> Option<u32> {
        (self.numbers[vhid.get() as usize] as u32).checked_sub(1)
    }

    /// Its virtual hosts, with their numbers.
    pub fn hosts(&self) -> impl Iterator<Item = (Vhid, u32)> {
        let vhids = (1..=u8::MAX).filter_map(Vhid::new);
        vhids.filter_map(|vhid| Some((vhid, self.number(vhid)?)))
    }

    /// Gives a virtual host this number, below [`MAX_HOSTS`], or none.
    pub fn set(&mut self, vhid: Vhid, number: Option<u32>) {
        let number =
            number.filter(|number| *number < MAX_HOSTS).and_then(|number| u16::try_from(number + 1).ok());
        self.numbers[usize::from(vhid.get())] = number.unwrap_or(0);
    }
}
