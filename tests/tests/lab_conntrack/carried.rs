//! A flow of each kind: listed at one kernel, put into another one, listed there, and the same.

use crate::paths::{CLIENT, Paths, STRICT};
use crate::table::{assert_same, flows, flows_of, make, order, plain, ports};
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::kernel::has_udplite;
use carp_tests::lab::ping::ping;
use carp_tests::lab::talk::Talk;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::Order;
use carp_user::proto::flow::{Flow, Ids, ProtocolState, Sctp, SequenceShift, Tcp, status};
use carp_user::proto::protocol::{GRE, ICMP, ICMPV6, SCTP, UDPLITE};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const OSPF: u8 = 89;

#[test]
fn flows_that_packets_made_are_the_same_in_the_other_kernel() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, b] = &paths.gateways;
    // So that the tracker takes a packet of SCTP without its checksum.
    a.sysctl("netfilter/nf_conntrack_checksum", "0")?;
    let mut talks = Vec::new();
    for (own, target) in CLIENT.iter().zip(paths.server_addresses()) {
        let mut talk = Talk::start(&paths.client, &paths.server, target, 0)?;
        talk.exchange(1, PATIENCE)?;
        talks.push(talk);
        assert!(ping(&paths.client, target, Span::secs(5))?.is_some());
        let server = paths.server.enter(|| Ok(UdpSocket::bind(SocketAddr::new(target, 0))?))?;
        let client = paths.client.enter(|| Ok(UdpSocket::bind(SocketAddr::new(own.parse()?, 0))?))?;
        client.send_to(b"question", server.local_addr()?)?;
        let (_, outside) = server.recv_from(&mut [0; 9])?;
        server.send_to(b"answer", outside)?;
        client.recv_from(&mut [0; 9])?;
        for (protocol, packet) in [(GRE, &PLAIN_GRE[..]), (OSPF, b"anything"), (SCTP, &INIT)] {
            let domain = if target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let protocol = Some(Protocol::from(i32::from(protocol)));
            let socket = paths.client.enter(|| Ok(Socket::new(domain, Type::RAW, protocol)?))?;
            socket.send_to(packet, &SockAddr::from(SocketAddr::new(target, 0)))?;
        }
    }
    let there = flows(a)?;
    let kinds: BTreeSet<_> =
        there.iter().map(|flow| (flow.key.original.source.is_ipv4(), flow.key.original.protocol)).collect();
    let expected = [ICMP, 6, 17, GRE, OSPF, SCTP].map(|protocol| (true, protocol));
    let expected_v6 = [6, 17, GRE, ICMPV6, OSPF, SCTP].map(|protocol| (false, protocol));
    assert_eq!(kinds, expected.into_iter().chain(expected_v6).collect());
    for flow in &there {
        assert!(flow.source_translation().is_some() && flow.status & status::SOURCE_NAT != 0, "{flow:?}");
        assert_eq!(flow.mark, 0x55);
        let has_labels = matches!(flow.key.original.protocol, 6 | 17);
        assert_eq!(flow.labels.is_some(), has_labels, "{flow:?}");
    }
    make(b, &there)?;
    assert_same(&there, &flows(b)?);
    // Once more it is a change of each, and leaves them as they are.
    make(b, &there)?;
    let orders: Vec<Order<'_>> = there.iter().map(Order::Change).collect();
    assert_eq!(order(b, &orders)?, []);
    assert_same(&there, &flows(b)?);
    let orders: Vec<Order<'_>> = there.iter().map(Order::Replace).collect();
    assert_eq!(order(b, &orders)?, []);
    assert_same(&there, &flows(b)?);
    Ok(())
}

#[test]
fn whatever_a_kernel_can_hold_comes_back_as_it_was_ordered() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    for host in [&a, &b] {
        host.load_rules(LABELS)?;
    }
    let mut ordered = catalogue();
    ordered.sort_by_key(|flow| flow.key);
    make(&a, &ordered)?;
    let there = flows(&a)?;
    assert_same(&ordered, &there);
    make(&b, &there)?;
    assert_same(&there, &flows(&b)?);
    let zone: Vec<Flow> =
        there.into_iter().filter(|flow| flow.key.zone == 9 || flow.reply_zone == 9).collect();
    assert_eq!(zone.len(), 6);
    assert_same(&zone, &flows_of(&b, Some(9))?);
    let orders: Vec<Order<'_>> = ordered.iter().map(|flow| Order::Delete(&flow.key)).collect();
    assert_eq!(order(&b, &orders)?, []);
    assert_eq!(flows(&b)?, []);
    Ok(())
}

#[test]
fn labels_are_lost_where_no_rule_uses_them_and_a_change_says_so() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    let mut flow = plain("10.0.0.1", "10.0.0.2", 17, ports(1, 2));
    flow.labels = Some([1; _]);
    make(&host, &[flow])?;
    assert_eq!(flows(&host)?[0].labels, None);
    let refused = order(&host, &[Order::Change(&flow)])?;
    assert_eq!(refused, [(0, carp_user::io::conntrack::Refusal::Kernel(rustix::io::Errno::NOSPC))]);
    Ok(())
}

/// Flows of every kind, in pairs of families where there is a difference.
pub fn catalogue() -> Vec<Flow> {
    let mut flows = Vec::new();
    for [client, server, outside, inside] in
        [["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"], ["fd00::1", "fd00::2", "fd00::3", "fd00::4"]]
    {
        let outside: IpAddr = outside.parse().unwrap();
        let inside: IpAddr = inside.parse().unwrap();
        let icmp = |kind, id| Ids::Icmp { kind, code: 0, id };
        let (protocol, echo, answer) = if outside.is_ipv4() { (ICMP, 8, 0) } else { (ICMPV6, 128, 129) };
        flows.extend((0..12).map(|state| tcp(client, server, state)));
        for protocol in [17, GRE] {
            flows.push(plain(client, server, protocol, ports(5, 6)));
        }
        flows.push(plain(client, server, UDPLITE, if has_udplite() { ports(5, 6) } else { Ids::None }));
        flows.push(plain(client, server, OSPF, Ids::None));
        flows.push(plain(client, server, protocol, icmp(echo, 1)));
        flows.extend((0..8).map(|state| sctp(client, server, state)));
        // Translated: the source, the destination, both, and each by address, by port, or by both.
        for case in 0..16u16 {
            let is_so = |bit: u16| case & bit != 0;
            let mut flow = plain(client, server, 17, ports(100 + case, 80));
            if is_so(1) {
                flow.reply.destination = outside;
            }
            if is_so(2) {
                flow.reply.source = inside;
            }
            let to = if is_so(4) { 20_000 + case } else { 100 + case };
            flow.reply.ids = ports(if is_so(8) { 8080 } else { 80 }, to);
            flows.push(translated(flow));
        }
        let mut query = plain(client, server, protocol, icmp(echo, 20));
        (query.reply.ids, query.reply.destination) = (icmp(answer, 21), outside);
        flows.push(translated(query));
        let mut query = plain(client, server, protocol, icmp(echo, 30));
        query.reply.source = inside;
        flows.push(translated(query));
        // Zones: of both directions, of one, of the other.
        for (number, zones) in (1..).zip([(9, 9), (9, 0), (0, 9)]) {
            let mut flow = plain(client, server, 17, ports(40 + number, 50));
            (flow.key.zone, flow.reply_zone) = zones;
            flows.push(flow);
        }
        let mut shifted = tcp(client, server, 3);
        shifted.key.original.ids = ports(700, 21);
        shifted.reply = shifted.key.original.inverse().unwrap();
        let shift = |position, after| Some(SequenceShift { position, before: -3, after });
        shifted.sequence = [shift(u32::MAX, 4), shift(7, i32::MIN)];
        shifted.status |= status::SHIFTED | status::FIXED_TIMEOUT;
        (shifted.labels, shifted.mark) = (Some([0xa5; _]), u32::MAX);
        flows.push(shifted);
    }
    flows.extend(
        [13, 15, 17].map(|kind| plain("10.0.0.1", "10.0.0.2", ICMP, Ids::Icmp { kind, code: 0, id: 9 })),
    );
    flows
}

/// With the bits that the kernel sets for what the directions say.
fn translated(mut flow: Flow) -> Flow {
    flow.status |= if flow.source_translation().is_some() { status::SOURCE_NAT } else { 0 };
    flow.status |= if flow.destination_translation().is_some() { status::DESTINATION_NAT } else { 0 };
    flow
}

fn tcp(client: &str, server: &str, state: u8) -> Flow {
    let mut flow = plain(client, server, 6, ports(1000 + u16::from(state), 80));
    // No kernel has more states than ten.
    let state = state.min(9);
    flow.state = ProtocolState::Tcp(Tcp { state, scale: [7, 14], flags: [3, 7] });
    flow.status |= if state >= 3 { status::SEEN_REPLY | status::ASSURED } else { 0 };
    flow
}

fn sctp(client: &str, server: &str, state: u8) -> Flow {
    let mut flow = plain(client, server, SCTP, ports(2000 + u16::from(state), 80));
    flow.state = ProtocolState::Sctp(Sctp { state, tags: [u32::MAX, 5] });
    flow
}

/// GRE of version 0 that carries IPv4.
const PLAIN_GRE: [u8; 24] = [0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// From port 9 to port 10: an INIT with tag 1.
const INIT: [u8; 32] =
    [0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
/// A rule that uses labels makes room for them.
const LABELS: &str = "table inet t { chain c { ct label set 1; }; }";
