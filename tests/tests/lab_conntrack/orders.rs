//! What becomes of orders: carried out, or refused with the flow that was meant.

use crate::table::{assert_same, flows, make, order, plain, ports};
use anyhow::Result;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::{Injector, Order, Refusal, Unfit, count};
use carp_user::proto::flow::{Flow, HELPER_LEN, Ids, ProtocolState, Tcp, status, tcp_flag};
use rustix::io::Errno;

fn lab() -> Result<(Lab, Namespace)> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    Ok((lab, host))
}

fn udp(port: u16) -> Flow {
    plain("10.0.0.1", "10.0.0.2", 17, ports(port, 53))
}

#[test]
fn errors_name_their_flow_and_the_others_are_carried_out() -> Result<()> {
    let (_lab, host) = lab()?;
    // 300 orders are several batches; every 50th is a bad one.
    let mut ordered: Vec<Flow> = (1000..1300).map(udp).collect();
    ordered[0].helper = Some(named("no-such-helper"));
    ordered[50].master = Some(udp(9).key.original);
    ordered[50].status |= status::EXPECTED;
    // Its answers come where those of another one come.
    ordered[100].reply.destination = "10.0.0.7".parse()?;
    ordered[101].reply = ordered[100].reply;
    ordered[150].key.original.destination = "fd00::1".parse()?;
    ordered[200].key.original.ids = Ids::Icmp { kind: 3, code: 1, id: 0 };
    ordered[250].reply_zone = 2;
    ordered[250].key.zone = 1;
    let orders: Vec<Order<'_>> = ordered.iter().map(Order::Make).collect();
    let refused = order(&host, &orders)?;
    let kernel = Refusal::Kernel;
    let expected = [
        (0, kernel(Errno::OPNOTSUPP)),
        (50, kernel(Errno::NOENT)),
        (101, kernel(Errno::EXIST)),
        (150, Refusal::Unfit(Unfit::Families)),
        (200, Refusal::Unfit(Unfit::Reply)),
        (250, Refusal::Unfit(Unfit::Zones)),
    ];
    let mut sorted = refused.clone();
    sorted.sort_by_key(|(index, _)| *index);
    assert_eq!(sorted, expected);
    assert_eq!(flows(&host)?.len(), 300 - expected.len());
    assert_eq!(host.enter(|| Ok(count()?))?, 300 - u32::try_from(expected.len())?);
    Ok(())
}

#[test]
fn an_order_is_carried_out_whether_the_flow_is_there_or_not() -> Result<()> {
    let (_lab, host) = lab()?;
    let mut flow = udp(1);
    flow.reply.destination = "10.0.0.7".parse()?;
    flow.status |= status::SOURCE_NAT;
    for seconds in [100, 110, 120, 130] {
        (flow.timeout, flow.mark) = (seconds, seconds);
        let act = match seconds {
            100 | 130 => Order::Change(&flow),
            110 => Order::Make(&flow),
            _ => Order::Replace(&flow),
        };
        assert_eq!(order(&host, &[act])?, []);
        assert_same(&[flow], &flows(&host)?);
    }
    let delete = [Order::Delete(&flow.key), Order::Delete(&flow.key)];
    assert_eq!(order(&host, &delete)?, [], "that it is gone is what was wanted");
    assert_eq!(flows(&host)?, []);
    assert_eq!(order(&host, &[Order::Replace(&flow)])?, []);
    assert_same(&[flow], &flows(&host)?);
    Ok(())
}

#[test]
fn what_is_only_added_or_prolonged_leaves_the_rest_of_a_flow_that_is_there() -> Result<()> {
    let (_lab, host) = lab()?;
    let flow = Flow { mark: 7, timeout: 100, ..udp(1) };
    assert_eq!(order(&host, &[Order::Prolong(&flow)])?, [], "it is not there, and need not be");
    assert_eq!(flows(&host)?, []);
    let other = Flow { mark: 8, timeout: 200, ..flow };
    assert_eq!(order(&host, &[Order::Add(&flow), Order::Add(&other)])?, []);
    assert_same(&[flow], &flows(&host)?);
    assert_eq!(order(&host, &[Order::Prolong(&other)])?, []);
    assert_same(&[Flow { timeout: 200, ..flow }], &flows(&host)?);
    Ok(())
}

#[test]
fn a_connection_of_tcp_that_is_prolonged_is_followed_without_its_windows() -> Result<()> {
    let (_lab, host) = lab()?;
    let state = ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [0, 0] });
    let flow = Flow { state, ..plain("10.0.0.1", "10.0.0.2", 6, ports(9, 80)) };
    host.enter(|| Ok(Injector::open(false)?.carry_out(&[Order::Make(&flow)], &mut |_, _| {})?))?;
    let is_liberal = || -> Result<Vec<[bool; 2]>> {
        let all = flows(&host)?;
        let flags = all.iter().filter_map(|flow| match flow.state {
            ProtocolState::Tcp(tcp) => Some(tcp.flags.map(|flags| flags & tcp_flag::LIBERAL != 0)),
            ProtocolState::None | ProtocolState::Sctp(_) => None,
        });
        Ok(flags.collect())
    };
    assert_eq!(is_liberal()?, [[false, false]]);
    assert_eq!(order(&host, &[Order::Prolong(&flow)])?, []);
    assert_eq!(is_liberal()?, [[true, true]]);
    Ok(())
}

#[test]
fn a_replacement_that_no_kernel_can_hold_leaves_what_is_there() -> Result<()> {
    let (_lab, host) = lab()?;
    let flow = udp(1);
    make(&host, &[flow])?;
    let mut broken = flow;
    broken.reply.protocol = 6;
    assert_eq!(order(&host, &[Order::Replace(&broken)])?, [(0, Refusal::Unfit(Unfit::Reply))]);
    assert_same(&[flow], &flows(&host)?);
    Ok(())
}

#[test]
fn a_status_that_would_go_back_is_refused_and_counted_and_silence_about_it_is_not() -> Result<()> {
    let (_lab, host) = lab()?;
    let mut far = udp(1);
    far.status |= status::SEEN_REPLY | status::ASSURED;
    make(&host, &[far])?;
    let (mut back, mut silent) = (far, far);
    back.status = status::CONFIRMED | status::SEEN_REPLY;
    silent.status = status::CONFIRMED;
    silent.mark = 5;
    host.enter(|| {
        let mut injector = Injector::open(false)?;
        let mut refused = Vec::new();
        injector.carry_out(&[Order::Change(&silent), Order::Change(&back)], &mut |index, why| {
            refused.push((index, why));
        })?;
        assert_eq!(refused, [(1, Refusal::Kernel(Errno::BUSY))]);
        assert_eq!(injector.refused().iter().collect::<Vec<_>>(), [(&Errno::BUSY.raw_os_error(), &1)]);
        Ok(())
    })?;
    assert_eq!(flows(&host)?[0].status & status::TOLD, status::SEEN_REPLY | status::ASSURED);
    Ok(())
}

/// As a flow has it.
pub fn named(name: &str) -> [u8; HELPER_LEN] {
    let mut bytes = [0; HELPER_LEN];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}
