//! Connections in words.

use super::{Ids, Key, Tuple};
use crate::proto::protocol;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

impl Tuple {
    /// Whence and whither.
    pub fn ends(&self) -> [String; 2] {
        let Self { source, destination, ids, .. } = *self;
        let end = |address: IpAddr, port| SocketAddr::new(address, port).to_string();
        match ids {
            Ids::None => [source.to_string(), destination.to_string()],
            Ids::Ports { source: from, destination: to } => [end(source, from), end(destination, to)],
            Ids::Icmp { kind, id, .. } => [source.to_string(), format!("{destination} type {kind} id {id}")],
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = self.original.ends();
        write!(f, "{} {from} > {to}", protocol::name(self.original.protocol))?;
        if self.zone == 0 { Ok(()) } else { write!(f, " in zone {}", self.zone) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_named_by_its_protocol_its_ends_and_its_zone() {
        let (source, destination) = ([10, 0, 0, 2].into(), [192, 0, 2, 1].into());
        let of = |protocol, ids, zone| Key { zone, original: Tuple { source, destination, protocol, ids } };
        let ports = Ids::Ports { source: 1234, destination: 443 };
        assert_eq!(of(6, ports, 0).to_string(), "tcp 10.0.0.2:1234 > 192.0.2.1:443");
        let echo = Ids::Icmp { kind: 8, code: 0, id: 7 };
        assert_eq!(of(1, echo, 0).to_string(), "icmp 10.0.0.2 > 192.0.2.1 type 8 id 7");
        assert_eq!(of(89, Ids::None, 5).to_string(), "89 10.0.0.2 > 192.0.2.1 in zone 5");
    }
}
