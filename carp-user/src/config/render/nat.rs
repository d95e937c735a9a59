//! `[[nat.…]]` as it is written.

use super::super::Node;
use super::super::nat::keys::{FORWARD, ONE_TO_ONE, OUTBOUND, PREFIX};
use super::super::nat::{Forward, Nat, OneToOne, Outbound, PrefixPair};
use super::{Form, Section, list, quoted, range, role};
use crate::proto::protocol;

pub(super) fn write(text: &mut String, form: Form, nat: &Nat, node: &Node) {
    let Nat { outbound, forwards, one_to_one, prefixes } = nat;
    for Outbound { device, sources, except, protocol, to, ports, static_port } in outbound {
        let mut section = Section::begin(text, form, "[[nat.outbound]]", OUTBOUND);
        section.put("source", list(sources));
        section.put("interface", quoted(role(device, node)));
        section.put("to", quoted(&to.to_string()));
        if !except.is_empty() {
            section.put("except", list(except));
        }
        if let Some(protocol) = protocol {
            section.put("protocol", quoted(&protocol::name(*protocol)));
        }
        if let Some(ports) = ports {
            section.put("ports", range(ports));
        }
        section.put("static_port", static_port);
    }
    // The device is that of the VIP.
    for Forward { device: _, to, protocol, ports, host, host_port, hairpin } in forwards {
        let mut section = Section::begin(text, form, "[[nat.forward]]", FORWARD);
        section.put("to", quoted(&to.to_string()));
        section.put("protocol", quoted(&protocol::name(*protocol)));
        section.put("port", range(ports));
        section.put("host", quoted(&host.to_string()));
        if let Some(port) = host_port {
            section.put("host_port", port);
        }
        section.put("hairpin", hairpin);
    }
    for OneToOne { device: _, vip, host } in one_to_one {
        let mut section = Section::begin(text, form, "[[nat.one_to_one]]", ONE_TO_ONE);
        section.put("vip", quoted(&vip.to_string()));
        section.put("host", quoted(&host.to_string()));
    }
    for PrefixPair { device, inside, outside } in prefixes {
        let mut section = Section::begin(text, form, "[[nat.prefix]]", PREFIX);
        section.put("interface", quoted(role(device, node)));
        section.put("inside", quoted(&inside.to_string()));
        section.put("outside", quoted(&outside.to_string()));
    }
}
