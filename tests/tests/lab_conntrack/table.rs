//! What stands in a gateway's table, and putting things there.

use anyhow::Result;
use carp_tests::lab::flows::all_of;
use carp_tests::lab::namespace::Namespace;
use carp_user::io::conntrack::{Injector, Order, Refusal, probe, switch_events_on};
use carp_user::proto::flow::{Flow, Ids, Tuple};
use std::net::IpAddr;

/// Seconds that a dump may be later than the entry.
const SLACK: u32 = 3;

/// All flows of a host, sorted.
pub fn flows(host: &Namespace) -> Result<Vec<Flow>> {
    flows_of(host, None)
}

/// Those of a zone.
pub fn flows_of(host: &Namespace, zone: Option<u16>) -> Result<Vec<Flow>> {
    let mut all = all_of(host, zone)?;
    all.sort_by_key(|flow| flow.key);
    Ok(all)
}

/// The only flow of a protocol from an address.
pub fn flow_of(host: &Namespace, protocol: u8, source: &str) -> Result<Flow> {
    let source: IpAddr = source.parse()?;
    let mut all = flows(host)?;
    all.retain(|Flow { key, .. }| key.original.protocol == protocol && key.original.source == source);
    assert_eq!(all.len(), 1, "{all:?}");
    Ok(all[0])
}

/// Has a host's kernel tell of every flow that begins from now on.
pub fn tell_all(host: &Namespace) -> Result<()> {
    host.enter(|| {
        // It loads the kernel's module, with which the setting comes.
        probe()?;
        switch_events_on()?;
        Ok(())
    })
}

/// Carries the orders out there, and gives what was refused.
pub fn order(host: &Namespace, orders: &[Order<'_>]) -> Result<Vec<(usize, Refusal)>> {
    host.enter(|| {
        let mut refused = Vec::new();
        Injector::open(true)?.carry_out(orders, &mut |index, why| refused.push((index, why)))?;
        Ok(refused)
    })
}

/// Makes all of these flows there; none may be refused.
pub fn make(host: &Namespace, flows: &[Flow]) -> Result<()> {
    let orders: Vec<Order<'_>> = flows.iter().map(Order::Make).collect();
    let refused = order(host, &orders)?;
    let refused: Vec<_> = refused.iter().map(|(index, why)| (why, flows[*index])).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    Ok(())
}

/// Fails unless these are the same flows: all that one kernel can tell another, and lifetimes up to a moment.
pub fn assert_same(there: &[Flow], here: &[Flow]) {
    assert_eq!(there.len(), here.len(), "{there:#?}\n{here:#?}");
    for (there, here) in there.iter().zip(here) {
        let mut settled = here.carried();
        if there.timeout.abs_diff(here.timeout) <= SLACK {
            settled.timeout = there.timeout;
        }
        assert_eq!(there.carried(), settled);
    }
}

/// A flow as its first packet makes it, untranslated.
pub fn plain(source: &str, destination: &str, protocol: u8, ids: Ids) -> Flow {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let original = Tuple { source, destination, protocol, ids };
    Flow { timeout: 300, ..Flow::untranslated(original).unwrap() }
}

pub fn ports(source: u16, destination: u16) -> Ids {
    Ids::Ports { source, destination }
}
