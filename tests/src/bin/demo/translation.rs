//! What the gateways' `carp.toml` says of NAT, the firewall of somebody else that stands beside it, and what shows that
//! the traffic goes through both.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::stream::{Load, Stream};
use serde_json::Value;
use std::net::{TcpListener, TcpStream};

/// The LAN leaves as the VIP of the WAN, and a port of that VIP is one of the client.
pub const NAT: &str = r#"
[[nat.outbound]]
source = ["10.77.1.0/24"]
interface = "wan"
to = "10.77.2.1"

[[nat.forward]]
to = "10.77.2.1"
port = 8080
host = "10.77.1.10"
host_port = 80
"#;

/// Lets through what the LAN began and what was forwarded. A packet that fits no connection, or not into its window, ends
/// here: so nothing goes on over the other gateway that was not told of it.
pub const FIREWALL: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 tcp flags & (syn|ack) == syn ct state new counter accept
        iifname lan0 ip protocol != tcp ct state new counter accept
        ct status dnat tcp flags & (syn|ack) == syn ct state new counter accept
    }
}
";

/// What somebody outside connects to, and where that is.
pub const OUTSIDE: &str = "10.77.2.1:8080";
/// As [`NAT`] has it, and what it is changed to.
pub const PORTS: [&str; 2] = ["port = 8080", "port = 8081"];
/// What somebody outside connects to then.
pub const OUTSIDE_THEN: &str = "10.77.2.1:8081";
const INSIDE: &str = "10.77.1.10:80";
/// Often enough to be under way at every move, and little.
const LOAD: Load = Load { block: 512, pause: Span::millis(10) };
/// Longest that making the connection may take.
const PATIENCE: Span = Span::secs(10);

/// Whether somebody else outside reaches the client, which listens as long as it has a visit, at this address and port.
///
/// # Errors
/// When it is no address and port.
pub fn is_forwarded(pair: &Pair, outside: &str) -> Result<bool> {
    let outside = outside.parse().context("the forwarded port")?;
    pair.server.enter(|| Ok(TcpStream::connect_timeout(&outside, PATIENCE.std()).is_ok()))
}

/// Somebody outside who talks to the client through the forwarded port.
///
/// # Errors
/// When the connection cannot be made.
pub fn visit(pair: &Pair) -> Result<Stream> {
    let listener = pair.client.enter(|| TcpListener::bind(INSIDE).context("listening on the client"))?;
    let outside = OUTSIDE.parse().context("the forwarded port")?;
    let connect =
        || TcpStream::connect_timeout(&outside, PATIENCE.std()).context("connecting to the forwarded port");
    Stream::between(pair.server.enter(connect)?, listener, LOAD)
}

/// What the gateway's rules have translated so far, in one line.
///
/// # Errors
/// When one of them was not used: then the traffic went another way.
pub fn told(gateway: &Carpd) -> Result<String> {
    let output = gateway.carpctl(&["nat", "--json"])?;
    ensure!(output.status.success(), "carpctl nat: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).context("carpctl nat --json is no JSON")?;
    let used = |rule: &str| {
        let rules = report["rules"].as_array().into_iter().flatten();
        let counts = rules.filter(|counted| counted["rule"] == rule);
        counts.filter_map(|counted| counted["packets"].as_u64()).sum::<u64>()
    };
    let (out, forwarded) = (used("outbound 1"), used("forward 1"));
    ensure!(out > 0 && forwarded > 0, "not translated by the rules of carp.toml: {report}");
    Ok(format!(
        "NAT as carp.toml says: the LAN leaves as 10.77.2.1 (connections so far: {out}), {OUTSIDE} is {INSIDE} ({forwarded})"
    ))
}
