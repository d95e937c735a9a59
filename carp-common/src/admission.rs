//! Whether a well-formed advert is one for a virtual host: what needs its addresses and keys. XDP
//! asks here, and the daemon behind it asks the same again.

use crate::auth::{Midstate, Scratch};
use crate::time::Span;
use crate::wire::{Heard, Refusal};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most digests that one virtual host accepts. Policy: a configuration that needs more is refused.
pub const MAX_DIGESTS: usize = 4;

/// What adverts of a virtual host are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Auth {
    /// How many of `accept` are in use. 0, as in an absent entry: the datapath judges nothing and
    /// hands everything to the daemon.
    digests: u32,
    /// [`Auth::V4`], [`Auth::V6`].
    families: u32,
    /// The link's own address, source of our adverts; all zero: none.
    source_v6: [u8; 16],
    /// The link's own IPv4 address, likewise.
    source_v4: [u8; 4],
    /// Makes the size a multiple of eight.
    reserved: u32,
    /// Nanoseconds after which a master that returns from silence may be another one by now
    /// ([`Window::hear`](crate::map::Window::hear)): the longest lease of our own base.
    patience: u64,
    /// By which variant and key an advert may be signed.
    accept: [Midstate; MAX_DIGESTS],
}

/// Whom an advert is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// Everybody.
    Group,
    /// Nodes of ours: a claim that is announced.
    Ours,
    /// This node alone.
    Us,
}

impl Auth {
    const V4: u32 = 1;
    const V6: u32 = 2;

    /// Nothing to judge by.
    pub const NONE: Self = Self {
        digests: 0,
        families: 0,
        source_v6: [0; 16],
        source_v4: [0; 4],
        reserved: 0,
        patience: 0,
        accept: [Midstate::NONE; MAX_DIGESTS],
    };

    /// For a virtual host with these VIPs and this longest lease; each digest once, those beyond
    /// [`MAX_DIGESTS`] not at all.
    pub fn new(vips: &[IpAddr], patience: Span, accept: impl IntoIterator<Item = Midstate>) -> Self {
        let (v4, v6) = (vips.iter().any(IpAddr::is_ipv4), vips.iter().any(IpAddr::is_ipv6));
        let families = if v4 { Self::V4 } else { 0 } | if v6 { Self::V6 } else { 0 };
        let mut auth = Self { families, patience: patience.as_nanos(), ..Self::NONE };
        for midstate in accept {
            let used = auth.digests as usize;
            if auth.accept.iter().take(used).any(|known| *known == midstate) {
                continue;
            }
            let Some(free) = auth.accept.get_mut(used) else { break };
            *free = midstate;
            auth.digests += 1;
        }
        auth
    }

    /// On a link with these addresses of its own.
    #[must_use]
    pub fn at(mut self, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        self.source_v4 = v4.map_or([0; 4], |ip| ip.octets());
        self.source_v6 = v6.map_or([0; 16], |ip| ip.octets());
        self
    }

    /// Whether there is anything to judge by.
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.digests != 0
    }

    /// The longest lease.
    #[inline(always)]
    pub const fn patience(&self) -> Span {
        Span::nanos(self.patience)
    }

    /// Judges an advert for this virtual host, cheap things first; `is_signed` is asked of one key after the
    /// other, as [`Auth::is_signed`].
    ///
    /// # Errors
    /// `Loop`, `BadVhid` for a family without VIPs, `BadAuth`, `NotForUs`.
    #[inline(always)]
    pub fn admit(&self, heard: &Heard, is_signed: impl Fn(u32) -> bool) -> Result<Addressee, Refusal> {
        if self.is_ours(heard.source) {
            return Err(Refusal::Loop);
        }
        let family = if heard.source.is_ipv4() { Self::V4 } else { Self::V6 };
        if self.families & family == 0 {
            return Err(Refusal::BadVhid);
        }
        let is_key = |key: u32| (key as usize) < MAX_DIGESTS && key < self.digests;
        let mut key = 0;
        while is_key(key) && !is_signed(key) {
            key += 1;
        }
        if !is_key(key) {
            return Err(Refusal::BadAuth);
        }
        let to_group = match heard.destination {
            IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_multicast(),
        };
        match (to_group, self.is_ours(heard.destination)) {
            (true, _) if heard.is_announcement() => Ok(Addressee::Ours),
            (true, _) => Ok(Addressee::Group),
            (false, true) => Ok(Addressee::Us),
            (false, false) => Err(Refusal::NotForUs),
        }
    }

    /// Whether an advert is signed with one of the keys.
    #[inline(always)]
    pub fn is_signed(&self, key: u32, heard: &Heard, scratch: &mut Scratch) -> bool {
        let counter = heard.advert.counter.to_be_bytes();
        self.accept
            .get(key as usize)
            .is_some_and(|accept| accept.verify_in(scratch, counter, &heard.advert.digest))
    }

    #[inline(always)]
    fn is_ours(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => !ip.is_unspecified() && ip.octets() == self.source_v4,
            IpAddr::V6(ip) => !ip.is_unspecified() && ip.octets() == self.source_v6,
        }
    }
}

const _: () = assert!(size_of::<Auth>() == 40 + MAX_DIGESTS * 192);
