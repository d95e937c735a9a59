//! What it is for: connections go on over a gateway that has never seen them, and over one that has seen them long ago.

use crate::paths::{CLIENT, OUTSIDE, Paths, SERVER, STRICT, invalid};
use crate::table::{assert_same, flow_of, flows, make, order, plain, ports};
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::talk::Talk;
use carp_user::io::conntrack::Order;
use carp_user::proto::flow::{Flow, ProtocolState, status, tcp_flag};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
/// Several retransmissions.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until nobody can be said to answer.
const BRIEFLY: Duration = Duration::from_secs(2);
const MEGABYTE: usize = 1_000_000;

#[test]
fn tcp_goes_on_over_the_other_gateway_and_back_through_translation_under_strict_rules() -> Result<()> {
    for family in [0, 1] {
        let paths = Paths::new(STRICT)?;
        let [a, b] = &paths.gateways;
        let mut talk = Talk::start(&paths.client, &paths.server, paths.server_addresses()[family], 0)?;
        talk.exchange(MEGABYTE, PATIENCE)?;
        let outside: IpAddr = OUTSIDE[family].parse()?;
        assert_eq!(talk.server.peer_addr()?.ip(), outside, "it is translated");

        make(b, &[flow_of(a, TCP, CLIENT[family])?])?;
        paths.lead_over(1)?;
        talk.exchange(20 * MEGABYTE, PATIENCE)?;
        assert_eq!(invalid(b)?, 0);

        // The entry at a is the one of long ago.
        let moved_on = flow_of(b, TCP, CLIENT[family])?;
        assert_eq!(order(a, &[Order::Change(&moved_on)])?, []);
        paths.lead_over(0)?;
        talk.exchange(20 * MEGABYTE, PATIENCE)?;
        assert_eq!(invalid(a)?, 0);
        // To the very end: also the reset of one side has to get through.
        socket2::SockRef::from(&talk.client).set_linger(Some(Duration::ZERO))?;
        drop(talk.client);
        talk.server.set_read_timeout(Some(PATIENCE))?;
        let end = talk.server.read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
    Ok(())
}

#[test]
fn tcp_returns_to_a_gateway_whose_entry_was_replaced() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, b] = &paths.gateways;
    let mut talk = Talk::start(&paths.client, &paths.server, paths.server_addresses()[0], 0)?;
    talk.exchange(MEGABYTE, PATIENCE)?;
    make(b, &[flow_of(a, TCP, CLIENT[0])?])?;
    paths.lead_over(1)?;
    talk.exchange(5 * MEGABYTE, PATIENCE)?;
    assert_eq!(order(a, &[Order::Replace(&flow_of(b, TCP, CLIENT[0])?)])?, []);
    paths.lead_over(0)?;
    talk.exchange(5 * MEGABYTE, PATIENCE)?;
    assert_eq!(invalid(a)?, 0);
    Ok(())
}

#[test]
fn without_an_entry_or_with_one_of_long_ago_the_same_connection_is_stuck() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, b] = &paths.gateways;
    let start = || Talk::start(&paths.client, &paths.server, paths.server_addresses()[0], 0);
    let mut talk = start()?;
    talk.exchange(MEGABYTE, PATIENCE)?;
    paths.lead_over(1)?;
    assert!(talk.exchange(1, BRIEFLY).is_err(), "b knows nothing of it");
    assert!(invalid(b)? > 0);
    drop(talk);

    paths.lead_over(0)?;
    let mut talk = start()?;
    talk.exchange(MEGABYTE, PATIENCE)?;
    let port = talk.client.local_addr()?.port();
    let mine = |flow: &Flow| flow.key.original.ids.source() == port;
    let flow = flows(a)?.into_iter().find(mine).unwrap();
    make(b, &[flow])?;
    paths.lead_over(1)?;
    talk.exchange(20 * MEGABYTE, PATIENCE)?;
    paths.lead_over(0)?;
    let before = invalid(a)?;
    assert!(talk.exchange(1, BRIEFLY).is_err(), "its windows are out of date");
    assert!(invalid(a)? > before);
    Ok(())
}

#[test]
fn the_server_can_speak_first_over_the_other_gateway_by_udp() -> Result<()> {
    for family in [0, 1] {
        let paths = Paths::new(STRICT)?;
        let [a, b] = &paths.gateways;
        let address = SocketAddr::new(paths.server_addresses()[family], 0);
        let server = paths.server.enter(|| Ok(UdpSocket::bind(address)?))?;
        let own = SocketAddr::new(CLIENT[family].parse()?, 0);
        let client = paths.client.enter(|| Ok(UdpSocket::bind(own)?))?;
        let (mut bytes, target) = ([0; 9], server.local_addr()?);
        client.set_read_timeout(Some(BRIEFLY))?;
        client.send_to(b"question", target)?;
        let (_, outside) = server.recv_from(&mut bytes)?;
        server.send_to(b"answer", outside)?;
        assert_eq!(client.recv_from(&mut bytes)?, (6, target));

        paths.lead_over(1)?;
        server.send_to(b"lost", outside)?;
        assert!(client.recv_from(&mut bytes).is_err(), "b lets nothing in that it does not know");
        make(b, &[flow_of(a, UDP, CLIENT[family])?])?;
        server.send_to(b"more", outside)?;
        assert_eq!(client.recv_from(&mut bytes)?, (4, target));
    }
    Ok(())
}

#[test]
fn an_entry_of_gre_outlives_its_next_packet_only_with_a_fixed_timeout() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [_, b] = &paths.gateways;
    paths.lead_over(1)?;
    let socket = paths
        .client
        .enter(|| Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(GRE))))?))?;
    let mut flow = plain(CLIENT[0], SERVER[0], GRE, ports(0, 0));
    flow.reply.destination = OUTSIDE[0].parse()?;
    flow.status |= status::SEEN_REPLY | status::ASSURED | status::SOURCE_NAT;
    for (fixed, stays) in [(0, false), (status::FIXED_TIMEOUT, true)] {
        flow.status |= fixed;
        assert_eq!(order(b, &[Order::Replace(&flow)])?, []);
        let target = SockAddr::from(SocketAddr::new(SERVER[0].parse()?, 0));
        socket.send_to(&[0, 0, 8, 0, 0, 0, 0, 0], &target)?;
        clock::sleep(Span::millis(100));
        let is_there = flows(b)?.iter().any(|there| there.key == flow.key && there.timeout > 200);
        assert_eq!(is_there, stays);
    }
    Ok(())
}

#[test]
fn a_change_moves_the_state_on_and_makes_tracking_liberal() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, _] = &paths.gateways;
    let mut talk = Talk::start(&paths.client, &paths.server, paths.server_addresses()[0], 0)?;
    talk.exchange(MEGABYTE, PATIENCE)?;
    let mut flow = flow_of(a, TCP, CLIENT[0])?;
    let ProtocolState::Tcp(tcp) = &mut flow.state else { panic!("{flow:?}") };
    assert!(tcp.flags.iter().all(|flags| flags & tcp_flag::LIBERAL == 0));
    tcp.state = 5; // CLOSE_WAIT
    (flow.timeout, flow.mark) = (1234, 0x77);
    assert_eq!(order(a, &[Order::Change(&flow)])?, []);
    let changed = flow_of(a, TCP, CLIENT[0])?;
    assert_same(&[flow], &[changed]);
    let ProtocolState::Tcp(tcp) = changed.state else { panic!("{changed:?}") };
    assert!(tcp.flags.iter().all(|flags| flags & tcp_flag::LIBERAL != 0), "{changed:?}");
    assert!(tcp.flags.iter().all(|flags| flags & tcp_flag::MAXACK_SET == 0), "{changed:?}");
    Ok(())
}
