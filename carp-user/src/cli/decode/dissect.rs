//! A packet's fields, by the names that the project's test vectors use, and its structure's faults.

use super::{Packet, Shape, Strict};
use carp_common::admission::Mode;
use carp_common::wire::{Heard, Refusal, Sighting, carp, eth, ip, sum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::IntoBytes;

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV6: usize = 40;

/// A packet taken apart. Serialised as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Decoded {
    /// From 1, as in the file.
    pub number: usize,
    /// Its Ethernet header, when the input has one.
    pub ethernet: Option<Ethernet>,
    /// Its IP header, when the input has one.
    pub ip: Option<Ip>,
    /// Its CARP header, when it is long enough and not VRRP.
    pub carp: Option<Carp>,
    /// How it is signed, by the names of `auth` in the configuration; `None` when it is not well-formed.
    pub auth: Option<&'static str>,
    /// What strict authentication adds, when it is signed strictly.
    pub strict: Option<Strict>,
    /// Names of the digest variants that match.
    pub hmac_variants_that_match: Vec<&'static str>,
    /// Every digest variant, when there was a password.
    pub variants: BTreeMap<&'static str, bool>,
    /// What it is signed with is right: a variant matches, and the strict MAC if it has one. False too
    /// when there was no password.
    pub verified: bool,
    /// Why carpd would refuse it.
    pub refused: Option<Refused>,
    /// What else there is to say, joined by semicolons in JSON.
    #[serde(rename = "note", serialize_with = "joined")]
    pub notes: Vec<String>,
}

/// The Ethernet header.
#[derive(Clone, Debug, Serialize)]
pub struct Ethernet {
    /// Destination.
    pub dst: String,
    /// Source.
    pub src: String,
    /// As written in hexadecimal, 0x0800.
    pub ethertype: String,
    /// VLAN, when the frame is tagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Bytes of the whole frame.
    pub frame_len: usize,
}

/// The IP header.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Ip {
    /// IPv4.
    V4 {
        /// Sender.
        src: Ipv4Addr,
        /// Receiver.
        dst: Ipv4Addr,
        /// Type of service.
        tos: u8,
        /// Identification.
        id: u16,
        /// Flags and fragment offset.
        flags_frag: u16,
        /// Time to live.
        ttl: u8,
        /// Bytes of the datagram.
        total_len: u16,
        /// The header's checksum is right.
        checksum_ok: bool,
    },
    /// IPv6.
    V6 {
        /// Sender.
        src: Ipv6Addr,
        /// Receiver.
        dst: Ipv6Addr,
        /// Traffic class.
        traffic_class: u8,
        /// Flow label.
        flow_label: u32,
        /// Hop limit.
        hop_limit: u8,
        /// Bytes after the header.
        payload_len: u16,
    },
}

/// The CARP header.
#[derive(Clone, Debug, Serialize)]
pub struct Carp {
    /// 2.
    pub version: u8,
    /// 1, checked by nobody.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Virtual host id.
    pub vhid: u8,
    /// 1/256 s.
    pub advskew: u8,
    /// 7, checked by nobody; 0x87 when the digest is a strict MAC.
    pub authlen: u8,
    /// OpenBSD's demote counter.
    pub demote_or_pad: u8,
    /// Seconds.
    pub advbase: u8,
    /// Checksum.
    pub cksum: u16,
    /// Sixteen hexadecimal digits.
    pub counter: String,
    /// The digest, forty hexadecimal digits.
    pub md: String,
    /// The checksum is right.
    pub cksum_ok: bool,
}

/// Why carpd would refuse it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Name of the counter.
    pub reason: &'static str,
    /// In words.
    pub meaning: &'static str,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.name(), meaning: refusal.meaning() }
    }
}

/// The fields, and the advertisement if it is well-formed.
pub(super) fn dissect(packet: &Packet) -> (Decoded, Option<Heard>) {
    let frame = Untagged::of(packet);
    let judged = Heard::parse(&frame.bytes);
    let refusal = judged.and_then(Result::err);
    let is_carp = judged.is_some() && refusal != Some(Refusal::Vrrp);
    let heard = judged.and_then(Result::ok);
    let carp = frame.carp().filter(|_| is_carp).and_then(carp_fields);
    let mut notes = Vec::new();
    if packet.shape != Shape::Ethernet {
        let what = if packet.shape == Shape::Ip { "an IP packet" } else { "a bare CARP header" };
        notes.push(format!("the input is {what}: what is around it cannot be judged"));
    }
    if judged.is_none() {
        notes.push("not CARP: no IP packet of protocol 112 directly after the Ethernet header".into());
    }
    if packet.wire_len > packet.bytes.len() {
        let (kept, all) = (packet.bytes.len(), packet.wire_len);
        notes.push(format!("the capture kept {kept} of its {all} bytes: capture with -s 0"));
    }
    if let Some(vlan) = frame.vlan {
        notes.push(format!("tagged: only a virtual host on the link of VLAN {vlan} hears it"));
    }
    if let Some(carp) = carp.as_ref().filter(|carp| !is_authlen(carp.authlen)) {
        notes.push(format!(
            "authlen is {}, which every CARP sends as 7: perhaps it is VRRPv2 with as many addresses",
            carp.authlen
        ));
    }
    let decoded = Decoded {
        number: packet.number,
        ethernet: (packet.shape == Shape::Ethernet).then(|| ethernet_fields(packet, frame.vlan)).flatten(),
        ip: (packet.shape != Shape::Carp).then(|| ip_fields(frame.network())).flatten(),
        carp,
        auth: heard.map(|heard| mode(heard.seen()).name()),
        strict: heard.and_then(|heard| Strict::of(heard.seen())),
        hmac_variants_that_match: Vec::new(),
        variants: BTreeMap::new(),
        verified: false,
        refused: refusal.map(Refused::from),
        notes,
    };
    (decoded, heard)
}

/// How it is signed.
pub(super) const fn mode(seen: &Sighting) -> Mode {
    match (seen.has_mac(), seen.is_strict()) {
        (false, _) => Mode::Carp,
        (true, false) => Mode::Migrate,
        (true, true) => Mode::Strict,
    }
}

const fn is_authlen(authlen: u8) -> bool {
    authlen == carp::AUTH_LEN || authlen == carp::STRICT_AUTH_LEN
}

/// Whether a packet of a capture concerns us.
pub(super) fn is_protocol_112(packet: &Packet) -> bool {
    Heard::parse(&Untagged::of(packet).bytes).is_some()
}

/// The packet as an untagged Ethernet frame, its headers made up where the input has none.
struct Untagged {
    bytes: Vec<u8>,
    vlan: Option<u16>,
}

impl Untagged {
    fn of(packet: &Packet) -> Self {
        let bytes = &packet.bytes;
        match packet.shape {
            Shape::Carp => {
                let none = Ipv6Addr::UNSPECIFIED;
                let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                Self::behind_ethernet(&[ip::Ipv6::unrouted(none, none, 0, ip::CARP, len).as_bytes(), bytes])
            }
            Shape::Ip => Self::behind_ethernet(&[bytes]),
            Shape::Ethernet => match bytes.get(12..16) {
                Some([0x81 | 0x88, 0x00 | 0xa8, high, low]) if is_tagged(bytes) => {
                    let vlan = u16::from_be_bytes([*high, *low]) & 0x0fff;
                    let macs = bytes.get(..12).unwrap_or_default();
                    let rest = bytes.get(12 + TAG..).unwrap_or_default();
                    Self { bytes: [macs, rest].concat(), vlan: Some(vlan) }
                }
                Some(_) | None => Self { bytes: bytes.clone(), vlan: None },
            },
        }
    }

    fn behind_ethernet(packet: &[&[u8]]) -> Self {
        let packet = packet.concat();
        let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        let ethertype = if is_v6 { eth::IPV6 } else { eth::IPV4 };
        Self { bytes: [&[0; 12][..], &ethertype.to_be_bytes(), &packet].concat(), vlan: None }
    }

    fn network(&self) -> &[u8] {
        self.bytes.get(ETHERNET..).unwrap_or_default()
    }

    /// What follows the IP header, up to the end that it tells.
    fn carp(&self) -> Option<&[u8]> {
        let network = self.network();
        let (head, total) = match network.first()? >> 4 {
            4 => (usize::from(network.first()? & 0x0f) * 4, usize::from(be16(network, 2)?)),
            _ => (IPV6, IPV6 + usize::from(be16(network, 4)?)),
        };
        network.get(head..total.min(network.len()))
    }
}

fn is_tagged(bytes: &[u8]) -> bool {
    matches!(be16(bytes, 12), Some(0x8100 | 0x88a8))
}

fn ethernet_fields(packet: &Packet, vlan: Option<u16>) -> Option<Ethernet> {
    let bytes = &packet.bytes;
    let mac = |at: usize| Some(carp_common::id::Mac(*bytes.get(at..)?.first_chunk()?).to_string());
    let ethertype = format!("{:#06x}", be16(bytes, 12)?);
    Some(Ethernet { dst: mac(0)?, src: mac(6)?, ethertype, vlan, frame_len: packet.wire_len })
}

fn ip_fields(network: &[u8]) -> Option<Ip> {
    let byte = |at: usize| network.get(at).copied();
    match byte(0)? >> 4 {
        4 => {
            let header = network.get(..usize::from(byte(0)? & 0x0f) * 4)?;
            Some(Ip::V4 {
                src: Ipv4Addr::from_octets(*network.get(12..)?.first_chunk()?),
                dst: Ipv4Addr::from_octets(*network.get(16..)?.first_chunk()?),
                tos: byte(1)?,
                id: be16(network, 4)?,
                flags_frag: be16(network, 6)?,
                ttl: byte(8)?,
                total_len: be16(network, 2)?,
                checksum_ok: sum::intact(header),
            })
        }
        6 => {
            let first = u32::from_be_bytes(*network.first_chunk()?);
            Some(Ip::V6 {
                src: Ipv6Addr::from_octets(*network.get(8..)?.first_chunk()?),
                dst: Ipv6Addr::from_octets(*network.get(24..)?.first_chunk()?),
                traffic_class: u8::try_from(first >> 20 & 0xff).ok()?,
                flow_label: first & 0x000f_ffff,
                hop_limit: byte(7)?,
                payload_len: be16(network, 4)?,
            })
        }
        _ => None,
    }
}

fn carp_fields(payload: &[u8]) -> Option<Carp> {
    let header: &[u8; carp::LEN] = payload.first_chunk()?;
    let [version_type, vhid, advskew, authlen, demote_or_pad, advbase, sum_high, sum_low, ..] = *header;
    Some(Carp {
        version: version_type >> 4,
        kind: version_type & 0x0f,
        vhid,
        advskew,
        authlen,
        demote_or_pad,
        advbase,
        cksum: u16::from_be_bytes([sum_high, sum_low]),
        counter: hex(header.get(8..16)?),
        md: hex(header.get(16..)?),
        cksum_ok: sum::intact(header),
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn joined<S: serde::Serializer>(notes: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if notes.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(&notes.join("; ")) }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { src, dst, tos, id, flags_frag, ttl, total_len, checksum_ok } => {
                let df = if flags_frag & ip::DF != 0 { ", DF" } else { "" };
                let fragment = if flags_frag & ip::FRAGMENT_MASK != 0 { ", FRAGMENT" } else { "" };
                let checksum = if *checksum_ok { "ok" } else { "WRONG" };
                write!(f, "{src} -> {dst}, tos {tos:#04x}, id {id}{df}{fragment}, ttl {ttl}, ")?;
                write!(f, "{total_len} bytes, header checksum {checksum}")
            }
            Self::V6 { src, dst, traffic_class, flow_label, hop_limit, payload_len } => {
                write!(f, "{src} -> {dst}, class {traffic_class:#04x}, flow {flow_label:#x}, ")?;
                write!(f, "hop limit {hop_limit}, payload {payload_len} bytes")
            }
        }
    }
}
