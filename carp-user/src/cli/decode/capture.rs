//! Capture files: pcap (microseconds and nanoseconds) and pcapng, of either byte order.
//!
//! Written out here rather than taken from a crate because the input is hostile: a length is
//! checked before it is believed, and a broken end leaves what came before it readable.

use super::{Packet, Shape};

const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// All packets of a file, in its order.
pub(super) fn packets(bytes: &[u8]) -> Result<Vec<Packet>, String> {
    let magic: [u8; 4] = bytes.first_chunk().copied().ok_or("it is too short for a capture file")?;
    for order in [Order::Big, Order::Little] {
        match order.number(magic) {
            0xa1b2_c3d4 | 0xa1b2_3c4d => return pcap(bytes, order),
            SECTION => return pcapng(bytes),
            _ => {}
        }
    }
    Err("it is neither pcap nor pcapng\nhelp: capture with tcpdump -w FILE proto 112".into())
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

/// What precedes the IP header on a kind of link.
#[derive(Clone, Copy)]
enum Link {
    Ethernet,
    /// Nothing.
    Raw,
    /// So many bytes of Linux's cooked capture (`tcpdump -i any`).
    Cooked(usize),
}

impl Order {
    fn number(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        Some(self.number(*bytes.get(at..)?.first_chunk()?))
    }

    fn size(self, bytes: &[u8], at: usize) -> Option<usize> {
        usize::try_from(self.u32(bytes, at)?).ok()
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let pair = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(pair),
            Self::Little => u16::from_le_bytes(pair),
        })
    }
}

impl Link {
    /// `LINKTYPE_…` of tcpdump.org.
    fn of(number: u32) -> Result<Self, String> {
        match number {
            1 => Ok(Self::Ethernet),
            12 | 101 | 228 | 229 => Ok(Self::Raw),
            113 => Ok(Self::Cooked(16)),
            276 => Ok(Self::Cooked(20)),
            other => Err(format!(
                "link type {other} is not supported\nhelp: capture on an Ethernet interface, or with -i any"
            )),
        }
    }

    fn packet(self, number: usize, bytes: &[u8], wire_len: usize) -> Packet {
        let (shape, skip) = match self {
            Self::Ethernet => (Shape::Ethernet, 0),
            Self::Raw => (Shape::Ip, 0),
            Self::Cooked(header) => (Shape::Ip, header),
        };
        let bytes = bytes.get(skip..).unwrap_or_default().to_vec();
        let wire_len = wire_len.saturating_sub(skip).max(bytes.len());
        Packet { number, shape, bytes, wire_len }
    }
}

fn pcap(bytes: &[u8], order: Order) -> Result<Vec<Packet>, String> {
    // The upper bits of the link type say how long a frame check sequence is.
    let link = order.u32(bytes, 20).ok_or("its header is cut off")? & 0x0fff_ffff;
    let link = Link::of(link)?;
    let mut packets = Vec::new();
    let mut rest = bytes.get(PCAP_HEADER..).unwrap_or_default();
    while let (Some(kept), Some(wire_len)) = (order.size(rest, 8), order.size(rest, 12)) {
        let data = rest.get(PCAP_RECORD..).unwrap_or_default();
        // A killed tcpdump leaves half a record at the end.
        let Some(frame) = data.get(..kept) else { break };
        packets.push(link.packet(packets.len() + 1, frame, wire_len));
        rest = data.get(kept..).unwrap_or_default();
    }
    Ok(packets)
}

fn pcapng(bytes: &[u8]) -> Result<Vec<Packet>, String> {
    let mut order = Order::Little;
    let mut links = Vec::new();
    let mut packets = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 12 {
        // The type of a section's block reads the same in both orders; its third word tells which.
        if order.u32(rest, 0) == Some(SECTION) {
            order = if Order::Big.u32(rest, 8) == Some(BYTE_ORDER) { Order::Big } else { Order::Little };
            if order.u32(rest, 8) != Some(BYTE_ORDER) {
                return Err("a section of this pcapng file has no byte order".into());
            }
            links.clear();
        }
        let (Some(kind), Some(length)) = (order.u32(rest, 0), order.size(rest, 4)) else { break };
        // A block ends with its length once more; a killed tcpdump leaves half a block.
        let body = length.checked_sub(4).and_then(|end| rest.get(8..end));
        let Some(body) = body.filter(|_| length.is_multiple_of(4) && length <= rest.len()) else { break };
        if kind == INTERFACE {
            links.push(order.u16(body, 0).map_or(u32::MAX, u32::from));
        } else if let Some(found) = block(kind, order, body) {
            let link = links.get(found.link).copied().ok_or("a packet names no interface of this file")?;
            packets.push(Link::of(link)?.packet(packets.len() + 1, found.frame, found.wire_len));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(packets)
}

struct Found<'a> {
    link: usize,
    frame: &'a [u8],
    wire_len: usize,
}

/// The packet in a block, if it is one.
fn block(kind: u32, order: Order, body: &[u8]) -> Option<Found<'_>> {
    match kind {
        ENHANCED_PACKET | OBSOLETE_PACKET => {
            let link = match kind {
                ENHANCED_PACKET => order.size(body, 0)?,
                _ => usize::from(order.u16(body, 0)?),
            };
            let frame = body.get(20..)?.get(..order.size(body, 12)?)?;
            Some(Found { link, frame, wire_len: order.size(body, 16)? })
        }
        SIMPLE_PACKET => {
            let wire_len = order.size(body, 0)?;
            let data = body.get(4..)?;
            Some(Found { link: 0, frame: data.get(..wire_len).unwrap_or(data), wire_len })
        }
        _ => None,
    }
}
