//! CARP's digest and the strict MAC written a second time, plainly, over the `hmac`, `sha1` and `sha2` crates,
//! from section 2 of the protocol document and from `docs/authentication.md`, not from our code.

use carp_common::auth::{Key, Variant};
use carp_common::id::Mac;
use carp_common::wire::Said;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// HMAC-SHA1 of a message under a 20-byte key.
pub fn hmac_sha1(key: &Key, message: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(&key.0).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The first 20 bytes of HMAC-SHA-256 of a message under a 20-byte key.
pub fn hmac_sha256(key: &Key, message: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("any length is a key");
    mac.update(message);
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] = mac.finalize().into_bytes().into();
    first
}

/// The message of a strict advert.
pub fn strict_message(vips: &[IpAddr], said: &Said) -> Vec<u8> {
    let v4 = v4_part(Variant::Freebsd, vips.iter().copied().filter_map(v4).collect());
    let v6: BTreeSet<Ipv6Addr> = vips.iter().copied().filter_map(v6).collect();
    let v6 = v6.into_iter().filter(|ip| !ip.is_unspecified() && *ip != Ipv6Addr::from(u128::MAX));
    let v6: Vec<Ipv6Addr> = v6.collect();
    let mut message = b"carp strict 1\0\0\0".to_vec();
    for count in [v4.len(), v6.len()] {
        message.extend(u32::try_from(count).expect("a short list").to_be_bytes());
    }
    message.extend(v4.iter().flat_map(Ipv4Addr::octets));
    message.extend(v6.iter().flat_map(Ipv6Addr::octets));
    message.resize(message.len().next_multiple_of(64), 0);
    let Said { head, counter, source, destination, echo } = said;
    [&message, head.as_slice(), counter, source, destination, echo].concat()
}

/// The message of section 2.3 by the rules of section 2.4.
pub fn message(variant: Variant, lladdr: Option<Mac>, vhid: u8, vips: &[IpAddr], counter: u64) -> Vec<u8> {
    let mut message = vec![2, 1];
    if let (Variant::OpenbsdOrig | Variant::OpenbsdNov6ll, Some(mac)) = (variant, lladdr) {
        message.extend(mac.0);
    }
    message.push(vhid);
    let (v4, v6) = (vips.iter().copied().filter_map(v4), vips.iter().copied().filter_map(v6));
    message.extend(v4_part(variant, v4.collect()).iter().flat_map(Ipv4Addr::octets));
    message.extend(v6_part(variant, v6.collect()).iter().flat_map(Ipv6Addr::octets));
    message.extend(counter.to_be_bytes());
    message
}

fn v4(vip: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(ip) = vip { Some(ip) } else { None }
}

fn v6(vip: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(ip) = vip { Some(ip) } else { None }
}

fn v4_part(variant: Variant, mut list: Vec<Ipv4Addr>) -> Vec<Ipv4Addr> {
    match variant {
        Variant::Ucarp => list.truncate(1),
        Variant::Fb05 => {}
        Variant::Dragonfly => {
            list.retain(|ip| !ip.is_unspecified() && !ip.is_broadcast());
            list.sort_by_key(|ip| u32::from(*ip));
        }
        Variant::Freebsd | Variant::OpenbsdOrig | Variant::OpenbsdNov6ll | Variant::Netbsd => {
            list.retain(|ip| !ip.is_unspecified() && !ip.is_broadcast());
            let set: BTreeSet<u32> = list.into_iter().map(u32::from).collect();
            return set.into_iter().map(Ipv4Addr::from).collect();
        }
    }
    list
}

fn v6_part(variant: Variant, list: Vec<Ipv6Addr>) -> Vec<Ipv6Addr> {
    let all_ones = Ipv6Addr::from(u128::MAX);
    match variant {
        Variant::Ucarp => Vec::new(),
        Variant::Fb05 => list,
        Variant::Dragonfly => list.into_iter().map(|ip| without_zone(variant, ip)).collect(),
        Variant::Freebsd | Variant::OpenbsdOrig | Variant::OpenbsdNov6ll | Variant::Netbsd => {
            let kept =
                list.into_iter().filter(|ip| variant != Variant::OpenbsdNov6ll || !scoped(variant, *ip));
            let set: BTreeSet<u128> = kept.map(|ip| without_zone(variant, ip).into()).collect();
            let set = set.into_iter().map(Ipv6Addr::from);
            set.filter(|ip| !ip.is_unspecified() && *ip != all_ones).collect()
        }
    }
}

fn scoped(variant: Variant, ip: Ipv6Addr) -> bool {
    let link_or_interface = matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02);
    ip.is_unicast_link_local() || (link_or_interface && variant != Variant::Netbsd)
}

fn without_zone(variant: Variant, ip: Ipv6Addr) -> Ipv6Addr {
    let [first, _, rest @ ..] = ip.segments();
    let [c, d, e, f, g, h] = rest;
    if scoped(variant, ip) { Ipv6Addr::new(first, 0, c, d, e, f, g, h) } else { ip }
}
