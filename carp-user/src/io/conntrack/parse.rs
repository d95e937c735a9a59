//! What ctnetlink says, as flows. Attributes that are not known are passed over, and so are messages that lack
//! what makes a flow; nothing is allocated.

use super::number::*;
use crate::io::netlink::{MAKE, Reply, attributes, ip, replies};
use crate::proto::flow::{Expectation, Flow, Ids, Key, ProtocolState, Sctp, SequenceShift, Tcp, Tuple};
use std::net::IpAddr;

/// Something that the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The port of the socket whose request caused it; 0 when a packet or the time did.
    pub by: u32,
    /// What it says.
    pub news: News,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Of a flow. [`Change::Updated`] also for one that is listed.
    Flow(Change, Flow),
    /// Of an expectation; likewise.
    Expectation(Change, Expectation),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    New,
    /// It is there, and something of it may be different.
    Updated,
    /// It is gone.
    Destroyed,
}

/// The messages of a datagram, in order. Bytes that are not understood are passed over.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    replies(datagram).filter_map(|reply| message(&reply))
}

/// One message; none if it is about something else, or not understood.
pub(super) fn message(reply: &Reply<'_>) -> Option<Message> {
    let news = match reply.kind {
        NEW_FLOW => News::Flow(change(reply), flow(reply.body)?),
        LOST_FLOW => News::Flow(Change::Destroyed, flow(reply.body)?),
        NEW_EXPECTATION => News::Expectation(change(reply), expectation(reply.body)?),
        LOST_EXPECTATION => News::Expectation(Change::Destroyed, expectation(reply.body)?),
        _ => return None,
    };
    Some(Message { by: reply.port, news })
}

const NEW_FLOW: u16 = FLOWS | IPCTNL_MSG_CT_NEW;
const LOST_FLOW: u16 = FLOWS | IPCTNL_MSG_CT_DELETE;
const NEW_EXPECTATION: u16 = EXPECTATIONS | IPCTNL_MSG_EXP_NEW;
const LOST_EXPECTATION: u16 = EXPECTATIONS | IPCTNL_MSG_EXP_DELETE;
/// Bytes of `nfgenmsg`.
pub(super) const FAMILY_HEADER: usize = 4;

fn change(reply: &Reply<'_>) -> Change {
    if reply.flags & MAKE == 0 { Change::Updated } else { Change::New }
}

fn flow(body: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut zone) = (None, None, 0);
    let (mut status, mut timeout, mut mark) = (0, 0, 0);
    let mut state = ProtocolState::None;
    let (mut labels, mut helper, mut master, mut sequence) = (None, None, None, [None; 2]);
    for (kind, value) in attributes(body.get(FAMILY_HEADER..)?) {
        match kind {
            CTA_TUPLE_ORIG => original = direction(value),
            CTA_TUPLE_REPLY => reply = direction(value),
            CTA_ZONE => zone = be16(value).unwrap_or(0),
            CTA_STATUS => status = be32(value).unwrap_or(0),
            CTA_TIMEOUT => timeout = be32(value).unwrap_or(0),
            CTA_MARK => mark = be32(value).unwrap_or(0),
            CTA_PROTOINFO => state = protocol_state(value),
            CTA_HELP => helper = find(value, CTA_HELP_NAME).and_then(padded),
            CTA_LABELS => labels = padded(value),
            CTA_TUPLE_MASTER => master = direction(value).map(|(tuple, _)| tuple),
            CTA_SEQ_ADJ_ORIG => sequence[0] = shift(value),
            CTA_SEQ_ADJ_REPLY => sequence[1] = shift(value),
            _ => {}
        }
    }
    let ((original, original_zone), (reply, reply_zone)) = (original?, reply?);
    // The zone stands at the direction that it is for, or for both at the flow.
    let key = Key { zone: original_zone.unwrap_or(zone), original };
    let reply_zone = reply_zone.unwrap_or(zone);
    Some(Flow { key, reply, reply_zone, status, timeout, mark, state, labels, helper, sequence, master })
}

fn expectation(body: &[u8]) -> Option<Expectation> {
    let (mut master, mut tuple, mut mask, mut zone) = (None, None, None, 0);
    let (mut timeout, mut flags, mut class) = (0, 0, 0);
    let (mut helper, mut function, mut nat) = (None, None, None);
    for (kind, value) in attributes(body.get(FAMILY_HEADER..)?) {
        match kind {
            CTA_EXPECT_MASTER => master = direction(value),
            CTA_EXPECT_TUPLE => tuple = direction(value),
            CTA_EXPECT_MASK => mask = direction(value),
            CTA_EXPECT_ZONE => zone = be16(value).unwrap_or(0),
            CTA_EXPECT_TIMEOUT => timeout = be32(value).unwrap_or(0),
            CTA_EXPECT_FLAGS => flags = be32(value).unwrap_or(0),
            CTA_EXPECT_CLASS => class = be32(value).unwrap_or(0),
            CTA_EXPECT_HELP_NAME => helper = padded(value),
            CTA_EXPECT_FN => function = padded(value),
            CTA_EXPECT_NAT => nat = translation(value),
            _ => {}
        }
    }
    let master = Key { zone, original: master?.0 };
    let (tuple, mask, helper) = (tuple?.0, mask?.0, helper.unwrap_or_default());
    Some(Expectation { master, tuple, mask, timeout, flags, class, helper, function, nat })
}

/// The direction of an expectation's translation, and its address.
fn translation(nest: &[u8]) -> Option<(Tuple, u32)> {
    let direction_number = find(nest, CTA_EXPECT_NAT_DIR).and_then(be32)?;
    let (tuple, _) = find(nest, CTA_EXPECT_NAT_TUPLE).and_then(direction)?;
    Some((tuple, direction_number))
}

/// A tuple, and its own zone if it has one.
fn direction(nest: &[u8]) -> Option<(Tuple, Option<u16>)> {
    let (mut addresses, mut ends, mut zone) = (None, None, None);
    for (kind, value) in attributes(nest) {
        match kind {
            CTA_TUPLE_IP => addresses = address_pair(value),
            CTA_TUPLE_PROTO => ends = protocol(value),
            CTA_TUPLE_ZONE => zone = be16(value),
            _ => {}
        }
    }
    let ((source, destination), (protocol, ids)) = (addresses?, ends?);
    Some((Tuple { source, destination, protocol, ids }, zone))
}

fn address_pair(nest: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (mut source, mut destination) = (None, None);
    for (kind, value) in attributes(nest) {
        match kind {
            CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = ip(value),
            CTA_IP_V4_DST | CTA_IP_V6_DST => destination = ip(value),
            _ => {}
        }
    }
    let pair: (IpAddr, IpAddr) = (source?, destination?);
    (pair.0.is_ipv4() == pair.1.is_ipv4()).then_some(pair)
}

fn protocol(nest: &[u8]) -> Option<(u8, Ids)> {
    let mut number = None;
    let (mut source, mut destination) = (None, None);
    let (mut kind_of_query, mut code, mut id) = (None, 0, 0);
    for (kind, value) in attributes(nest) {
        match kind {
            CTA_PROTO_NUM => number = value.first().copied(),
            CTA_PROTO_SRC_PORT => source = be16(value),
            CTA_PROTO_DST_PORT => destination = be16(value),
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => id = be16(value).unwrap_or(0),
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => kind_of_query = value.first().copied(),
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => code = value.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    let ids = match (source, destination, kind_of_query) {
        (Some(source), Some(destination), _) => Ids::Ports { source, destination },
        (_, _, Some(kind)) => Ids::Icmp { kind, code, id },
        _ => Ids::None,
    };
    Some((number?, ids))
}

fn protocol_state(nest: &[u8]) -> ProtocolState {
    for (kind, value) in attributes(nest) {
        match kind {
            CTA_PROTOINFO_TCP => return ProtocolState::Tcp(tcp(value)),
            CTA_PROTOINFO_SCTP => return ProtocolState::Sctp(sctp(value)),
            _ => {}
        }
    }
    ProtocolState::None
}

fn tcp(nest: &[u8]) -> Tcp {
    let mut tcp = Tcp::default();
    for (kind, value) in attributes(nest) {
        // Flags come as flags and mask.
        let Some(byte) = value.first().copied() else { continue };
        match kind {
            CTA_PROTOINFO_TCP_STATE => tcp.state = byte,
            CTA_PROTOINFO_TCP_WSCALE_ORIGINAL => tcp.scale[0] = byte,
            CTA_PROTOINFO_TCP_WSCALE_REPLY => tcp.scale[1] = byte,
            CTA_PROTOINFO_TCP_FLAGS_ORIGINAL => tcp.flags[0] = byte,
            CTA_PROTOINFO_TCP_FLAGS_REPLY => tcp.flags[1] = byte,
            _ => {}
        }
    }
    tcp
}

fn sctp(nest: &[u8]) -> Sctp {
    let mut sctp = Sctp::default();
    for (kind, value) in attributes(nest) {
        match kind {
            CTA_PROTOINFO_SCTP_STATE => sctp.state = value.first().copied().unwrap_or(0),
            CTA_PROTOINFO_SCTP_VTAG_ORIGINAL => sctp.tags[0] = be32(value).unwrap_or(0),
            CTA_PROTOINFO_SCTP_VTAG_REPLY => sctp.tags[1] = be32(value).unwrap_or(0),
            _ => {}
        }
    }
    sctp
}

fn shift(nest: &[u8]) -> Option<SequenceShift> {
    let number = |kind| find(nest, kind).and_then(be32);
    Some(SequenceShift {
        position: number(CTA_SEQADJ_CORRECTION_POS)?,
        before: number(CTA_SEQADJ_OFFSET_BEFORE)?.cast_signed(),
        after: number(CTA_SEQADJ_OFFSET_AFTER)?.cast_signed(),
    })
}

fn find(nest: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(nest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Two bytes in the network's order.
fn be16(value: &[u8]) -> Option<u16> {
    value.first_chunk().copied().map(u16::from_be_bytes)
}

/// Four bytes in the network's order.
pub(super) fn be32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

/// Zeros behind it; none if it is longer than that.
fn padded<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    bytes.get_mut(..value.len())?.copy_from_slice(value);
    Some(bytes)
}
