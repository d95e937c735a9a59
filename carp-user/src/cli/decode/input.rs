//! What the user gives: hexadecimal digits or a capture file.

use super::capture;
use std::io::Read;
use std::path::Path;

/// Largest capture file, in bytes. Policy: a larger one is refused with the command that thins it.
const MOST_BYTES: u64 = 256 << 20;

/// Bytes to take apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From 1, as Wireshark counts the packets of a file.
    pub number: usize,
    /// Where the bytes begin.
    pub shape: Shape,
    /// They.
    pub bytes: Vec<u8>,
    /// Bytes that there were on the wire, also when the capture kept fewer.
    pub wire_len: usize,
}

/// Where a packet's bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With the Ethernet header.
    Ethernet,
    /// With the IP header.
    Ip,
    /// With the CARP header.
    Carp,
}

/// The packets in a file or in digits, and how many packets of a file have another protocol.
pub(super) fn read(input: &str) -> Result<(Vec<Packet>, usize), String> {
    let path = Path::new(input);
    if path.exists() {
        let cannot = |error| format!("cannot read {input}: {error}");
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(cannot)?;
        let size = file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if u64::try_from(size).is_ok_and(|size| size > MOST_BYTES) {
            return Err(format!(
                "{input} has more than {MOST_BYTES} bytes\nhelp: tcpdump -r {input} -w smaller.pcap proto 112"
            ));
        }
        return packets_in_capture(&bytes).map_err(|wrong| format!("{input}: {wrong}"));
    }
    match packet_in_hex(input) {
        Ok(packet) => Ok((vec![packet], 0)),
        Err(wrong) => Err(format!("there is no file {input}, and as a frame {wrong}")),
    }
}

/// The packets of IP protocol 112 in a capture, and the number of all others.
///
/// # Errors
/// What is wrong with the file.
pub fn packets_in_capture(bytes: &[u8]) -> Result<(Vec<Packet>, usize), String> {
    let all = capture::packets(bytes)?;
    let count = all.len();
    let packets: Vec<Packet> = all.into_iter().filter(super::dissect::is_protocol_112).collect();
    let others = count - packets.len();
    Ok((packets, others))
}

/// The packet in hexadecimal digits; blanks, colons and dashes between them do not matter.
///
/// # Errors
/// What is wrong with the digits.
pub fn packet_in_hex(text: &str) -> Result<Packet, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text).chars();
    let mut values = Vec::new();
    for digit in digits.filter(|c| !c.is_whitespace() && *c != ':' && *c != '-') {
        let value = digit
            .to_digit(16)
            .ok_or_else(|| format!("'{}' is no hexadecimal digit", digit.escape_default()))?;
        values.push(u8::try_from(value).unwrap_or(0));
    }
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("the number of digits is odd: one is missing".into());
    }
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if bytes.is_empty() {
        return Err("there are no digits".into());
    }
    Ok(Packet { number: 1, shape: shape_of(&bytes), wire_len: bytes.len(), bytes })
}

/// An EtherType followed by a fitting IP version is an Ethernet frame; an IP version with protocol
/// 112 an IP packet; everything else is held for CARP.
fn shape_of(bytes: &[u8]) -> Shape {
    let version = |at: usize| bytes.get(at).map(|byte| byte >> 4);
    match (bytes.get(12..14), version(14)) {
        (Some([0x08, 0x00]), Some(4)) | (Some([0x86, 0xdd]), Some(6)) => return Shape::Ethernet,
        (Some([0x81, 0x00] | [0x88, 0xa8]), _) if matches!(version(18), Some(4 | 6)) => {
            return Shape::Ethernet;
        }
        (Some(_) | None, _) => {}
    }
    match (version(0), bytes.get(9), bytes.get(6)) {
        (Some(4), Some(112), _) | (Some(6), _, Some(112)) => Shape::Ip,
        (Some(2 | 3), _, _) => Shape::Carp,
        // Something else in Ethernet: it will be said what.
        (_, _, _) if bytes.len() >= 60 => Shape::Ethernet,
        (_, _, _) => Shape::Carp,
    }
}
