//! What is in the XDP slot of a link of this network namespace, as rtnetlink tells it.

use carp_common::id::IfIndex;

use super::{Attached, Error};
use crate::io::netlink::{Requests, attributes, replies, u32_at};

/// A program in an XDP slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Occupant {
    /// Its id.
    pub(super) program: u32,
    /// How it is attached.
    pub(super) attached: Attached,
}

/// Every occupied slot.
///
/// # Errors
/// When the links cannot be listed.
pub(super) fn occupants() -> Result<Vec<(IfIndex, Occupant)>, Error> {
    let links = Requests::open().and_then(|mut requests| requests.dump(RTM_GETLINK, &[0; IFINFOMSG]));
    let links = links.map_err(|source| Error::Links { source })?;
    Ok(replies(&links)
        .filter(|reply| reply.kind == RTM_NEWLINK)
        .filter_map(|reply| occupant(reply.body))
        .collect())
}

/// Whether a link is one end of a veth pair.
///
/// # Errors
/// When the links cannot be listed.
pub(super) fn is_veth(link: IfIndex) -> Result<bool, Error> {
    is_of_kind(link, b"veth\0")
}

/// Whether a link is a bond.
///
/// # Errors
/// When the links cannot be listed.
pub(super) fn is_bond(link: IfIndex) -> Result<bool, Error> {
    is_of_kind(link, b"bond\0")
}

fn is_of_kind(link: IfIndex, wanted: &[u8]) -> Result<bool, Error> {
    let links = Requests::open().and_then(|mut requests| requests.dump(RTM_GETLINK, &[0; IFINFOMSG]));
    let links = links.map_err(|source| Error::Links { source })?;
    let mut these = replies(&links).filter(|reply| reply.kind == RTM_NEWLINK);
    Ok(these.any(|reply| u32_at(reply.body, 4) == Some(link.0) && kind(reply.body) == Some(wanted)))
}

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// Bytes in `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;

/// The driver's slot and the generic one exclude each other (`dev_xdp_attach`), so there is one
/// occupant. A program in the NIC's hardware is in nobody's way.
fn occupant(link: &[u8]) -> Option<(IfIndex, Occupant)> {
    let index = IfIndex(u32_at(link, 4)?);
    let (_, xdp) = attributes(link.get(IFINFOMSG..)?).find(|(kind, _)| *kind == IFLA_XDP)?;
    let slots = [(IFLA_XDP_DRV_PROG_ID, Attached::Native), (IFLA_XDP_SKB_PROG_ID, Attached::Generic)];
    let occupant = slots.into_iter().find_map(|(slot, attached)| {
        let (_, program) = attributes(xdp).find(|(kind, _)| *kind == slot)?;
        Some(Occupant { program: u32_at(program, 0)?, attached })
    })?;
    Some((index, occupant))
}

/// The kind of a virtual link, with the zero that ends it.
fn kind(link: &[u8]) -> Option<&[u8]> {
    let (_, info) = attributes(link.get(IFINFOMSG..)?).find(|(kind, _)| *kind == IFLA_LINKINFO)?;
    attributes(info).find(|(kind, _)| *kind == IFLA_INFO_KIND).map(|(_, kind)| kind)
}
