//! `carpctl states`: the connections that this node's kernel tracks, and who has each.

use super::instance;
use super::table::columns;
use crate::api::{AT_ONCE, FlowQuery, FlowStanding, Place, Request, Response};
use crate::io::conntrack::Dump;
use crate::proto::flow::{Flow, Ids, ProtocolState, Tuple};
use crate::proto::protocol::{self, PROTOCOLS};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::process::ExitCode;

/// The connections that this node's kernel tracks, and who has each.
///
/// `local`: both nodes, this one changed it last. `replicated`: both, the peer changed it last. `unconfirmed`: the peer has
/// not confirmed that it has it so. `unknown`: carpd has not heard of it. `not replicated`: the peer is not told of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Only root may read the kernel's table.\n\nExamples:\n  carpctl states count\n  \
                        carpctl states list --address 10.0.0.9\n  \
                        carpctl states list --json | jq -r 'select(.place == \"unknown\").original.source'")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// One line for each.
    List {
        #[command(flatten)]
        selection: Selection,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// How many there are, by protocol and by who has them.
    Count {
        #[command(flatten)]
        selection: Selection,
        /// Print JSON: by protocol, then by place.
        #[arg(long)]
        json: bool,
    },
}

/// Which connections.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Only with this address at either end, translated or not.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Only of this protocol: tcp, udp, icmp, ..., or its number.
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Only those that the peer may not have, or not so.
    #[arg(skip)]
    odd: bool,
}

impl Selection {
    /// What the two nodes may have differently.
    pub fn odd() -> Self {
        Self { odd: true, ..Self::default() }
    }

    fn takes(&self, flow: &Flow) -> bool {
        let ends = [&flow.key.original, &flow.reply].map(|tuple| [tuple.source, tuple.destination]);
        self.address.is_none_or(|address| ends.as_flattened().contains(&address))
            && self.protocol.is_none_or(|protocol| flow.key.original.protocol == protocol)
    }
}

/// Does what the command line says.
///
/// # Errors
/// Whoever is not root; a daemon that does not answer, or replicates nothing.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    match &args.verb {
        Verb::List { selection, json } => list(selection, *json, name).map(|_count| ExitCode::SUCCESS),
        Verb::Count { selection, json } => count(selection, *json, name).map(|()| ExitCode::SUCCESS),
    }
}

/// Prints them; how many there are.
pub(super) fn list(selection: &Selection, json: bool, name: Option<&str>) -> Result<u64> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0;
    let walked = walk(selection, name, |flow, standing| {
        count += 1;
        if json {
            writeln!(out, "{}", object(flow, standing))
        } else {
            writeln!(out, "{}", line(flow, standing))
        }
    });
    match walked.and_then(|()| out.flush().map_err(Into::into)) {
        // Nobody reads on.
        Err(error) if is_broken_pipe(&error) => Ok(count),
        other => other.map(|()| count),
    }
}

fn count(selection: &Selection, json: bool, name: Option<&str>) -> Result<()> {
    const PLACES: [Place; 5] =
        [Place::Local, Place::Replicated, Place::Unconfirmed, Place::Unknown, Place::NotReplicated];
    let mut counts: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    walk(selection, name, |flow, standing| {
        let of_protocol = counts.entry(protocol::name(flow.key.original.protocol)).or_default();
        *of_protocol.entry(standing.place.name()).or_default() += 1;
        Ok(())
    })?;
    if json {
        super::print(&(serde_json::to_string_pretty(&counts)? + "\n"));
        return Ok(());
    }
    let head = ["PROTOCOL", "LOCAL", "REPLICATED", "UNCONFIRMED", "UNKNOWN", "NOT REPLICATED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(counts.iter().map(|(protocol, places)| {
        let cell = |place: Place| places.get(place.name()).copied().unwrap_or(0).to_string();
        std::iter::once(protocol.clone()).chain(PLACES.map(cell)).collect()
    }));
    super::print(&columns(&rows));
    Ok(())
}

/// Reads the kernel's table and asks carpd about what is selected, a handful at a time.
fn walk(
    selection: &Selection,
    name: Option<&str>,
    mut take: impl FnMut(&Flow, FlowStanding) -> io::Result<()>,
) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may read the kernel's table of connections: run it with sudo");
    }
    let name = instance::resolve(name)?;
    let mut dump = Dump::start(None).context("reading the kernel's table of connections")?;
    let mut part = Vec::new();
    while dump.part(&mut part).context("reading the kernel's table of connections")? {
        part.retain(|flow| selection.takes(flow));
        for flows in part.chunks(AT_ONCE) {
            for (flow, standing) in flows.iter().zip(ask(&name, flows)?) {
                if !selection.odd || standing.is_odd() {
                    take(flow, standing)?;
                }
            }
        }
    }
    Ok(())
}

fn ask(name: &str, flows: &[Flow]) -> Result<Vec<FlowStanding>> {
    let request = Request::Flows { flows: flows.iter().map(FlowQuery::of).collect() };
    let Response::Flows { standings } = instance::ask(Some(name), &request)? else {
        return Err(instance::something_else());
    };
    if standings.len() == flows.len() { Ok(standings) } else { Err(instance::something_else()) }
}

fn line(flow: &Flow, standing: FlowStanding) -> String {
    let [from, to] = flow.key.original.ends();
    let mut text = format!("{:<5} {from} > {to}", protocol::name(flow.key.original.protocol));
    let translations = [("from", flow.source_translation()), ("to", flow.destination_translation())];
    for (word, (address, ids)) in translations.iter().filter_map(|(word, to)| Some((word, (*to)?))) {
        // Of the reply: it goes to the translated source, and comes from the translated destination.
        let port = if *word == "from" { ids.destination() } else { ids.source() };
        text += &format!(", {word} {}", end(address, port));
    }
    if let Some(state) = state(flow) {
        text += &format!(", {state}");
    }
    text += &format!(", {} s: {}", flow.timeout, standing.place.name());
    if standing.differs {
        text += ", differs";
    }
    text
}

fn object(flow: &Flow, standing: FlowStanding) -> serde_json::Value {
    let tuple = |tuple: &Tuple| {
        let (source, destination) = (tuple.source, tuple.destination);
        match tuple.ids {
            Ids::None => json!({ "source": source, "destination": destination }),
            Ids::Ports { source: from, destination: to } => json!({
                "source": source, "destination": destination, "source_port": from, "destination_port": to,
            }),
            Ids::Icmp { kind, code, id } => json!({
                "source": source, "destination": destination, "type": kind, "code": code, "id": id,
            }),
        }
    };
    json!({
        "protocol": protocol::name(flow.key.original.protocol),
        "zone": flow.key.zone,
        "original": tuple(&flow.key.original),
        "reply": tuple(&flow.reply),
        "state": state(flow),
        "timeout_s": flow.timeout,
        "mark": flow.mark,
        "place": standing.place,
        "differs": standing.differs,
    })
}

fn protocol(text: &str) -> Result<u8, String> {
    protocol::number(text).ok_or_else(|| {
        let names = PROTOCOLS.map(|(name, _)| name).join(", ");
        format!("give a number below 256, or one of {names}")
    })
}

fn end(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Of TCP, by the names of `enum tcp_conntrack` in `linux/netfilter/nf_conntrack_tcp.h`.
fn state(flow: &Flow) -> Option<&'static str> {
    const TCP: [&str; 10] = [
        "NONE",
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE",
        "SYN_SENT2",
    ];
    match flow.state {
        ProtocolState::Tcp(tcp) => TCP.get(usize::from(tcp.state)).copied(),
        ProtocolState::None | ProtocolState::Sctp(_) => None,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flow::Tcp;

    #[test]
    fn a_line_says_who_speaks_with_whom_by_which_translation_and_who_has_it() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let ids = Ids::Ports { source: 1234, destination: 443 };
        let (source, destination) = (address("10.0.0.2"), address("192.0.2.1"));
        let mut flow =
            Flow::untranslated(Tuple { source, destination, protocol: 6, ids }).expect("ports are answered");
        flow.state = ProtocolState::Tcp(Tcp { state: 3, ..Tcp::default() });
        let standing = FlowStanding { place: Place::Local, differs: false };
        assert_eq!(line(&flow, standing), "tcp   10.0.0.2:1234 > 192.0.2.1:443, ESTABLISHED, 30 s: local");
        flow.reply.destination = address("198.51.100.1");
        flow.reply.ids = Ids::Ports { source: 8443, destination: 1025 };
        let standing = FlowStanding { place: Place::Unknown, differs: true };
        assert_eq!(
            line(&flow, standing),
            "tcp   10.0.0.2:1234 > 192.0.2.1:443, from 198.51.100.1:1025, to 192.0.2.1:8443, ESTABLISHED, \
             30 s: unknown, differs"
        );
        assert_eq!(object(&flow, standing)["reply"]["destination_port"], 1025);
    }
}
