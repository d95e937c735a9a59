//! CARP's HMAC-SHA1 (`carp-protocol` section 2), split so that all that does not change from one
//! advertisement to the next is computed once: per packet there are two or three SHA-1
//! compressions. The same code runs in XDP; in the tests the `hmac` and `sha1` crates check it.

use crate::id::{Mac, Vhid};
use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in a CARP key; a shorter password is padded with zeros.
pub const KEY_LEN: usize = 20;
/// Bytes in the digest.
pub const DIGEST_LEN: usize = 20;

const BLOCK: usize = 64;
/// Bits in the outer message: the key block and the inner digest.
const OUTER_BITS: u32 = 8 * (64 + 20);

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

/// A keyed digest with everything but the counter already absorbed. 192 bytes; fits a BPF map.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Midstate {
    inner: [u32; 5],
    outer: [u32; 5],
    /// The rest of the inner message with its padding: one block, or two.
    tail: [u8; 2 * BLOCK],
    /// Where in `tail` the counter goes, 0..64.
    counter_at: u32,
    /// Blocks of `tail` in use, 1 or 2; 0 in an absent map entry.
    blocks: u32,
    /// Makes the size a multiple of eight.
    reserved: [u32; 4],
}

/// Where a digest is worked out. A value of its own because in BPF it has to lie in a map: a stack
/// is too small, and older kernels refuse a place in it that is known at run time only.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Scratch {
    /// The rest of the inner message, with the counter.
    tail: [u8; 2 * BLOCK],
    /// The block at work.
    words: [u32; 16],
    /// The hash so far.
    state: [u32; 5],
}

impl Scratch {
    /// Nothing in it yet.
    pub const fn new() -> Self {
        Self { tail: [0; 2 * BLOCK], words: [0; 16], state: [0; 5] }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

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
    /// No digest at all.
    pub const NONE: Self = Self {
        inner: [0; 5],
        outer: [0; 5],
        tail: [0; 2 * BLOCK],
        counter_at: 0,
        blocks: 0,
        reserved: [0; 4],
    };

    /// The digest of `vhid` with `vips`, in list order, under `key`. `lladdr` is OpenBSD's hand-set
    /// link-layer address of a leader; the other variants ignore it.
    pub fn new(key: &Key, variant: Variant, lladdr: Option<Mac>, vhid: Vhid, vips: &[IpAddr]) -> Self {
        let mut inner = Sha1::keyed(key, 0x36);
        let outer = Sha1::keyed(key, 0x5c).scratch.state;
        inner.absorb(&[0x02, 0x01]);
        if let (Variant::OpenbsdOrig | Variant::OpenbsdNov6ll, Some(Mac(mac))) = (variant, lladdr) {
            inner.absorb(&mac);
        }
        inner.absorb(&[vhid.get()]);
        absorb_vips(&mut inner, variant, vips);
        inner.into_midstate(outer)
    }

    /// The digest to send with, or to expect for, this counter.
    pub fn digest(&self, counter: [u8; 8]) -> [u8; DIGEST_LEN] {
        let mut scratch = Scratch::new();
        self.digest_in(&mut scratch, counter);
        let mut digest = [0; DIGEST_LEN];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(scratch.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Whether `digest` is right for this counter, in constant time.
    pub fn verify(&self, counter: [u8; 8], digest: &[u8; DIGEST_LEN]) -> bool {
        self.verify_in(&mut Scratch::new(), counter, digest)
    }

    /// As [`Midstate::verify`].
    #[inline(always)]
    pub fn verify_in(&self, scratch: &mut Scratch, counter: [u8; 8], digest: &[u8; DIGEST_LEN]) -> bool {
        self.digest_in(scratch, counter);
        let mut difference = 0;
        for (ours, theirs) in scratch.state.iter().zip(digest.as_chunks::<4>().0) {
            difference |= ours ^ u32::from_be_bytes(*theirs);
        }
        core::hint::black_box(difference) == 0
    }

    /// Leaves the digest in the scratch's state.
    #[inline(always)]
    fn digest_in(&self, scratch: &mut Scratch, counter: [u8; 8]) {
        scratch.tail = self.tail;
        // Masked so that the verifier sees the bound; 64 + 8 is inside the tail.
        let at = (self.counter_at & 63) as usize;
        let mut i = 0;
        while i < 8 {
            scratch.tail[at + i] = counter[i];
            i += 1;
        }
        scratch.state = self.inner;
        let mut block = 0;
        while block < 2 && block < self.blocks as usize {
            let mut i = 0;
            while i < 16 {
                let byte = |at: usize| scratch.tail[block * BLOCK + 4 * i + at];
                scratch.words[i] = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
                i += 1;
            }
            compress(scratch);
            block += 1;
        }
        // Outer message: 64 bytes of key block, 20 bytes of inner digest.
        let [a, b, c, d, e] = scratch.state;
        scratch.words = [a, b, c, d, e, 0x8000_0000, 0, 0, 0, 0, 0, 0, 0, 0, 0, OUTER_BITS];
        scratch.state = self.outer;
        compress(scratch);
    }
}

impl fmt::Debug for Midstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Midstate(…)")
    }
}

fn absorb_vips(hash: &mut Sha1, variant: Variant, vips: &[IpAddr]) {
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
    let mut inner = Sha1::keyed(key, 0x36);
    inner.absorb(b"what nodes agree on");
    inner.absorb(&[vhid.get()]);
    let mapped = |vip: &IpAddr| match vip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    ascending(|| vips.iter().map(mapped), 1, |ip| inner.absorb(ip));
    let [a, b, c, d, ..] = inner.into_midstate(Sha1::keyed(key, 0x5c).scratch.state).digest([0; 8]);
    [a, b, c, d]
}

/// SHA-1 (FIPS 180-4) over a message that comes in parts.
struct Sha1 {
    scratch: Scratch,
    block: [u8; BLOCK],
    fill: usize,
    bytes: u64,
}

impl Sha1 {
    /// Started with the key block of HMAC (RFC 2104): the key, zero-padded, xor `pad`.
    fn keyed(key: &Key, pad: u8) -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        let scratch = Scratch { state, ..Scratch::new() };
        let mut hash = Self { scratch, block: [0; BLOCK], fill: 0, bytes: 0 };
        let mut block = [pad; BLOCK];
        for (byte, key) in block.iter_mut().zip(key.0) {
            *byte ^= key;
        }
        hash.absorb(&block);
        hash
    }

    fn absorb(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.block[self.fill] = *byte;
            self.fill += 1;
            self.bytes += 1;
            if self.fill == BLOCK {
                for (word, bytes) in self.scratch.words.iter_mut().zip(self.block.as_chunks::<4>().0) {
                    *word = u32::from_be_bytes(*bytes);
                }
                compress(&mut self.scratch);
                self.fill = 0;
            }
        }
    }

    /// Leaves room for the counter and pads as if it had been absorbed.
    fn into_midstate(self, outer: [u32; 5]) -> Midstate {
        let mut tail = [0; 2 * BLOCK];
        let end = self.fill + 8;
        for (to, from) in tail.iter_mut().zip(self.block).take(self.fill) {
            *to = from;
        }
        tail[end] = 0x80;
        let blocks = if end + 1 + 8 <= BLOCK { 1 } else { 2 };
        let bits = ((self.bytes + 8) * 8).to_be_bytes();
        for (to, from) in tail.iter_mut().skip(blocks * BLOCK - 8).zip(bits) {
            *to = from;
        }
        let number = |value: usize| u32::try_from(value).unwrap_or(0);
        let (counter_at, blocks) = (number(self.fill), number(blocks));
        Midstate { inner: self.scratch.state, outer, tail, counter_at, blocks, reserved: [0; 4] }
    }
}

/// One SHA-1 compression (FIPS 180-4 section 6.1.3, the 16-word schedule). Indices are masked so
/// that the BPF verifier sees their bounds.
#[inline(never)]
fn compress(scratch: &mut Scratch) {
    let Scratch { words, state, .. } = scratch;
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    let mut round = 0;
    while round < 80 {
        let word = if round < 16 {
            words[round & 15]
        } else {
            let mixed = words[(round + 13) & 15]
                ^ words[(round + 8) & 15]
                ^ words[(round + 2) & 15]
                ^ words[round & 15];
            let word = mixed.rotate_left(1);
            words[round & 15] = word;
            word
        };
        let (mix, constant) = match round {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next =
            a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        round += 1;
    }
    for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(word);
    }
}
