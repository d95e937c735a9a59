//! Whether a well-formed advert is one for a virtual host: what needs its addresses and keys. XDP
//! asks here, and the daemon behind it asks the same again. What needs memory of other adverts is in
//! [`crate::sender`].

use crate::auth::{Midstate, Scratch, StrictKey};
use crate::time::Span;
use crate::wire::ip::mapped;
use crate::wire::{Refusal, Sighting};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most digests that one virtual host accepts. Policy: a configuration that needs more is refused.
pub const MAX_DIGESTS: usize = 4;

/// Most strict keys of one virtual host: the one in use, and the next.
pub const MAX_KEYS: usize = 2;

/// How adverts are signed, and which are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As CARP does it, with every other implementation.
    #[default]
    Carp,
    /// As CARP does it and strictly, in one frame; what is signed either way is accepted.
    Migrate,
    /// Strictly, and nothing else is accepted: for groups whose members are all ours.
    Strict,
}

/// How one advert is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// As CARP does it.
    Carp,
    /// Strictly.
    Strict,
}

/// What adverts of a virtual host are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Auth {
    /// How many of `accept` are in use. 0, as in an absent entry: the datapath judges nothing and
    /// hands everything to the daemon.
    digests: u32,
    /// [`Auth::V4`], [`Auth::V6`].
    families: u32,
    /// Nanoseconds after which a master that returns from silence may be another one by now
    /// ([`Window::hear`](crate::map::Window::hear)): the longest lease of our own base.
    patience: u64,
    /// The link's own IPv4 address, source of our adverts, as in [`Sighting`]; all zero: none.
    own_v4: [u8; 16],
    /// The link's own IPv6 address, likewise.
    own_v6: [u8; 16],
    /// [`Mode`] by its index.
    mode: u32,
    /// How many of `strict` are in use.
    keys: u32,
    /// By which key an advert may be signed strictly.
    strict: [StrictKey; MAX_KEYS],
    /// By which variant and key an advert may be signed as CARP does it.
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
    /// Another node alone.
    Another,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Carp, Self::Migrate, Self::Strict];

    /// Its name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Carp => "carp",
            Self::Migrate => "migrate",
            Self::Strict => "strict",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Whether adverts of this node carry a strict MAC, and so a counter that only grows.
    pub const fn signs_strictly(self) -> bool {
        match self {
            Self::Carp => false,
            Self::Migrate | Self::Strict => true,
        }
    }
}

impl Auth {
    const V4: u32 = 1;
    const V6: u32 = 2;

    /// Nothing to judge by.
    pub const NONE: Self = Self {
        digests: 0,
        families: 0,
        patience: 0,
        own_v4: [0; 16],
        own_v6: [0; 16],
        mode: 0,
        keys: 0,
        strict: [StrictKey::NONE; MAX_KEYS],
        accept: [Midstate::NONE; MAX_DIGESTS],
    };

    /// For a virtual host with these VIPs and this longest lease; each digest once, those beyond
    /// [`MAX_DIGESTS`] not at all.
    pub fn new(vips: &[IpAddr], patience: Span, accept: impl IntoIterator<Item = Midstate>) -> Self {
        let (v4, v6) = (vips.iter().any(IpAddr::is_ipv4), vips.iter().any(IpAddr::is_ipv6));
        let families = if v4 { Self::V4 } else { 0 } | if v6 { Self::V6 } else { 0 };
        let mut auth = Self { families, patience: patience.as_nanos(), ..Self::NONE };
        accept.into_iter().for_each(|midstate| add(&mut auth.accept, &mut auth.digests, midstate));
        auth
    }

    /// In this mode, with these strict keys; each once, those beyond [`MAX_KEYS`] not at all.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode, keys: impl IntoIterator<Item = StrictKey>) -> Self {
        self.mode = mode as u32;
        keys.into_iter().for_each(|key| add(&mut self.strict, &mut self.keys, key));
        self
    }

    /// On a link with these addresses of its own.
    #[must_use]
    pub fn at(mut self, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        self.own_v4 = v4.map_or([0; 16], |ip| mapped(ip.into()));
        self.own_v6 = v6.map_or([0; 16], |ip| ip.octets());
        self
    }

    /// The longest lease.
    #[inline(always)]
    pub const fn patience(&self) -> Span {
        Span::nanos(self.patience)
    }

    /// Whether a sender's counter has to grow, and it has to prove that it lives.
    #[inline(always)]
    pub const fn is_strict(&self) -> bool {
        self.mode == Mode::Strict as u32
    }

    /// Whether there is anything to judge by.
    #[inline(always)]
    pub const fn is_known(&self) -> bool {
        self.digests != 0
    }

    /// Judges an advert for this virtual host, and tells whom it is for.
    ///
    /// # Errors
    /// Those of [`Auth::authenticate`].
    pub fn admit(&self, seen: &Sighting) -> Result<Addressee, Refusal> {
        self.authenticate(seen, |scheme, key| self.is_signed(scheme, key, seen, &mut Scratch::new()))?;
        Ok(self.addressee(seen))
    }

    /// Judges an advert for this virtual host, cheap things first; `is_signed` is asked of one key after the
    /// other, as [`Auth::is_signed`].
    ///
    /// # Errors
    /// `Loop`, `BadVhid` for a family without VIPs, `BadMode`, `BadAuth`.
    #[inline(always)]
    pub fn authenticate(
        &self,
        seen: &Sighting,
        is_signed: impl Fn(Scheme, u32) -> bool,
    ) -> Result<(), Refusal> {
        if self.is_ours(&seen.said.source, seen) {
            return Err(Refusal::Loop);
        }
        let family = if seen.is_v4() { Self::V4 } else { Self::V6 };
        if self.families & family == 0 {
            return Err(Refusal::BadVhid);
        }
        let strictly = self.keys != 0 && (seen.is_strict() || (self.is_strict() && seen.has_mac()));
        if !strictly && self.is_strict() {
            return Err(Refusal::BadMode);
        }
        let (scheme, most, keys) = match strictly {
            true => (Scheme::Strict, MAX_KEYS, self.keys),
            false => (Scheme::Carp, MAX_DIGESTS, self.digests),
        };
        let is_key = |key: u32| (key as usize) < most && key < keys;
        let mut key = 0;
        while is_key(key) && !is_signed(scheme, key) {
            key += 1;
        }
        match is_key(key) {
            true => Ok(()),
            // Nobody else's digest says that it is strict.
            false if seen.is_strict() && !strictly => Err(Refusal::BadMode),
            false => Err(Refusal::BadAuth),
        }
    }

    /// Whether an advert has a strict MAC, and that is right.
    pub fn is_signed_strictly(&self, seen: &Sighting) -> bool {
        seen.has_mac()
            && (0..self.keys).any(|key| self.is_signed(Scheme::Strict, key, seen, &mut Scratch::new()))
    }

    /// Whom an advert is for.
    #[inline(always)]
    pub fn addressee(&self, seen: &Sighting) -> Addressee {
        if seen.is_to_group() {
            if seen.is_announcement() { Addressee::Ours } else { Addressee::Group }
        } else if self.is_ours(&seen.said.destination, seen) {
            Addressee::Us
        } else {
            Addressee::Another
        }
    }

    /// Whether an advert is signed with one of the keys.
    #[inline(always)]
    pub fn is_signed(&self, scheme: Scheme, key: u32, seen: &Sighting, scratch: &mut Scratch) -> bool {
        match scheme {
            Scheme::Carp => self
                .accept
                .get(key as usize)
                .is_some_and(|accept| accept.verify_in(scratch, seen.said.counter, &seen.digest)),
            Scheme::Strict => {
                self.strict.get(key as usize).is_some_and(|strict| strict.verify_in(scratch, seen))
            }
        }
    }

    #[inline(always)]
    fn is_ours(&self, address: &[u8; 16], seen: &Sighting) -> bool {
        let own = if seen.is_v4() { &self.own_v4 } else { &self.own_v6 };
        *address == *own && *own != [0; 16]
    }
}

/// Adds what is not yet there, while there is room.
fn add<T: PartialEq, const N: usize>(list: &mut [T; N], used: &mut u32, new: T) {
    let count = *used as usize;
    if list.iter().take(count).any(|known| *known == new) {
        return;
    }
    if let Some(free) = list.get_mut(count) {
        *free = new;
        *used += 1;
    }
}

const _: () = assert!(size_of::<Auth>() == 56 + MAX_KEYS * 72 + MAX_DIGESTS * 192);
