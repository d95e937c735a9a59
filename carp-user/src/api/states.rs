//! Single flows, as `carpctl states` and `carpctl sync diff` ask for them.

use crate::proto::flow::{Flow, Ids, Tuple};
use crate::proto::sync::session::Standing;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Most flows of one request: with IPv6 addresses they fill half of what a request may be.
pub const AT_ONCE: usize = 32;

/// A tracked flow, as far as it takes to find it and to say whether the peer is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowQuery {
    zone: u16,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    /// Two ports; type, code and identifier of an ICMP query; or nothing.
    ids: Vec<u16>,
    answers: IpAddr,
    mark: u32,
}

/// Who has a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Both nodes; this one changed it last.
    Local,
    /// Both nodes; the peer changed it last.
    Replicated,
    /// This node; the peer has not confirmed that it has it as it is here.
    Unconfirmed,
    /// This node's kernel, and carpd does not know it: it has just begun, or its event was lost.
    Unknown,
    /// This node, and the peer is not told of it.
    NotReplicated,
}

/// How it stands with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStanding {
    /// Who has it.
    pub place: Place,
    /// It is in a bucket that differed when the two tables were compared last: it, or another one there, is not the
    /// same on both nodes.
    pub differs: bool,
}

impl FlowQuery {
    /// To find this flow.
    pub fn of(flow: &Flow) -> Self {
        let Tuple { source, destination, protocol, ids } = flow.key.original;
        let ids = match ids {
            Ids::None => Vec::new(),
            Ids::Ports { source, destination } => vec![source, destination],
            Ids::Icmp { kind, code, id } => vec![kind.into(), code.into(), id],
        };
        let (zone, answers, mark) = (flow.key.zone, flow.reply.source, flow.mark);
        Self { zone, protocol, source, destination, ids, answers, mark }
    }

    /// As much of the flow as is known; none if it cannot be one.
    pub fn flow(&self) -> Option<Flow> {
        let ids = match self.ids[..] {
            [] => Ids::None,
            [source, destination] => Ids::Ports { source, destination },
            [kind, code, id] => Ids::Icmp { kind: kind.try_into().ok()?, code: code.try_into().ok()?, id },
            _ => return None,
        };
        let Self { zone, protocol, source, destination, answers, mark, .. } = *self;
        let mut flow = Flow::untranslated(Tuple { source, destination, protocol, ids })?;
        (flow.key.zone, flow.reply.source, flow.mark) = (zone, answers, mark);
        Some(flow)
    }
}

impl FlowStanding {
    /// Of what the session knows, and whether the peer is told of such a flow.
    pub fn of(standing: Standing, carried: bool) -> Self {
        let place = match standing.holding {
            None if carried => Place::Unknown,
            None => Place::NotReplicated,
            Some(holding) if !holding.confirmed => Place::Unconfirmed,
            Some(holding) if holding.local => Place::Local,
            Some(_) => Place::Replicated,
        };
        Self { place, differs: standing.differs }
    }

    /// Whether the two nodes may have it differently.
    pub const fn is_odd(self) -> bool {
        self.differs || matches!(self.place, Place::Unconfirmed | Place::Unknown)
    }
}

impl Place {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
            Self::Unconfirmed => "unconfirmed",
            Self::Unknown => "unknown",
            Self::NotReplicated => "not replicated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_found_by_its_query() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (protocol, ids) in [
            (6, Ids::Ports { source: 1, destination: 65_535 }),
            (1, Ids::Icmp { kind: 8, code: 0, id: 7 }),
            (99, Ids::None),
        ] {
            let (source, destination) = (address("10.0.0.2"), address("192.0.2.1"));
            let mut flow =
                Flow::untranslated(Tuple { source, destination, protocol, ids }).expect("it has an inverse");
            (flow.key.zone, flow.mark) = (3, 9);
            let query = FlowQuery::of(&flow);
            assert_eq!(query.flow(), Some(flow));
            let line = serde_json::to_string(&query).expect("JSON");
            assert_eq!(serde_json::from_str::<FlowQuery>(&line).expect("a query"), query);
        }
    }
}
