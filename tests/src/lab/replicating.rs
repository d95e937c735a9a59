//! Two gateways that tell each other of the connections through them, behind a firewall that knows no others, and what
//! shows that they do.

use super::Purpose;
use super::carpd::Carpd;
use super::clock;
use super::config::Config;
use super::duo::{Duo, PATIENCE};
use super::flows;
use super::namespace::Namespace;
use super::pair::Pair;
use super::stream::{self, Load, Stream};
use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_user::proto::flow::{Ids, Key, Tuple};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The server's address, and that of every connection here.
pub const SERVER: &str = "10.77.2.10";

/// Source translation to the WAN's virtual address, and a firewall that lets in only what the LAN began. A packet that
/// fits no connection, or not into its window, ends here.
pub const STRICT: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 tcp flags & (syn|ack) == syn ct state new counter accept
        iifname lan0 ip protocol != tcp ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 counter snat to 10.77.2.1
    }
}
";

/// Loads rules on both gateways, which then track no connection from its middle.
///
/// # Errors
/// When nft or the kernel refuses.
pub fn fortify(pair: &Pair, rules: &str) -> Result<()> {
    pair.gateways.iter().try_for_each(|gateway| {
        // The settings are there as soon as a rule has loaded the module.
        gateway.load_rules(rules)?;
        gateway.sysctl("netfilter/nf_conntrack_tcp_loose", "0")
    })
}

/// Two gateways that replicate, elected, behind [`STRICT`].
///
/// # Errors
/// As [`Duo::elected`].
pub fn replicating() -> Result<Duo> {
    let pair = Pair::new(Purpose::Test)?;
    fortify(&pair, STRICT)?;
    Duo::elected_in(pair, &Config::gateway().with_sync())
}

/// So many connections from the client to the server, all of which speak.
///
/// # Errors
/// When one cannot be made, or is silent.
pub fn streams(pair: &Pair, count: usize, load: Load) -> Result<Vec<Stream>> {
    let start = |_| Stream::start_with(&pair.client, &pair.server, SERVER.parse()?, load);
    let streams = (0..count).map(start).collect::<Result<Vec<_>>>()?;
    stream::all_talk(&streams, 1)?;
    Ok(streams)
}

/// Waits until both say that they are in step and have compared, and both kernels have the same connections.
///
/// # Errors
/// When it does not come to that, with what differs.
pub fn in_step(duo: &Duo) -> Result<()> {
    in_step_within(duo, PATIENCE.times(3))
}

/// The same, with less patience.
///
/// # Errors
/// As [`in_step`].
pub fn in_step_within(duo: &Duo, patience: Span) -> Result<()> {
    clock::wait_for("both to be in step", patience, || {
        let so_they_say = [&duo.gw1, &duo.gw2].into_iter().all(is_in_step);
        (so_they_say && same_tables(&duo.pair).ok()?).then_some(())
    })
    .with_context(|| {
        format!("gw1: {:?}; gw2: {:?}; {}", sync(&duo.gw1), sync(&duo.gw2), differences(&duo.pair))
    })
}

/// Whether a daemon says that it is, and has compared.
pub fn is_in_step(carpd: &Carpd) -> bool {
    sync(carpd).is_ok_and(|sync| sync["state"] == "in-step" && sync["differing"] == 0)
}

/// Whether both kernels know the same connections, and any.
///
/// # Errors
/// When a kernel does not say.
pub fn same_tables(pair: &Pair) -> Result<bool> {
    let [one, two] = &pair.gateways;
    let (here, there) = (known(one)?, known(two)?);
    Ok(!here.is_empty() && here == there)
}

/// What a daemon says of replication.
///
/// # Errors
/// As [`Carpd::status`].
pub fn sync(carpd: &Carpd) -> Result<Value> {
    Ok(carpd.status()?["sync"].clone())
}

/// Waits until replication is in this state by a daemon's own account.
///
/// # Errors
/// When it does not come to that.
pub fn wait_for_state(carpd: &Carpd, wanted: &str) -> Result<()> {
    let is_so = || (sync(carpd).ok()?["state"] == wanted).then_some(());
    clock::wait_for(&format!("sync to be {wanted}"), PATIENCE.times(2), is_so)
}

/// The connections to the server that a kernel knows, in both directions.
///
/// # Errors
/// When it does not say.
pub fn known(gateway: &Namespace) -> Result<BTreeSet<(Key, Tuple)>> {
    let server: IpAddr = SERVER.parse()?;
    let flows = flows::all(gateway)?.into_iter().filter(|flow| flow.key.original.destination == server);
    Ok(flows.map(|flow| (flow.key, flow.reply)).collect())
}

/// Whether a kernel has a connection to the server whose source is translated to this port, or whose query has this
/// identifier outside.
///
/// # Errors
/// When it does not say.
pub fn knows(gateway: &Namespace, outside: u16) -> Result<bool> {
    Ok(known(gateway)?.iter().any(|(_, reply)| match reply.ids {
        Ids::Ports { destination, .. } => destination == outside,
        Ids::Icmp { id, .. } => id == outside,
        Ids::None => false,
    }))
}

fn differences(pair: &Pair) -> String {
    let [one, two] = &pair.gateways;
    match (known(one), known(two)) {
        (Ok(here), Ok(there)) => format!(
            "{} connections at gw1, {} at gw2; of one alone: {:?}",
            here.len(),
            there.len(),
            here.symmetric_difference(&there).take(5).collect::<Vec<_>>()
        ),
        (Err(error), _) | (_, Err(error)) => format!("{error:#}"),
    }
}
