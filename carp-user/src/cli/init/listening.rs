//! Who speaks CARP or VRRP on a segment already.

use crate::io::advert::Receiver;
use crate::io::group::Membership;
use crate::io::link::Links;
use anyhow::Result;
use carp_common::id::IfIndex;
use carp_common::time::Span;
use carp_common::wire::sighting::peek_vhid;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The numbers that others use.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// On any of the segments: two of them may be one switch.
    pub(super) numbers: BTreeSet<u8>,
    /// For how long was listened.
    pub(super) span: Option<Span>,
}

/// Listens on these interfaces. Where a carpd runs already, its datapath hears what is meant for its own numbers, so
/// these are not heard here.
///
/// # Errors
/// Without the right to, and what else the kernel says.
pub(super) async fn listen(devices: &[String], span: Span) -> Result<Heard> {
    let links = Links::open(devices, BTreeSet::new())?;
    let indices: Vec<IfIndex> = links.snapshot().map(|(link, _)| link).collect();
    // Switches that snoop send adverts only to those that have asked for them.
    let groups = |link: &IfIndex| {
        let name = links.name(*link).unwrap_or_default();
        let families: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let allowed = families.into_iter().filter(|family| links.admits(*link, *family).is_ok());
        Membership::join(*link, name, &allowed.collect::<Vec<_>>())
    };
    let _memberships: Vec<Membership> = indices.iter().map(groups).collect::<Result<_, _>>()?;
    let mut receiver = Receiver::open(&indices)?;
    let mut numbers = BTreeSet::new();
    let listening = async {
        loop {
            let received = receiver.received().await?;
            numbers.extend(peek_vhid(received.frame).map(|vhid| vhid.get()));
        }
    };
    match tokio::time::timeout(span.std(), listening).await {
        Err(_over) => Ok(Heard { numbers, span: Some(span) }),
        Ok(failed) => failed,
    }
}
