//! Requests that make another kernel hold the same flow.
//!
//! What the kernel does with them (`net/netfilter/nf_conntrack_netlink.c`):
//! - A new entry gets its translation from `CTA_NAT_SRC` and `CTA_NAT_DST` alone, so the reply direction has to be
//!   the plain inverse of the original one.
//! - An entry that is there is changed, but never its translation or its master: `EOPNOTSUPP`. Nor is its helper,
//!   which is left out.
//! - Bits of the status only ever get set, and taking away `SEEN_REPLY` or `ASSURED` is refused with `EBUSY`; so is a
//!   status that differs in `CONFIRMED` or `EXPECTED`. A new entry is `EXPECTED` only once its master is known.
//! - The tracker of GRE learns its timeouts from the packet that begins a flow. An entry that was made here has none, so
//!   its next packet ends it; only `FIXED_TIMEOUT` keeps it, whose time then cannot be changed (`EPERM`), only replaced.

use super::number::*;
use crate::io::netlink::{AF_INET, AF_INET6, CREATE, MAKE, Message};
use crate::proto::flow::{
    Expectation, Flow, Ids, Key, LABELS_LEN, ProtocolState, SequenceShift, Tuple, status, tcp_flag,
};
use crate::proto::protocol::ICMPV6;
use std::net::IpAddr;

/// Why no kernel can hold a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// IPv4 and IPv6 in one flow.
    #[error("addresses of two families")]
    Families,
    /// The answers to these packets are of another kind than the flow says, or there are none.
    #[error("the reply direction does not answer the original one")]
    Reply,
    /// The two directions have different zones, neither of them 0.
    #[error("two zones")]
    Zones,
}

/// Has the kernel make the entry, or change it if it is there. With `liberal`, TCP's windows do not matter.
pub(super) fn create(bytes: &mut Vec<u8>, sequence: u32, flow: &Flow, liberal: bool) -> Result<(), Unfit> {
    begin(bytes, sequence, flow, liberal, MAKE)
}

/// Has the kernel make the entry; `EEXIST` if it is there.
pub(super) fn add(bytes: &mut Vec<u8>, sequence: u32, flow: &Flow, liberal: bool) -> Result<(), Unfit> {
    begin(bytes, sequence, flow, liberal, CREATE)
}

fn begin(bytes: &mut Vec<u8>, sequence: u32, flow: &Flow, liberal: bool, flags: u16) -> Result<(), Unfit> {
    let inverse = check(flow)?;
    let header = family_header(flow.key.original.source);
    let mut message = Message::begin(bytes, FLOWS | IPCTNL_MSG_CT_NEW, flags, sequence, &header);
    put_directions(&mut message, flow, &inverse);
    let told = flow.status & status::TOLD | status::CONFIRMED;
    put_common(&mut message, flow, Some(told), liberal);
    put_translation(&mut message, flow);
    if let Some(helper) = &flow.helper {
        message.nest(CTA_HELP, |nest| nest.put(CTA_HELP_NAME, terminated(helper)));
    }
    if let Some(master) = &flow.master {
        put_direction(&mut message, CTA_TUPLE_MASTER, master, None);
    }
    message.end();
    Ok(())
}

/// Has the kernel change the entry; `ENOENT` if there is none.
pub(super) fn update(bytes: &mut Vec<u8>, sequence: u32, flow: &Flow, liberal: bool) -> Result<(), Unfit> {
    check(flow)?;
    let header = family_header(flow.key.original.source);
    let mut message = Message::begin(bytes, FLOWS | IPCTNL_MSG_CT_NEW, 0, sequence, &header);
    put_key(&mut message, &flow.key);
    // Without either bit there is nothing to set, and the entry may have gone on.
    let is_on_its_way = flow.status & (status::SEEN_REPLY | status::ASSURED) != 0;
    let told = flow.status & (status::TOLD | status::EXPECTED) | status::CONFIRMED;
    put_common(&mut message, flow, is_on_its_way.then_some(told), liberal);
    message.end();
    Ok(())
}

/// Has the kernel keep the entry for as long as the flow says from now on, with `liberal` whatever TCP's windows are by
/// then, and change nothing else; `ENOENT` if there is none.
pub(super) fn prolong(bytes: &mut Vec<u8>, sequence: u32, flow: &Flow, liberal: bool) -> Result<(), Unfit> {
    check(flow)?;
    let header = family_header(flow.key.original.source);
    let mut message = Message::begin(bytes, FLOWS | IPCTNL_MSG_CT_NEW, 0, sequence, &header);
    put_key(&mut message, &flow.key);
    message.put(CTA_TIMEOUT, &flow.timeout.to_be_bytes());
    if let (ProtocolState::Tcp(_), true) = (&flow.state, liberal) {
        let (flags, mask) = (tcp_flag::LIBERAL, tcp_flag::LIBERAL | tcp_flag::MAXACK_SET);
        message.nest(CTA_PROTOINFO, |nest| {
            nest.nest(CTA_PROTOINFO_TCP, |nest| {
                nest.put(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &[flags, mask]);
                nest.put(CTA_PROTOINFO_TCP_FLAGS_REPLY, &[flags, mask]);
            });
        });
    }
    message.end();
    Ok(())
}

/// Has the kernel forget the entry; `ENOENT` if there is none. It always names one: without a direction the kernel
/// would forget them all.
pub(super) fn delete(bytes: &mut Vec<u8>, sequence: u32, key: &Key) -> Result<(), Unfit> {
    name(bytes, IPCTNL_MSG_CT_DELETE, sequence, key)
}

/// Has the kernel tell of the entry; `ENOENT` if there is none.
pub(super) fn show(bytes: &mut Vec<u8>, sequence: u32, key: &Key) -> Result<(), Unfit> {
    name(bytes, IPCTNL_MSG_CT_GET, sequence, key)
}

fn name(bytes: &mut Vec<u8>, kind: u16, sequence: u32, key: &Key) -> Result<(), Unfit> {
    key.original.is_of_one_family().then_some(()).ok_or(Unfit::Families)?;
    let header = family_header(key.original.source);
    let mut message = Message::begin(bytes, FLOWS | kind, 0, sequence, &header);
    put_key(&mut message, key);
    message.end();
    Ok(())
}

/// Has the kernel expect it. Its master must be there, with the helper.
pub(super) fn expect(bytes: &mut Vec<u8>, sequence: u32, expectation: &Expectation) -> Result<(), Unfit> {
    check_expectation(expectation)?;
    let header = family_header(expectation.tuple.source);
    let mut message = Message::begin(bytes, EXPECTATIONS | IPCTNL_MSG_EXP_NEW, MAKE, sequence, &header);
    put_direction(&mut message, CTA_EXPECT_MASTER, &expectation.master.original, None);
    put_direction(&mut message, CTA_EXPECT_TUPLE, &expectation.tuple, None);
    put_direction(&mut message, CTA_EXPECT_MASK, &expectation.mask, None);
    put_zone(&mut message, CTA_EXPECT_ZONE, expectation.master.zone);
    message.put(CTA_EXPECT_TIMEOUT, &expectation.timeout.to_be_bytes());
    message.put(CTA_EXPECT_FLAGS, &expectation.flags.to_be_bytes());
    message.put(CTA_EXPECT_CLASS, &expectation.class.to_be_bytes());
    if expectation.helper != [0; _] {
        message.put(CTA_EXPECT_HELP_NAME, terminated(&expectation.helper));
    }
    if let Some(function) = &expectation.function {
        message.put(CTA_EXPECT_FN, terminated(function));
    }
    if let Some((tuple, direction)) = &expectation.nat {
        message.nest(CTA_EXPECT_NAT, |nest| {
            nest.put(CTA_EXPECT_NAT_DIR, &direction.to_be_bytes());
            put_direction(nest, CTA_EXPECT_NAT_TUPLE, tuple, None);
        });
    }
    message.end();
    Ok(())
}

/// Has the kernel expect it no more, by zone and tuple; `ENOENT` if it does not.
pub(super) fn withdraw(bytes: &mut Vec<u8>, sequence: u32, key: &Key) -> Result<(), Unfit> {
    key.original.is_of_one_family().then_some(()).ok_or(Unfit::Families)?;
    let header = family_header(key.original.source);
    let mut message = Message::begin(bytes, EXPECTATIONS | IPCTNL_MSG_EXP_DELETE, 0, sequence, &header);
    put_direction(&mut message, CTA_EXPECT_TUPLE, &key.original, None);
    put_zone(&mut message, CTA_EXPECT_ZONE, key.zone);
    message.end();
    Ok(())
}

/// `nfgenmsg` for an address's family.
fn family_header(address: IpAddr) -> [u8; super::parse::FAMILY_HEADER] {
    [if address.is_ipv4() { AF_INET } else { AF_INET6 }, 0, 0, 0]
}

/// The answers without a translation, if a kernel can hold the flow.
pub(super) fn check(flow: &Flow) -> Result<Tuple, Unfit> {
    let (original, reply) = (&flow.key.original, &flow.reply);
    let is_v4 = original.source.is_ipv4();
    let mut addresses = [original.destination, reply.source, reply.destination].into_iter();
    if addresses.any(|address| address.is_ipv4() != is_v4) {
        return Err(Unfit::Families);
    }
    let inverse = original.inverse().ok_or(Unfit::Reply)?;
    let is_alike = match (inverse.ids, reply.ids) {
        (Ids::None, Ids::None) | (Ids::Ports { .. }, Ids::Ports { .. }) => true,
        (Ids::Icmp { kind, code, .. }, Ids::Icmp { kind: kind_there, code: code_there, .. }) => {
            (kind, code) == (kind_there, code_there)
        }
        (Ids::None | Ids::Ports { .. } | Ids::Icmp { .. }, _) => false,
    };
    if !is_alike || reply.protocol != original.protocol {
        return Err(Unfit::Reply);
    }
    if flow.key.zone != flow.reply_zone && flow.key.zone != 0 && flow.reply_zone != 0 {
        return Err(Unfit::Zones);
    }
    Ok(inverse)
}

fn check_expectation(expectation: &Expectation) -> Result<(), Unfit> {
    let is_v4 = expectation.tuple.source.is_ipv4();
    let fits = |tuple: &Tuple| tuple.is_of_one_family() && tuple.source.is_ipv4() == is_v4;
    let nat = expectation.nat.as_ref().map(|(tuple, _)| tuple);
    let mut tuples =
        [&expectation.master.original, &expectation.tuple, &expectation.mask].into_iter().chain(nat);
    tuples.all(fits).then_some(()).ok_or(Unfit::Families)
}

fn put_directions(message: &mut Message<'_>, flow: &Flow, inverse: &Tuple) {
    let (zone, reply_zone) = (flow.key.zone, flow.reply_zone);
    let own = |zone: u16| (zone != 0).then_some(zone);
    if zone == reply_zone {
        put_zone(message, CTA_ZONE, zone);
        put_direction(message, CTA_TUPLE_ORIG, &flow.key.original, None);
        put_direction(message, CTA_TUPLE_REPLY, inverse, None);
    } else {
        put_direction(message, CTA_TUPLE_ORIG, &flow.key.original, own(zone));
        put_direction(message, CTA_TUPLE_REPLY, inverse, own(reply_zone));
    }
}

/// A lookup asks for the zone of the original direction only, wherever it stands.
fn put_key(message: &mut Message<'_>, key: &Key) {
    put_zone(message, CTA_ZONE, key.zone);
    put_direction(message, CTA_TUPLE_ORIG, &key.original, None);
}

fn put_zone(message: &mut Message<'_>, kind: u16, zone: u16) {
    if zone != 0 {
        message.put(kind, &zone.to_be_bytes());
    }
}

fn put_direction(message: &mut Message<'_>, kind: u16, tuple: &Tuple, zone: Option<u16>) {
    message.nest(kind, |nest| {
        nest.nest(CTA_TUPLE_IP, |nest| match (tuple.source, tuple.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                nest.put(CTA_IP_V4_SRC, &source.octets());
                nest.put(CTA_IP_V4_DST, &destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                nest.put(CTA_IP_V6_SRC, &source.octets());
                nest.put(CTA_IP_V6_DST, &destination.octets());
            }
            // Refused before; the kernel refuses a direction without addresses, too.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        });
        nest.nest(CTA_TUPLE_PROTO, |nest| {
            nest.put(CTA_PROTO_NUM, &[tuple.protocol]);
            put_ids(nest, tuple);
        });
        if let Some(zone) = zone {
            nest.put(CTA_TUPLE_ZONE, &zone.to_be_bytes());
        }
    });
}

fn put_ids(nest: &mut Message<'_>, tuple: &Tuple) {
    match tuple.ids {
        Ids::None => {}
        Ids::Ports { source, destination } => {
            nest.put(CTA_PROTO_SRC_PORT, &source.to_be_bytes());
            nest.put(CTA_PROTO_DST_PORT, &destination.to_be_bytes());
        }
        Ids::Icmp { kind, code, id } => {
            let [id_type, kind_type, code_type] = if tuple.protocol == ICMPV6 {
                [CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE]
            } else {
                [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE]
            };
            nest.put(id_type, &id.to_be_bytes());
            nest.put(kind_type, &[kind]);
            nest.put(code_type, &[code]);
        }
    }
}

/// What a new entry and a change have in common.
fn put_common(message: &mut Message<'_>, flow: &Flow, told: Option<u32>, liberal: bool) {
    message.put(CTA_TIMEOUT, &flow.timeout.to_be_bytes());
    if let Some(told) = told {
        message.put(CTA_STATUS, &told.to_be_bytes());
    }
    message.put(CTA_MARK, &flow.mark.to_be_bytes());
    put_state(message, &flow.state, liberal);
    for (kind, shift) in [CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY].into_iter().zip(&flow.sequence) {
        if let Some(shift) = shift {
            put_shift(message, kind, shift);
        }
    }
    if let Some(labels) = &flow.labels {
        message.put(CTA_LABELS, labels);
        message.put(CTA_LABELS_MASK, &[u8::MAX; LABELS_LEN]);
    }
}

fn put_state(message: &mut Message<'_>, state: &ProtocolState, liberal: bool) {
    match state {
        ProtocolState::None => {}
        ProtocolState::Tcp(tcp) => message.nest(CTA_PROTOINFO, |nest| {
            nest.nest(CTA_PROTOINFO_TCP, |nest| {
                let (more, mask) = if liberal { LIBERAL } else { (0, tcp_flag::TOLD) };
                nest.put(CTA_PROTOINFO_TCP_STATE, &[tcp.state]);
                nest.put(CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, &[tcp.scale[0]]);
                nest.put(CTA_PROTOINFO_TCP_WSCALE_REPLY, &[tcp.scale[1]]);
                let flags = tcp.flags.map(|flags| [flags & tcp_flag::TOLD | more, mask]);
                nest.put(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &flags[0]);
                nest.put(CTA_PROTOINFO_TCP_FLAGS_REPLY, &flags[1]);
            });
        }),
        ProtocolState::Sctp(sctp) => message.nest(CTA_PROTOINFO, |nest| {
            nest.nest(CTA_PROTOINFO_SCTP, |nest| {
                nest.put(CTA_PROTOINFO_SCTP_STATE, &[sctp.state]);
                nest.put(CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, &sctp.tags[0].to_be_bytes());
                nest.put(CTA_PROTOINFO_SCTP_VTAG_REPLY, &sctp.tags[1].to_be_bytes());
            });
        }),
    }
}

/// Flags that liberal tracking adds, and all that are written. An entry from before knows an acknowledgement that
/// is long past; a reset is compared with that even in liberal tracking, so it is forgotten.
const LIBERAL: (u8, u8) = (tcp_flag::LIBERAL, tcp_flag::TOLD | tcp_flag::LIBERAL | tcp_flag::MAXACK_SET);

fn put_shift(message: &mut Message<'_>, kind: u16, shift: &SequenceShift) {
    message.nest(kind, |nest| {
        nest.put(CTA_SEQADJ_CORRECTION_POS, &shift.position.to_be_bytes());
        nest.put(CTA_SEQADJ_OFFSET_BEFORE, &shift.before.to_be_bytes());
        nest.put(CTA_SEQADJ_OFFSET_AFTER, &shift.after.to_be_bytes());
    });
}

/// Both sides as soon as one is translated: the kernel would choose the other one itself, and another port than the
/// flow has if that is taken.
fn put_translation(message: &mut Message<'_>, flow: &Flow) {
    if flow.source_translation().or(flow.destination_translation()).is_some() {
        let Tuple { source, destination, ids, .. } = flow.reply;
        // An identifier is changed with the source.
        let port = match flow.key.original.ids {
            Ids::Icmp { id, .. } => id,
            Ids::None | Ids::Ports { .. } => ids.source(),
        };
        put_range(message, CTA_NAT_SRC, destination, ids, ids.destination());
        put_range(message, CTA_NAT_DST, source, ids, port);
    }
}

/// A range of one address and, where there are ports, of one port; a query's identifier is one to the kernel.
fn put_range(message: &mut Message<'_>, kind: u16, address: IpAddr, ids: Ids, port: u16) {
    message.nest(kind, |nest| {
        match address {
            IpAddr::V4(address) => {
                nest.put(CTA_NAT_V4_MINIP, &address.octets());
                nest.put(CTA_NAT_V4_MAXIP, &address.octets());
            }
            IpAddr::V6(address) => {
                nest.put(CTA_NAT_V6_MINIP, &address.octets());
                nest.put(CTA_NAT_V6_MAXIP, &address.octets());
            }
        }
        match ids {
            Ids::None => {}
            Ids::Ports { .. } | Ids::Icmp { .. } => nest.nest(CTA_NAT_PROTO, |nest| {
                nest.put(CTA_PROTONAT_PORT_MIN, &port.to_be_bytes());
                nest.put(CTA_PROTONAT_PORT_MAX, &port.to_be_bytes());
            }),
        }
    });
}

/// A name without its padding, and with one zero.
fn terminated(name: &[u8]) -> &[u8] {
    let len = name.iter().position(|byte| *byte == 0).map_or(name.len(), |end| end + 1);
    name.get(..len).unwrap_or(name)
}
