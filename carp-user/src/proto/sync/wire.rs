//! Reading and writing of what both records and messages are made of: big-endian numbers, addresses, tuples.

use crate::proto::flow::{Ids, Tuple};
use std::fmt;
use std::net::IpAddr;

/// Why bytes of the peer make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end too early.
    Short,
    /// A tuple has an unknown form.
    Shape,
    /// A field has a length that it cannot have.
    Length,
    /// A field comes twice.
    Twice,
    /// A number is out of its range.
    Range,
    /// A name is not UTF-8.
    Name,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "it ends too early",
            Self::Shape => "a tuple of unknown form",
            Self::Length => "a field of a wrong length",
            Self::Twice => "a field comes twice",
            Self::Range => "a number out of its range",
            Self::Name => "a name that is not UTF-8",
        })
    }
}

impl std::error::Error for Malformed {}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn take(&mut self, count: usize) -> Result<Bytes<'a>, Malformed> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(Self(first))
    }

    pub fn tuple(&mut self) -> Result<Tuple, Malformed> {
        let [shape, protocol] = self.array()?;
        if shape & !(SOURCE_V6 | DESTINATION_V6 | IDS) != 0 {
            return Err(Malformed::Shape);
        }
        let source = self.address(shape & SOURCE_V6 != 0)?;
        let destination = self.address(shape & DESTINATION_V6 != 0)?;
        let ids = match shape & IDS {
            0 => Ids::None,
            PORTS => Ids::Ports { source: self.u16()?, destination: self.u16()? },
            ICMP => Ids::Icmp { kind: self.u8()?, code: self.u8()?, id: self.u16()? },
            _ => return Err(Malformed::Shape),
        };
        Ok(Tuple { source, destination, protocol, ids })
    }

    fn address(&mut self, is_v6: bool) -> Result<IpAddr, Malformed> {
        if is_v6 { self.array::<16>().map(Into::into) } else { self.array::<4>().map(Into::into) }
    }
}

/// Bits of a tuple's first byte: the families, and what its last four bytes are, if it has them.
const SOURCE_V6: u8 = 1;
const DESTINATION_V6: u8 = 2;
const IDS: u8 = 0b1100;
const PORTS: u8 = 0b0100;
const ICMP: u8 = 0b1000;

/// The first byte of a tuple.
pub(super) fn shape(tuple: &Tuple) -> u8 {
    let source = if tuple.source.is_ipv6() { SOURCE_V6 } else { 0 };
    let destination = if tuple.destination.is_ipv6() { DESTINATION_V6 } else { 0 };
    let ids = match tuple.ids {
        Ids::None => 0,
        Ids::Ports { .. } => PORTS,
        Ids::Icmp { .. } => ICMP,
    };
    source | destination | ids
}

/// The last four bytes of a tuple.
pub(super) fn ids(ids: Ids) -> Option<[u8; 4]> {
    match ids {
        Ids::None => None,
        Ids::Ports { source, destination } => {
            let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
            Some([a, b, c, d])
        }
        Ids::Icmp { kind, code, id } => {
            let [c, d] = id.to_be_bytes();
            Some([kind, code, c, d])
        }
    }
}

/// Appends a tuple: 14 bytes for ports over IPv4.
pub(super) fn put_tuple(tuple: &Tuple, out: &mut Vec<u8>) {
    out.extend([shape(tuple), tuple.protocol]);
    for address in [tuple.source, tuple.destination] {
        match address {
            IpAddr::V4(address) => out.extend(address.octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
    }
    out.extend(ids(tuple.ids).iter().flatten());
}
