//! One record: what the peer is told of one flow or expectation. A fixed head, then fields of the form tag, length, value;
//! a tag or a kind that this version does not know is skipped, so that a newer peer can say more.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | length of all that follows |
//! | 1 | kind: 1 flow, 2 flow gone, 3 expectation, 4 expectation gone, 5 flow lost |
//! | 1 | flags: 1 the receiver wrote this version, 2 the reply is the original turned round |
//! | 1 | incarnation |
//! | 8 | version |
//! | | kind 1: original, reply unless turned round, status (4), timeout (4); 2 and 4: tuple; |
//! | | 3: master, tuple, mask, timeout (4), flags (4), class (4); 5: the flow's number (8) |
//! | | fields |
//!
//! A tuple is its form (1), its protocol (1), two addresses, and four bytes of ports or of an ICMP query. A
//! translated fields::TCP flow over IPv4 takes 56 bytes, one with a mark 62.

mod fields;

use super::wire::{Bytes, Malformed, put_tuple};
use crate::proto::flow::{Expectation, Flow, Key, ProtocolState, Sctp, SequenceShift, Tcp};
use fields::Fields;

/// Most bytes that a record of this version can take: all fields, all addresses IPv6. A longer one comes
/// from a newer version and is read as far as it is known.
pub const MAX_RECORD: usize = 256;

/// How new a state is. The high bits count take-overs, so that the node that serves later is right; the low
/// ones count changes, as Lamport's clock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// A take-over.
    const TERM: u64 = 1 << 44;

    /// The first version after a take-over.
    pub const fn next_term(self) -> Self {
        Self((self.0 / Self::TERM).saturating_add(1).saturating_mul(Self::TERM))
    }

    /// Of these take-overs, with the changes that `other` counts.
    pub const fn with_count_of(self, other: Self) -> Self {
        Self(self.0 - self.0 % Self::TERM + other.0 % Self::TERM)
    }
}

/// Which of two nodes wrote a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The one that sends the record.
    Sender,
    /// The one that receives it: it is told of its own, older words.
    Receiver,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How new it is.
    pub version: Version,
    /// Who wrote that version.
    pub author: Author,
    /// Tells connections with the same key apart, one after the other; modulo 16.
    pub incarnation: u8,
    /// What it says.
    pub item: Item,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// So is this flow.
    Flow(Flow),
    /// This flow has ended.
    Gone(Key),
    /// This connection is expected.
    Expectation(Expectation),
    /// It is no longer expected; zone and tuple of the expectation.
    Cancelled(Key),
    /// The flow of this number is no longer in the sender's kernel, which did not say so in time.
    Lost(u64),
}

const FLOW: u8 = 1;
const GONE: u8 = 2;
const EXPECTATION: u8 = 3;
const CANCELLED: u8 = 4;
const LOST: u8 = 5;

const BY_RECEIVER: u8 = 1;
const MIRRORED: u8 = 2;

/// Where the version stands in an encoded record; it is written when the record is sent.
const VERSION_AT: std::ops::Range<usize> = 5..13;

impl Record {
    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, mirrored) = match &self.item {
            Item::Flow(flow) => (FLOW, flow.key.original.inverse() == Some(flow.reply)),
            Item::Gone(_) => (GONE, false),
            Item::Expectation(_) => (EXPECTATION, false),
            Item::Cancelled(_) => (CANCELLED, false),
            Item::Lost(_) => (LOST, false),
        };
        out.extend([0, 0, kind, if mirrored { MIRRORED } else { 0 }, self.incarnation]);
        out.extend([0; 8]);
        match &self.item {
            Item::Flow(flow) => put_flow(flow, mirrored, out),
            Item::Gone(key) | Item::Cancelled(key) => {
                put_tuple(&key.original, out);
                fields::put_zone(fields::ZONE, key.zone, 0, out);
            }
            Item::Expectation(expectation) => put_expectation(expectation, out),
            Item::Lost(number) => out.extend(number.to_be_bytes()),
        }
        debug_assert!(out.len() - start <= MAX_RECORD, "{} bytes", out.len() - start);
        let length = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX);
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
        stamp(&mut out[start..], self.version, self.author);
    }
}

/// Writes version and author into an encoded record.
pub fn stamp(encoded: &mut [u8], version: Version, author: Author) {
    encoded[VERSION_AT].copy_from_slice(&version.0.to_be_bytes());
    match author {
        Author::Sender => encoded[3] &= !BY_RECEIVER,
        Author::Receiver => encoded[3] |= BY_RECEIVER,
    }
}

/// The records of a batch, one after the other; nothing is allocated. It ends at the first that makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    rest: Bytes<'a>,
    unknown: u32,
}

impl<'a> Records<'a> {
    /// Over encoded records.
    pub const fn new(encoded: &'a [u8]) -> Self {
        Self { rest: Bytes(encoded), unknown: 0 }
    }

    /// How many of an unknown kind were skipped.
    pub const fn unknown(&self) -> u32 {
        self.unknown
    }

    fn read(&mut self) -> Result<Option<Record>, Malformed> {
        while !self.rest.0.is_empty() {
            let length = self.rest.u16()?;
            let record = self.rest.take(length.into())?;
            if let Some(record) = decode(record)? {
                return Ok(Some(record));
            }
            self.unknown = self.unknown.saturating_add(1);
        }
        Ok(None)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.rest = Bytes(&[]);
        }
        read.transpose()
    }
}

/// `None` for a kind that this version does not know.
fn decode(mut bytes: Bytes<'_>) -> Result<Option<Record>, Malformed> {
    let [kind, flags, incarnation] = bytes.array()?;
    let version = Version(bytes.u64()?);
    let author = if flags & BY_RECEIVER == 0 { Author::Sender } else { Author::Receiver };
    let item = match kind {
        FLOW => Item::Flow(flow(bytes, flags & MIRRORED != 0)?),
        GONE => Item::Gone(key(bytes)?),
        EXPECTATION => Item::Expectation(expectation(bytes)?),
        CANCELLED => Item::Cancelled(key(bytes)?),
        LOST => Item::Lost(bytes.u64()?),
        _ => return Ok(None),
    };
    Ok(Some(Record { version, author, incarnation, item }))
}

fn put_flow(flow: &Flow, mirrored: bool, out: &mut Vec<u8>) {
    put_tuple(&flow.key.original, out);
    if !mirrored {
        put_tuple(&flow.reply, out);
    }
    out.extend(flow.status.to_be_bytes());
    out.extend(flow.timeout.to_be_bytes());
    fields::put_zone(fields::ZONE, flow.key.zone, 0, out);
    fields::put_zone(fields::REPLY_ZONE, flow.reply_zone, flow.key.zone, out);
    if flow.mark != 0 {
        fields::put(fields::MARK, &[&flow.mark.to_be_bytes()], out);
    }
    match flow.state {
        ProtocolState::None => {}
        ProtocolState::Tcp(Tcp { state, scale, flags }) => {
            fields::put(fields::TCP, &[&[state], &scale, &flags], out);
        }
        ProtocolState::Sctp(Sctp { state, tags: [original, reply] }) => {
            fields::put(fields::SCTP, &[&[state], &original.to_be_bytes(), &reply.to_be_bytes()], out);
        }
    }
    if let Some(labels) = &flow.labels {
        fields::put(fields::LABELS, &[labels], out);
    }
    fields::put_name(fields::HELPER, flow.helper.as_ref().map(<[u8; _]>::as_slice), out);
    for (tag, shift) in [fields::SHIFT_ORIGINAL, fields::SHIFT_REPLY].into_iter().zip(flow.sequence) {
        if let Some(SequenceShift { position, before, after }) = shift {
            fields::put(tag, &[&position.to_be_bytes(), &before.to_be_bytes(), &after.to_be_bytes()], out);
        }
    }
    if let Some(master) = &flow.master {
        fields::put_tuple_field(fields::MASTER, master, &[], out);
    }
}

fn put_expectation(expectation: &Expectation, out: &mut Vec<u8>) {
    for tuple in [&expectation.master.original, &expectation.tuple, &expectation.mask] {
        put_tuple(tuple, out);
    }
    for number in [expectation.timeout, expectation.flags, expectation.class] {
        out.extend(number.to_be_bytes());
    }
    fields::put_zone(fields::ZONE, expectation.master.zone, 0, out);
    fields::put_name(fields::HELPER, Some(&expectation.helper), out);
    fields::put_name(fields::FUNCTION, expectation.function.as_ref().map(<[u8; _]>::as_slice), out);
    if let Some((tuple, direction)) = &expectation.nat {
        fields::put_tuple_field(fields::NAT, tuple, &direction.to_be_bytes(), out);
    }
}

fn flow(mut bytes: Bytes<'_>, mirrored: bool) -> Result<Flow, Malformed> {
    let original = bytes.tuple()?;
    let reply = if mirrored { original.inverse().ok_or(Malformed::Range)? } else { bytes.tuple()? };
    let (status, timeout) = (bytes.u32()?, bytes.u32()?);
    let fields = Fields::read(bytes)?;
    let zone = fields.zone.unwrap_or(0);
    Ok(Flow {
        key: Key { zone, original },
        reply,
        reply_zone: fields.reply_zone.unwrap_or(zone),
        status,
        timeout,
        mark: fields.mark.unwrap_or(0),
        state: fields.state.unwrap_or_default(),
        labels: fields.labels,
        helper: fields.helper,
        sequence: fields.sequence,
        master: fields.master,
    })
}

fn key(mut bytes: Bytes<'_>) -> Result<Key, Malformed> {
    let original = bytes.tuple()?;
    Ok(Key { zone: Fields::read(bytes)?.zone.unwrap_or(0), original })
}

fn expectation(mut bytes: Bytes<'_>) -> Result<Expectation, Malformed> {
    let (master, tuple, mask) = (bytes.tuple()?, bytes.tuple()?, bytes.tuple()?);
    let (timeout, flags, class) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let fields = Fields::read(bytes)?;
    Ok(Expectation {
        master: Key { zone: fields.zone.unwrap_or(0), original: master },
        tuple,
        mask,
        timeout,
        flags,
        class,
        helper: fields.helper.unwrap_or_default(),
        function: fields.function,
        nat: fields.nat,
    })
}

#[cfg(test)]
pub(super) mod tests;
