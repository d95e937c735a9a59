//! How long a flow lives without a packet: what the kernel gives each protocol in each state.

use super::settings::FOLDER;
use crate::proto::flow::{Flow, ProtocolState, status};
use crate::proto::protocol::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Settings of the calling thread's network namespace, `net.netfilter.nf_conntrack_*_timeout*`, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts(BTreeMap<&'static str, u32>);

/// By name, what the kernel has by default: one that this kernel lacks has that.
const DEFAULTS: [(&str, u32); 27] = [
    ("generic_timeout", 600),
    ("icmp_timeout", 30),
    ("icmpv6_timeout", 30),
    ("udp_timeout", 30),
    ("udp_timeout_stream", 120),
    ("gre_timeout", 30),
    ("gre_timeout_stream", 180),
    ("dccp_timeout_open", 43_200),
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_syn_recv", 60),
    ("tcp_timeout_established", 432_000),
    ("tcp_timeout_fin_wait", 120),
    ("tcp_timeout_close_wait", 60),
    ("tcp_timeout_last_ack", 30),
    ("tcp_timeout_time_wait", 120),
    ("tcp_timeout_close", 10),
    ("tcp_timeout_unacknowledged", 300),
    ("tcp_timeout_max_retrans", 300),
    ("sctp_timeout_closed", 10),
    ("sctp_timeout_cookie_wait", 3),
    ("sctp_timeout_cookie_echoed", 3),
    ("sctp_timeout_established", 210),
    ("sctp_timeout_shutdown_sent", 3),
    ("sctp_timeout_shutdown_recd", 3),
    ("sctp_timeout_shutdown_ack_sent", 3),
    ("sctp_timeout_heartbeat_sent", 30),
    ("dccp_timeout_request", 240),
];

/// By `TCP_CONNTRACK_*`, from 1.
const TCP_STATES: [&str; 9] = [
    "tcp_timeout_syn_sent",
    "tcp_timeout_syn_recv",
    "tcp_timeout_established",
    "tcp_timeout_fin_wait",
    "tcp_timeout_close_wait",
    "tcp_timeout_last_ack",
    "tcp_timeout_time_wait",
    "tcp_timeout_close",
    "tcp_timeout_syn_sent",
];
/// By `SCTP_CONNTRACK_*`, from 1.
const SCTP_STATES: [&str; 8] = [
    "sctp_timeout_closed",
    "sctp_timeout_cookie_wait",
    "sctp_timeout_cookie_echoed",
    "sctp_timeout_established",
    "sctp_timeout_shutdown_sent",
    "sctp_timeout_shutdown_recd",
    "sctp_timeout_shutdown_ack_sent",
    "sctp_timeout_heartbeat_sent",
];

impl Timeouts {
    /// The present ones.
    pub fn read() -> Self {
        let value = |name: &str| {
            let text = fs::read_to_string(Path::new(FOLDER).join(format!("nf_conntrack_{name}"))).ok()?;
            text.trim().parse().ok()
        };
        Self(DEFAULTS.iter().map(|(name, default)| (*name, value(name).unwrap_or(*default))).collect())
    }

    /// What the kernel would give this flow with its next packet.
    pub fn of(&self, flow: &Flow) -> u32 {
        let is_assured = flow.status & status::ASSURED != 0;
        let stream = |first, stream| if is_assured { stream } else { first };
        let name = match (flow.state, flow.key.original.protocol) {
            (ProtocolState::Tcp(tcp), _) => state(&TCP_STATES, tcp.state, "tcp_timeout_established"),
            (ProtocolState::Sctp(sctp), _) => state(&SCTP_STATES, sctp.state, "sctp_timeout_established"),
            (ProtocolState::None, TCP) => "tcp_timeout_established",
            (ProtocolState::None, SCTP) => "sctp_timeout_established",
            (ProtocolState::None, UDP | UDPLITE) => stream("udp_timeout", "udp_timeout_stream"),
            (ProtocolState::None, GRE) => stream("gre_timeout", "gre_timeout_stream"),
            (ProtocolState::None, DCCP) => "dccp_timeout_open",
            (ProtocolState::None, ICMP) => "icmp_timeout",
            (ProtocolState::None, ICMPV6) => "icmpv6_timeout",
            (ProtocolState::None, _) => "generic_timeout",
        };
        self.0.get(name).copied().unwrap_or(600)
    }
}

fn state(names: &[&'static str], state: u8, unknown: &'static str) -> &'static str {
    usize::from(state).checked_sub(1).and_then(|place| names.get(place)).copied().unwrap_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_timeout_that_is_listed() {
        let known = |name: &&str| DEFAULTS.iter().any(|(listed, _)| listed == name);
        assert!(TCP_STATES.iter().chain(&SCTP_STATES).all(known));
        assert_eq!(state(&TCP_STATES, 3, "?"), "tcp_timeout_established");
        assert_eq!((state(&TCP_STATES, 0, "?"), state(&TCP_STATES, 99, "?")), ("?", "?"));
    }
}
