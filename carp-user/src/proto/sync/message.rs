//! What two nodes say to each other inside the encrypted channel. One message a frame; its first byte is its kind. A kind that
//! is not known is skipped, and so is what follows the known part of a message: a newer peer may say more.

use super::record::{Records, Version};
use super::wire::{Bytes, Malformed};
use std::ops::RangeInclusive;

/// Longest message, bytes: what one frame of Noise holds (65,535) without its authenticator (16).
pub const MAX_MESSAGE: usize = 65_519;
/// Bytes of records after which a batch is sent: some 250 flows.
pub const FULL_BATCH: usize = 16 * 1024;
/// Parts that the digest of a table has.
pub const BUCKETS: usize = 4096;
/// Longest name of a node in a hello, bytes.
pub const MAX_NAME: usize = 64;

/// The versions of this protocol that this node speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;

/// One message. Lists are kept encoded and are read as they are walked.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// The first of each side.
    Hello(Hello<'a>),
    /// Records, with a number that grows by one a batch in each connection, from 1.
    Batch {
        /// Its number.
        number: u64,
        /// What is in it.
        records: Records<'a>,
    },
    /// All batches up to this number are in the kernel.
    Ack(u64),
    /// From here on the whole table follows, among the changes.
    BulkBegin {
        /// How many flows that will be, as far as the sender knows.
        estimate: u64,
    },
    /// The whole table has been sent.
    BulkEnd {
        /// How many flows that were.
        count: u64,
    },
    /// A digest of the whole table.
    Digest(Root),
    /// Digests of its parts.
    Sums {
        /// The stand that they are of.
        stand: Root,
        /// Each part with its digest.
        sums: Sums<'a>,
    },
    /// Asks for all flows of these buckets.
    Want(Wanted<'a>),
    /// The sender lives.
    KeepAlive {
        /// It serves virtual hosts.
        serving: bool,
        /// The newest version that it knows.
        clock: Version,
    },
    /// Asks for the whole table.
    Full,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Versions of the protocol that it speaks: the first ...
    pub oldest: u16,
    /// ... and the last.
    pub newest: u16,
    /// Features that it has; none are defined yet.
    pub features: u64,
    /// Number of its start, higher than at any start before.
    pub epoch: u64,
    /// The newest version that it knows.
    pub clock: Version,
    /// The first version since it took over last.
    pub term: Version,
    /// It serves virtual hosts.
    pub serving: bool,
    /// Its name.
    pub name: &'a str,
}

/// A digest of the flows that both nodes should have, and the moment that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The last batch of the receiver that it takes in.
    pub applied: u64,
    /// Sum over all buckets.
    pub sum: u64,
    /// How many flows.
    pub count: u64,
}

/// Numbers of buckets with their digests.
#[derive(Clone, Copy, Debug)]
pub struct Sums<'a>(Bytes<'a>);

/// Numbers of buckets.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a>(Bytes<'a>);

const HELLO: u8 = 1;
const BATCH: u8 = 2;
const ACK: u8 = 3;
const BULK_BEGIN: u8 = 4;
const BULK_END: u8 = 5;
const DIGEST: u8 = 6;
const SUMS: u8 = 7;
const WANT: u8 = 8;
const KEEP_ALIVE: u8 = 9;
const FULL: u8 = 10;

const SERVING: u8 = 1;

impl<'a> Message<'a> {
    /// Reads one frame. `None` for a kind that this version does not know.
    ///
    /// # Errors
    /// When it makes no sense. Records in it are read later, and can still make none.
    pub fn decode(frame: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut bytes = Bytes(frame);
        Ok(Some(match bytes.u8()? {
            HELLO => Self::Hello(Hello::decode(bytes)?),
            BATCH => Self::Batch { number: bytes.u64()?, records: Records::new(bytes.0) },
            ACK => Self::Ack(bytes.u64()?),
            BULK_BEGIN => Self::BulkBegin { estimate: bytes.u64()? },
            BULK_END => Self::BulkEnd { count: bytes.u64()? },
            DIGEST => Self::Digest(Root::decode(&mut bytes)?),
            SUMS => Self::Sums { stand: Root::decode(&mut bytes)?, sums: Sums(list(bytes, SUM)?) },
            WANT => Self::Want(Wanted(list(bytes, NUMBER)?)),
            KEEP_ALIVE => {
                let (serving, clock) = (bytes.u8()? & SERVING != 0, Version(bytes.u64()?));
                Self::KeepAlive { serving, clock }
            }
            FULL => Self::Full,
            _ => return Ok(None),
        }))
    }
}

impl<'a> Hello<'a> {
    fn decode(mut bytes: Bytes<'a>) -> Result<Self, Malformed> {
        let (oldest, newest) = (bytes.u16()?, bytes.u16()?);
        let (features, epoch) = (bytes.u64()?, bytes.u64()?);
        let (clock, term) = (Version(bytes.u64()?), Version(bytes.u64()?));
        let [flags, length] = bytes.array()?;
        let name = str::from_utf8(bytes.take(length.into())?.0).map_err(|_| Malformed::Name)?;
        if oldest > newest || name.len() > MAX_NAME {
            return Err(Malformed::Range);
        }
        Ok(Self { oldest, newest, features, epoch, clock, term, serving: flags & SERVING != 0, name })
    }

    /// As a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![HELLO];
        out.extend(self.oldest.to_be_bytes());
        out.extend(self.newest.to_be_bytes());
        for number in [self.features, self.epoch, self.clock.0, self.term.0] {
            out.extend(number.to_be_bytes());
        }
        // A name that is too long loses its end: it is for people, and breaks ties.
        let end = self.name.floor_char_boundary(MAX_NAME);
        out.extend([u8::from(self.serving), u8::try_from(end).unwrap_or(0)]);
        out.extend(&self.name.as_bytes()[..end]);
        out
    }

    /// The newest version of the protocol that both speak.
    pub fn common_version(&self) -> Option<u16> {
        let newest = self.newest.min(*VERSIONS.end());
        (newest >= self.oldest.max(*VERSIONS.start())).then_some(newest)
    }
}

impl Root {
    fn decode(bytes: &mut Bytes<'_>) -> Result<Self, Malformed> {
        Ok(Self { applied: bytes.u64()?, sum: bytes.u64()?, count: bytes.u64()? })
    }

    fn put(&self, out: &mut Vec<u8>) {
        [self.applied, self.sum, self.count].iter().for_each(|number| out.extend(number.to_be_bytes()));
    }
}

const SUM: usize = 10;
const NUMBER: usize = 2;

/// A list with its length in front: not more elements than there are buckets, each at most once as they ascend.
fn list(mut bytes: Bytes<'_>, each: usize) -> Result<Bytes<'_>, Malformed> {
    let count = usize::from(bytes.u16()?);
    let list = bytes.take(count * each)?;
    let mut least = 0;
    for element in list.0.chunks_exact(each) {
        let number = Bytes(element).u16()?;
        if number < least || usize::from(number) >= BUCKETS {
            return Err(Malformed::Range);
        }
        least = number + 1;
    }
    Ok(list)
}

impl Sums<'_> {
    /// Bucket and digest, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.0.chunks_exact(SUM).map_while(|element| {
            let mut element = Bytes(element);
            Some((element.u16().ok()?, element.u64().ok()?))
        })
    }
}

impl Wanted<'_> {
    /// Buckets, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.0.chunks_exact(NUMBER).map_while(|element| Bytes(element).u16().ok())
    }
}

/// The start of a batch; encoded records follow it, [`FULL_BATCH`] bytes as a rule and never more than a frame holds.
pub fn begin_batch(number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(FULL_BATCH + 512);
    out.push(BATCH);
    out.extend(number.to_be_bytes());
    out
}

/// [`Message::Ack`].
pub fn ack(number: u64) -> Vec<u8> {
    with_number(ACK, number)
}

/// [`Message::BulkBegin`].
pub fn bulk_begin(estimate: u64) -> Vec<u8> {
    with_number(BULK_BEGIN, estimate)
}

/// [`Message::BulkEnd`].
pub fn bulk_end(count: u64) -> Vec<u8> {
    with_number(BULK_END, count)
}

/// [`Message::Digest`].
pub fn digest(root: &Root) -> Vec<u8> {
    let mut out = vec![DIGEST];
    root.put(&mut out);
    out
}

/// [`Message::Sums`]; they must ascend.
pub fn sums(stand: &Root, sums: impl Iterator<Item = (u16, u64)>) -> Vec<u8> {
    let mut out = vec![SUMS];
    stand.put(&mut out);
    put_list(&mut out, sums, |(bucket, sum), out| {
        out.extend(bucket.to_be_bytes());
        out.extend(sum.to_be_bytes());
    });
    out
}

/// [`Message::Want`]; they must ascend.
pub fn want(buckets: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut out = vec![WANT];
    put_list(&mut out, buckets, |bucket, out| out.extend(bucket.to_be_bytes()));
    out
}

/// [`Message::KeepAlive`].
pub fn keep_alive(serving: bool, clock: Version) -> Vec<u8> {
    let mut out = vec![KEEP_ALIVE, u8::from(serving)];
    out.extend(clock.0.to_be_bytes());
    out
}

/// [`Message::Full`].
pub fn full() -> Vec<u8> {
    vec![FULL]
}

fn with_number(kind: u8, number: u64) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(number.to_be_bytes());
    out
}

fn put_list<T>(out: &mut Vec<u8>, list: impl Iterator<Item = T>, put: impl Fn(T, &mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 2]);
    let mut count: u16 = 0;
    for element in list {
        put(element, out);
        count += 1;
    }
    out[start..start + 2].copy_from_slice(&count.to_be_bytes());
}

#[cfg(test)]
mod tests;
