//! One VIP as text: `10.0.0.1/24`, `fd00::1`.

use super::Vip;
use std::net::{IpAddr, Ipv4Addr};

/// Why an address cannot be a VIP: what is wrong, what was expected, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoVip {
    pub what: String,
    pub expected: &'static str,
    pub help: Option<String>,
}

/// Reads a VIP.
pub(super) fn vip(text: &str) -> Result<Vip, NoVip> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(ip) = address.parse::<IpAddr>() else { return Err(no_address(text, address)) };
    let vip = Vip { ip, prefix: length(text, ip, prefix)? };
    match unusable(vip) {
        None => Ok(vip),
        Some((is, help)) => {
            let what = format!("{text} is {is}, which no host can have");
            Err(NoVip { what, expected: "expected a unicast address", help })
        }
    }
}

fn no_address(text: &str, address: &str) -> NoVip {
    let help = if address.contains('%') {
        Some("leave the zone out: the interface of the virtual host says it".to_owned())
    } else {
        let trimmed = address.trim();
        (trimmed.parse::<IpAddr>().is_ok()).then(|| format!("write \"{trimmed}\", without spaces"))
    };
    NoVip {
        what: format!("\"{text}\" is no IP address"),
        expected: "expected an address like 10.0.0.1/24 or fd00::1/64",
        help,
    }
}

fn length(text: &str, ip: IpAddr, prefix: Option<&str>) -> Result<u8, NoVip> {
    let (most, expected) = match ip {
        IpAddr::V4(_) => (32, "expected a prefix length of 1 to 32"),
        IpAddr::V6(_) => (128, "expected a prefix length of 1 to 128"),
    };
    let Some(prefix) = prefix else { return Ok(most) };
    match prefix.parse::<u8>() {
        Ok(length) if (1..=most).contains(&length) => Ok(length),
        Ok(_) | Err(_) => {
            let help = match netmask(prefix) {
                Some(length) => Some(format!("write {ip}/{length}")),
                None => Some(format!("write {ip}/{most} for the address alone")),
            };
            Err(NoVip { what: format!("\"{text}\" has no valid prefix length"), expected, help })
        }
    }
}

/// 255.255.255.0 → 24.
fn netmask(text: &str) -> Option<u32> {
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() == 32).then(|| mask.leading_ones())
}

fn unusable(vip: Vip) -> Option<(&'static str, Option<String>)> {
    match vip.ip {
        ip if ip.is_unspecified() => Some(("the unspecified address", None)),
        ip if ip.is_loopback() => Some(("a loopback address", None)),
        ip if ip.is_multicast() => Some(("a multicast address", None)),
        IpAddr::V4(ip) if ip.is_broadcast() => Some(("the broadcast address", None)),
        IpAddr::V4(ip) => edge_of_subnet(ip, vip.prefix),
        IpAddr::V6(ip) => {
            let mapped = ip.to_ipv4_mapped()?;
            Some(("an IPv4 address in IPv6 clothes", Some(format!("write {mapped}"))))
        }
    }
}

/// First and last address of an IPv4 subnet belong to the subnet; /31 (RFC 3021) and /32 have none.
fn edge_of_subnet(ip: Ipv4Addr, prefix: u8) -> Option<(&'static str, Option<String>)> {
    if prefix >= 31 {
        return None;
    }
    let mask = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let host = u32::from(ip) & mask;
    let help = || Some(format!("if the prefix length is not meant, write {ip}/32"));
    match host {
        0 => Some(("the address of its subnet", help())),
        _ if host == mask => Some(("the broadcast address of its subnet", help())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let NoVip { what, expected, help } = vip(text).expect_err(text);
        format!("{what} | {expected} | {}", help.as_deref().unwrap_or("-"))
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused_with_its_kind() {
        let cases = [
            ("0.0.0.0", "0.0.0.0 is the unspecified address, which no host can have", "-"),
            ("::", ":: is the unspecified address, which no host can have", "-"),
            ("127.0.0.1", "127.0.0.1 is a loopback address, which no host can have", "-"),
            ("::1", "::1 is a loopback address, which no host can have", "-"),
            ("224.0.0.18", "224.0.0.18 is a multicast address, which no host can have", "-"),
            ("ff02::12", "ff02::12 is a multicast address, which no host can have", "-"),
            ("255.255.255.255", "255.255.255.255 is the broadcast address, which no host can have", "-"),
            (
                "10.0.0.255/24",
                "10.0.0.255/24 is the broadcast address of its subnet, which no host can have",
                "if the prefix length is not meant, write 10.0.0.255/32",
            ),
            (
                "10.0.0.0/24",
                "10.0.0.0/24 is the address of its subnet, which no host can have",
                "if the prefix length is not meant, write 10.0.0.0/32",
            ),
            (
                "::ffff:1.2.3.4",
                "::ffff:1.2.3.4 is an IPv4 address in IPv6 clothes, which no host can have",
                "write 1.2.3.4",
            ),
        ];
        for (address, what, help) in cases {
            assert_eq!(refused(address), format!("{what} | expected a unicast address | {help}"));
        }
        let cases = [
            (
                "10.0.0.256",
                "\"10.0.0.256\" is no IP address",
                "an address like 10.0.0.1/24 or fd00::1/64 | -",
            ),
            (
                "fe80::1%eth0",
                "\"fe80::1%eth0\" is no IP address",
                "an address like 10.0.0.1/24 or fd00::1/64 | leave the zone out: the interface of the virtual host says it",
            ),
            (
                " 10.0.0.1",
                "\" 10.0.0.1\" is no IP address",
                "an address like 10.0.0.1/24 or fd00::1/64 | write \"10.0.0.1\", without spaces",
            ),
            (
                "10.0.0.1/33",
                "\"10.0.0.1/33\" has no valid prefix length",
                "a prefix length of 1 to 32 | write 10.0.0.1/32 for the address alone",
            ),
            (
                "10.0.0.1/255.255.255.0",
                "\"10.0.0.1/255.255.255.0\" has no valid prefix length",
                "a prefix length of 1 to 32 | write 10.0.0.1/24",
            ),
            (
                "fd00::1/0",
                "\"fd00::1/0\" has no valid prefix length",
                "a prefix length of 1 to 128 | write fd00::1/128 for the address alone",
            ),
        ];
        for (address, what, rest) in cases {
            assert_eq!(refused(address), format!("{what} | expected {rest}"));
        }
        assert!(vip("10.0.0.0/31").is_ok(), "RFC 3021");
    }
}
