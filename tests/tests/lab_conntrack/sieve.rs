//! What the filter leaves out wakes nobody, and what it carries is told: the program in the kernel and the filter agree.

use crate::carried::catalogue;
use crate::events::{flow_news, listen, runtime};
use crate::table::{make, order, plain, ports, tell_all};
use anyhow::Result;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::{Change, Events, Listening, Order};
use carp_user::proto::flow::{Flow, Ids, Key};
use carp_user::proto::sync::filter::Filter;
use carp_user::proto::sync::rule::{Mark, Prefix, Rule, Rules};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;
const CARP: u8 = 112;

#[test]
fn what_the_filter_never_carries_is_not_told_and_the_rest_is() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let runtime = runtime()?;
    for (number, filter) in filters().into_iter().enumerate() {
        let host = lab.namespace(&format!("sieve{number}"))?;
        tell_all(&host)?;
        let listening = Listening { filter: Some(filter.clone()), ..Listening::default() };
        let mut events = listen(&host, &runtime, &listening)?;
        let flows = flows();
        let carried: BTreeSet<Key> =
            flows.iter().filter(|flow| filter.carries(flow)).map(|it| it.key).collect();
        assert!(!carried.is_empty() && carried.len() < flows.len(), "{filter:?}");
        make(&host, &flows)?;
        assert_eq!(heard(&mut events, Change::New)?, carried, "{filter:?}");
        let ends: Vec<Order<'_>> = flows.iter().map(|flow| Order::Delete(&flow.key)).collect();
        assert_eq!(order(&host, &ends)?, []);
        assert_eq!(heard(&mut events, Change::Destroyed)?, carried, "{filter:?}");
        // Nothing but what is left out: not even a wake-up.
        let left_out: Vec<Flow> = flows.into_iter().filter(|flow| !carried.contains(&flow.key)).collect();
        make(&host, &left_out)?;
        assert!(!events.waiting(&mut |_| {})?, "{filter:?}");
    }
    Ok(())
}

#[test]
fn what_may_change_and_more_than_the_kernel_takes_is_told_and_left_to_the_daemon() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let runtime = runtime()?;
    let by_mark = Rule { mark: Some(Mark { value: 0, mask: 1 }), ..Rule::default() };
    let number = |it: u16| Prefix::new(format!("fd00:{it:x}::1:2:3").parse().unwrap(), 121);
    let long = (0..64).map(|it| Rule { prefix: number(it), ports: Some(it..=999), ..Rule::default() });
    let rules = [
        Rules { exclude: vec![by_mark], include: Vec::new() },
        Rules { exclude: long.clone().collect(), include: long.collect() },
    ];
    for (number, rules) in rules.into_iter().enumerate() {
        let host = lab.namespace(&format!("loose{number}"))?;
        tell_all(&host)?;
        let listening =
            Listening { filter: Some(Filter { rules, ..Filter::default() }), ..Listening::default() };
        let mut events = listen(&host, &runtime, &listening)?;
        let flow = plain("10.0.0.1", "10.0.0.2", UDP, ports(1, 2));
        assert!(!listening.filter.is_some_and(|filter| filter.carries(&flow)));
        make(&host, &[flow])?;
        assert_eq!(heard(&mut events, Change::New)?, BTreeSet::from([flow.key]));
    }
    Ok(())
}

fn filters() -> Vec<Filter> {
    let of = |exclude: Vec<Rule>, include: Vec<Rule>| {
        let ends = ["10.9.0.1:7112", "10.9.0.2:7112"].map(|end| end.parse::<SocketAddr>().unwrap());
        Filter { session: Some(ends), rules: Rules { include, exclude }, ..Filter::default() }
    };
    let within = |address: &str, len| {
        let prefix = Prefix::new(address.parse().unwrap(), len);
        Rule { prefix, ..Rule::default() }
    };
    let by = |protocol, first, last| Rule {
        protocol: Some(protocol),
        ports: Some(first..=last),
        ..Rule::default()
    };
    let protocol = |protocol| Rule { protocol: Some(protocol), ..Rule::default() };
    let all_ports = Rule { ports: Some(0..=u16::MAX), ..Rule::default() };
    let both = Rule { ports: Some(100..=107), protocol: Some(UDP), ..within("fd00::4", 128) };
    vec![
        of(vec![], vec![]),
        of(vec![protocol(UDP)], vec![]),
        of(vec![by(TCP, 443, 443), by(UDP, 0, 100)], vec![]),
        of(vec![within("10.0.0.4", 32), within("fd00::", 126)], vec![]),
        of(vec![within("10.0.0.2", 31)], vec![]),
        of(vec![within("fd00::3", 128)], vec![]),
        of(vec![all_ports.clone()], vec![]),
        of(vec![], vec![by(TCP, 400, 500), within("0.0.0.0", 0)]),
        of(vec![], vec![both.clone(), protocol(47)]),
        of(vec![both, protocol(1)], vec![all_ports, within("::", 0)]),
        of(vec![protocol(58)], vec![within("127.0.0.0", 8), protocol(132)]),
    ]
}

/// Of every kind, and what is never carried.
fn flows() -> Vec<Flow> {
    let mut flows = catalogue();
    // A kernel has one of a key.
    let mut keys = BTreeSet::new();
    flows.retain(|flow| flow.key.zone == 0 && keys.insert(flow.key));
    flows.extend([
        plain("127.0.0.1", "127.0.0.1", TCP, ports(1, 2)),
        plain("::1", "::1", UDP, ports(1, 2)),
        plain("10.0.0.1", "224.0.0.251", UDP, ports(5353, 5353)),
        plain("fd00::1", "ff02::fb", UDP, ports(5353, 5353)),
        plain("0.0.0.0", "255.255.255.255", UDP, ports(68, 67)),
        plain("10.0.0.1", "10.0.0.2", CARP, Ids::None),
        plain("fd00::1", "fd00::2", CARP, Ids::None),
        plain("10.9.0.1", "10.9.0.2", TCP, ports(9, 7112)),
        plain("10.9.0.2", "10.9.0.1", TCP, ports(9, 7112)),
        plain("10.9.0.1", "10.9.0.2", TCP, ports(9, 7113)),
        plain("10.9.0.1", "10.9.0.2", UDP, ports(9, 7112)),
        plain("10.9.0.1", "10.9.0.3", TCP, ports(9, 7112)),
        plain("10.0.0.1", "10.0.0.2", TCP, ports(9, 443)),
        plain("fd00::1", "fd00::2", TCP, ports(9, 443)),
    ]);
    let is_ipv6 = |flow: &Flow| matches!(flow.key.original.source, IpAddr::V6(_));
    assert!(flows.iter().any(is_ipv6) && !flows.iter().all(is_ipv6));
    flows
}

/// The flows of which this is told. What a kernel says of an order it has said when the order is carried out.
fn heard(events: &mut Events, wanted: Change) -> Result<BTreeSet<Key>> {
    let mut keys = BTreeSet::new();
    let mut take = |item| {
        if let Some((_, change, flow)) = flow_news(&item)
            && change == wanted
        {
            keys.insert(flow.key);
        }
    };
    while events.waiting(&mut take)? {}
    Ok(keys)
}
