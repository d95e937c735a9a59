//! CARP's HMAC-SHA1 (`carp-protocol` section 2), split so that all that does not change from one
//! advertisement to the next is computed once: per packet there are two or three SHA-1
//! compressions. The same code runs in XDP; in the tests the `hmac` and `sha1` crates check it.

mod midstate;
mod probe;
mod scratch;
mod sha1;
mod sha256;
mod strict;

pub use midstate::Midstate;
pub use probe::ProbeKey;
pub use scratch::Scratch;
pub use strict::StrictKey;

use crate::id::{Mac, Vhid};
use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use scratch::Hasher;

/// Bytes in a CARP key; a shorter password is padded with zeros.
pub const KEY_LEN: usize = 20;
/// Bytes in the digest.
pub const DIGEST_LEN: usize = 20;

/// The shared secret of a virtual host: raw password bytes, no derivation. Its `Debug` is blind.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; KEY_LEN]);

/// Which addresses the sender hashes, and in which order (section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// The one IPv4 VIP of a ucarp process, nothing else.
    Ucarp,
    /// FreeBSD ≥ 9.1, pfSense, OPNsense: IPv4 ascending, then IPv6 ascending, link-local included.
    Freebsd,
    /// What OpenBSD also accepts: FreeBSD's list, and a hand-set link-layer address if any.
    OpenbsdOrig,
    /// What OpenBSD sends: scoped IPv6 left out.
    OpenbsdNov6ll,
    /// NetBSD: as FreeBSD, but only fe80::/10 loses its embedded zone.
    Netbsd,
    /// DragonFly: IPv4 ascending with duplicates, IPv6 in list order.
    Dragonfly,
    /// FreeBSD of 2005: both families in list order.
    Fb05,
}

/// The hash of CARP's digest.
const CARP: ([u32; 8], fn(&mut Scratch)) = (sha1::START, sha1::compress);

impl Key {
    /// The zero-padded password, or `None` when it has more than 20 bytes. Tools allow 19: a
    /// caller that takes a password, not raw bytes, enforces that itself.
    pub fn from_password(password: &[u8]) -> Option<Self> {
        let mut key = [0; KEY_LEN];
        key.get_mut(..password.len())?.copy_from_slice(password);
        Some(Self(key))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Variant {
    /// Every variant, the most common first.
    pub const ALL: [Self; 7] = [
        Self::Freebsd,
        Self::OpenbsdNov6ll,
        Self::OpenbsdOrig,
        Self::Ucarp,
        Self::Netbsd,
        Self::Dragonfly,
        Self::Fb05,
    ];

    /// The variant's name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ucarp => "ucarp",
            Self::Freebsd => "freebsd",
            Self::OpenbsdOrig => "openbsd-orig",
            Self::OpenbsdNov6ll => "openbsd-nov6ll",
            Self::Netbsd => "netbsd",
            Self::Dragonfly => "dragonfly",
            Self::Fb05 => "fb05",
        }
    }

    /// The variant with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Whether this sender could exist with these VIPs: ucarp knows exactly one, of IPv4.
    pub fn can_hold(self, vips: &[IpAddr]) -> bool {
        self != Self::Ucarp || matches!(vips, [IpAddr::V4(_)])
    }
}

impl Midstate {
    /// The digest of `vhid` with `vips`, in list order, under `key`. `lladdr` is OpenBSD's hand-set
    /// link-layer address of a leader; the other variants ignore it.
    pub fn new(key: &Key, variant: Variant, lladdr: Option<Mac>, vhid: Vhid, vips: &[IpAddr]) -> Self {
        let mut inner = Hasher::keyed(CARP, key, 0x36);
        let outer = Hasher::keyed(CARP, key, 0x5c);
        inner.absorb(&[0x02, 0x01]);
        if let (Variant::OpenbsdOrig | Variant::OpenbsdNov6ll, Some(Mac(mac))) = (variant, lladdr) {
            inner.absorb(&mac);
        }
        inner.absorb(&[vhid.get()]);
        absorb_vips(&mut inner, variant, vips);
        Self::of(&inner, &outer)
    }
}

fn absorb_vips(hash: &mut Hasher, variant: Variant, vips: &[IpAddr]) {
    let v4 = || vips.iter().filter_map(|vip| if let IpAddr::V4(ip) = vip { Some(ip.octets()) } else { None });
    let v6 = || {
        vips.iter().filter_map(|vip| match vip {
            IpAddr::V6(ip) if variant == Variant::OpenbsdNov6ll && is_scoped(variant, *ip) => None,
            IpAddr::V6(ip) => Some(unscoped(variant, *ip)),
            IpAddr::V4(_) => None,
        })
    };
    match variant {
        Variant::Ucarp => v4().take(1).for_each(|ip| hash.absorb(&ip)),
        Variant::Freebsd | Variant::OpenbsdOrig | Variant::OpenbsdNov6ll | Variant::Netbsd => {
            ascending(v4, 1, |ip| hash.absorb(ip));
            ascending(v6, 1, |ip| hash.absorb(ip));
        }
        Variant::Dragonfly => {
            ascending(v4, usize::MAX, |ip| hash.absorb(ip));
            v6().for_each(|ip| hash.absorb(&ip));
        }
        Variant::Fb05 => {
            v4().for_each(|ip| hash.absorb(&ip));
            v6().for_each(|ip| hash.absorb(&ip));
        }
    }
}

/// Calls `take` for every address in ascending order, each at most `copies` times, by selection as
/// the BSDs do it: the bounds all-zeros and all-ones are exclusive, so these two are never hashed.
fn ascending<const N: usize, I: Iterator<Item = [u8; N]>>(
    addresses: impl Fn() -> I,
    copies: usize,
    mut take: impl FnMut(&[u8; N]),
) {
    let mut last = [0; N];
    while let Some(next) = addresses().filter(|ip| *ip > last && *ip != [0xff; N]).min() {
        let count = addresses().filter(|ip| ip.cmp(&next) == Ordering::Equal).count();
        (0..count.min(copies)).for_each(|_| take(&next));
        last = next;
    }
}

/// fe80::/10, and multicast of interface or link scope: KAME kernels keep the zone in bytes 2–3.
fn is_scoped(variant: Variant, ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let link_local = a == 0xfe && b & 0xc0 == 0x80;
    let multicast = a == 0xff && matches!(b & 0x0f, 1 | 2);
    link_local || (multicast && variant != Variant::Netbsd)
}

fn unscoped(variant: Variant, ip: Ipv6Addr) -> [u8; 16] {
    let mut octets = ip.octets();
    if is_scoped(variant, ip) && variant != Variant::Fb05 {
        octets[2] = 0;
        octets[3] = 0;
    }
    octets
}

/// The key fingerprint shown to operators, so that two nodes can be compared without showing the
/// key: the digest of nothing but vhid 1 and a fixed counter (item 115).
pub fn fingerprint(key: &Key) -> [u8; 4] {
    let vhid = Vhid::new(1);
    let none: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0))];
    let digest = vhid.map(|vhid| Midstate::new(key, Variant::Freebsd, None, vhid, &none).digest([0; 8]));
    let [a, b, c, d, ..] = digest.unwrap_or_default();
    [a, b, c, d]
}

/// What the nodes of a virtual host must agree on, to be compared at a glance: vhid, VIPs in whatever
/// order, key (item 115). A keyed digest of what no advert says, of which a fifth is shown.
pub fn common_digest(key: &Key, vhid: Vhid, vips: &[IpAddr]) -> [u8; 4] {
    let mut inner = Hasher::keyed(CARP, key, 0x36);
    inner.absorb(b"what nodes agree on");
    inner.absorb(&[vhid.get()]);
    let mapped = |vip: &IpAddr| match vip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    ascending(|| vips.iter().map(mapped), 1, |ip| inner.absorb(ip));
    let [a, b, c, d, ..] = Midstate::of(&inner, &Hasher::keyed(CARP, key, 0x5c)).digest([0; 8]);
    [a, b, c, d]
}
