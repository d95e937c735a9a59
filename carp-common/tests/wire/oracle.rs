//! CARP's digest written a second time, plainly, over the `hmac` and `sha1` crates, from section 2
//! of the protocol document and not from our code.

use carp_common::auth::{Key, Variant};
use carp_common::id::Mac;
use hmac::{Hmac, KeyInit, Mac as _};
use sha1::Sha1;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// HMAC-SHA1 of a message under a 20-byte key.
pub fn hmac_sha1(key: &Key, message: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(&key.0).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The message of section 2.3 by the rules of section 2.4.
pub fn message(variant: Variant, lladdr: Option<Mac>, vhid: u8, vips: &[IpAddr], counter: u64) -> Vec<u8> {
    let mut message = vec![2, 1];
    if let (Variant::OpenbsdOrig | Variant::OpenbsdNov6ll, Some(mac)) = (variant, lladdr) {
        message.extend(mac.0);
    }
    message.push(vhid);
    let v4: Vec<Ipv4Addr> =
        vips.iter().filter_map(|vip| if let IpAddr::V4(ip) = vip { Some(*ip) } else { None }).collect();
    let v6: Vec<Ipv6Addr> =
        vips.iter().filter_map(|vip| if let IpAddr::V6(ip) = vip { Some(*ip) } else { None }).collect();
    message.extend(v4_part(variant, v4).iter().flat_map(Ipv4Addr::octets));
    message.extend(v6_part(variant, v6).iter().flat_map(Ipv6Addr::octets));
    message.extend(counter.to_be_bytes());
    message
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
