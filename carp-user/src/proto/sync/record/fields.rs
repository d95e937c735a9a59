//! The fields behind the fixed part of a record: tag, length, value.

use crate::proto::flow::{
    FUNCTION_LEN, HELPER_LEN, LABELS_LEN, ProtocolState, Sctp, SequenceShift, Tcp, Tuple,
};
use crate::proto::sync::wire::{Bytes, Malformed, put_tuple};

pub const ZONE: u8 = 1;
pub const MARK: u8 = 2;
pub const TCP: u8 = 3;
pub const SCTP: u8 = 4;
pub const LABELS: u8 = 5;
pub const HELPER: u8 = 6;
pub const SHIFT_ORIGINAL: u8 = 7;
pub const SHIFT_REPLY: u8 = 8;
pub const MASTER: u8 = 9;
pub const FUNCTION: u8 = 10;
pub const NAT: u8 = 11;
pub const REPLY_ZONE: u8 = 12;

/// Whatever fields a record has.
#[derive(Default)]
pub struct Fields {
    pub zone: Option<u16>,
    pub reply_zone: Option<u16>,
    pub mark: Option<u32>,
    pub state: Option<ProtocolState>,
    pub labels: Option<[u8; LABELS_LEN]>,
    pub helper: Option<[u8; HELPER_LEN]>,
    pub sequence: [Option<SequenceShift>; 2],
    pub master: Option<Tuple>,
    pub function: Option<[u8; FUNCTION_LEN]>,
    pub nat: Option<(Tuple, u32)>,
}

impl Fields {
    pub fn read(mut bytes: Bytes<'_>) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        while !bytes.0.is_empty() {
            let [tag, length] = bytes.array()?;
            let mut value = bytes.take(length.into())?;
            let is_known = fields.field(tag, &mut value).map_err(of_field)?;
            if is_known && !value.0.is_empty() {
                return Err(Malformed::Length);
            }
        }
        Ok(fields)
    }

    /// Whether the tag is known; then its value was read.
    fn field(&mut self, tag: u8, value: &mut Bytes<'_>) -> Result<bool, Malformed> {
        match tag {
            ZONE => set(&mut self.zone, value.u16()?)?,
            REPLY_ZONE => set(&mut self.reply_zone, value.u16()?)?,
            MARK => set(&mut self.mark, value.u32()?)?,
            TCP => {
                let [state, scale @ .., a, b] = value.array::<5>()?;
                set(&mut self.state, ProtocolState::Tcp(Tcp { state, scale, flags: [a, b] }))?;
            }
            SCTP => {
                let (state, tags) = (value.u8()?, [value.u32()?, value.u32()?]);
                set(&mut self.state, ProtocolState::Sctp(Sctp { state, tags }))?;
            }
            LABELS => set(&mut self.labels, value.array()?)?,
            HELPER => set(&mut self.helper, name(value)?)?,
            SHIFT_ORIGINAL => set(&mut self.sequence[0], shift(value)?)?,
            SHIFT_REPLY => set(&mut self.sequence[1], shift(value)?)?,
            MASTER => set(&mut self.master, value.tuple()?)?,
            FUNCTION => set(&mut self.function, name(value)?)?,
            NAT => set(&mut self.nat, (value.tuple()?, value.u32()?))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if field.replace(value).is_some() { Err(Malformed::Twice) } else { Ok(()) }
}

/// A field that ends too early has a wrong length, whatever follows it.
fn of_field(error: Malformed) -> Malformed {
    if error == Malformed::Short { Malformed::Length } else { error }
}

fn name<const LEN: usize>(value: &mut Bytes<'_>) -> Result<[u8; LEN], Malformed> {
    let mut name = [0; LEN];
    let bytes = value.take(value.0.len())?.0;
    name.get_mut(..bytes.len()).ok_or(Malformed::Length)?.copy_from_slice(bytes);
    Ok(name)
}

fn shift(value: &mut Bytes<'_>) -> Result<SequenceShift, Malformed> {
    Ok(SequenceShift { position: value.u32()?, before: value.i32()?, after: value.i32()? })
}

/// A zone, unless it is the one that goes without saying.
pub fn put_zone(tag: u8, zone: u16, usual: u16, out: &mut Vec<u8>) {
    if zone != usual {
        put(tag, &[&zone.to_be_bytes()], out);
    }
}

pub fn put_name(tag: u8, name: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(name) = name else { return };
    let length = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    put(tag, &[&name[..length]], out);
}

pub fn put(tag: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend([tag, u8::try_from(length).unwrap_or(u8::MAX)]);
    out.extend(parts.iter().copied().flatten());
}

pub fn put_tuple_field(tag: u8, tuple: &Tuple, behind: &[u8], out: &mut Vec<u8>) {
    out.extend([tag, 0]);
    let start = out.len();
    put_tuple(tuple, out);
    out.extend(behind);
    out[start - 1] = u8::try_from(out.len() - start).unwrap_or(u8::MAX);
}
