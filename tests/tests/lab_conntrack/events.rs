//! What is told, when it is told, and who did it.

use crate::paths::{CLIENT, Paths, STRICT};
use crate::table::{assert_same, flow_of, make, order, plain, ports, tell_all};
use anyhow::Result;
use carp_common::time::Span;
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::talk::Talk;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::{
    Change, Events, Injector, Item, Listening, News, Order, Settings, probe, switch_events_on,
};
use carp_user::io::error::Error;
use carp_user::proto::flow::{Flow, ProtocolState};
use rustix::thread::CapabilitySet;
use std::time::Duration;
use tokio::runtime::Runtime;

const SOON: Span = Span::secs(5);

pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

pub fn listen(host: &Namespace, runtime: &Runtime, listening: &Listening) -> Result<Events> {
    let handle = runtime.handle().clone();
    host.enter(move || {
        let _inside = handle.enter();
        Ok(Events::open(listening)?)
    })
}

/// All that is told until `found` in it finds what it wants.
fn told<T>(events: &mut Events, what: &str, found: impl Fn(&[Item]) -> Option<T>) -> Result<(T, Vec<Item>)> {
    let mut all = Vec::new();
    let found = clock::wait_for(what, SOON, || {
        while events.waiting(&mut |item| all.push(item)).unwrap() {}
        found(&all)
    })?;
    Ok((found, all))
}

pub fn flow_news(item: &Item) -> Option<(u32, Change, Flow)> {
    match item {
        Item::Message(message) => match message.news {
            News::Flow(change, flow) => Some((message.by, change, flow)),
            News::Expectation(..) => None,
        },
        Item::Overrun => None,
    }
}

#[test]
fn a_real_connection_is_told_from_its_first_packet_to_its_end() -> Result<()> {
    let paths = Paths::new(STRICT)?;
    let [a, _] = &paths.gateways;
    let runtime = runtime()?;
    let mut events = listen(a, &runtime, &Listening::default())?;
    let mut talk = Talk::start(&paths.client, &paths.server, paths.server_addresses()[0], 0)?;
    talk.exchange(1, Duration::from_secs(5))?;
    drop(talk);
    let state = |flow: &Flow| match flow.state {
        ProtocolState::Tcp(tcp) => Some(tcp.state),
        ProtocolState::Sctp(_) | ProtocolState::None => None,
    };
    const TIME_WAIT: u8 = 7;
    let (_, all) = told(&mut events, "TIME_WAIT", |items| {
        items.iter().filter_map(flow_news).find(|(_, _, flow)| state(flow) == Some(TIME_WAIT))
    })?;
    let all: Vec<_> = all.iter().filter_map(flow_news).collect();
    let states: Vec<_> = all.iter().filter_map(|(_, _, flow)| state(flow)).collect();
    assert_eq!(states.first(), Some(&1), "SYN_SENT");
    assert!(states.is_sorted(), "{states:?}");
    assert!(all.iter().all(|(by, _, _)| *by == 0), "a packet has no port");
    assert_eq!(all[0].1, Change::New);
    assert!(all[1..].iter().all(|(_, change, _)| *change == Change::Updated));
    // What events say in turn is what a look at the table says.
    let mut known = all[0].2;
    all[1..].iter().for_each(|(_, _, flow)| known.learn(flow));
    let listed = flow_of(a, 6, CLIENT[0])?;
    assert_same(&[listed], &[known]);
    order(a, &[Order::Delete(&known.key)])?;
    let gone = |items: &[Item]| {
        items.iter().filter_map(flow_news).find(|(_, change, _)| *change == Change::Destroyed)
    };
    let ((by, _, flow), _) = told(&mut events, "its end", gone)?;
    assert!(by != 0 && flow.key == known.key);
    Ok(())
}

#[test]
fn our_own_doing_is_told_apart_or_not_told_at_all() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    let runtime = runtime()?;
    let mut injectors = host.enter(|| Ok([Injector::open(true)?, Injector::open(true)?]))?;
    let mut events = listen(&host, &runtime, &Listening::default())?;
    let deaf_to = vec![1, injectors[0].port(), 2];
    let mut deaf = listen(&host, &runtime, &Listening { deaf_to, ..Listening::default() })?;
    for (injector, port) in injectors.iter_mut().zip([1, 2]) {
        let flow = plain("10.0.0.1", "10.0.0.2", 17, ports(port, 53));
        let orders = [Order::Make(&flow), Order::Change(&flow), Order::Delete(&flow.key)];
        injector.carry_out(&orders, &mut |index, why| panic!("{index}: {why:?}"))?;
    }
    let six = |items: &[Item]| (items.len() >= 6).then_some(());
    let ((), all) = told(&mut events, "two lives", six)?;
    let all: Vec<_> = all.iter().filter_map(flow_news).map(|(by, change, _)| (by, change)).collect();
    let life = |by| [Change::New, Change::Updated, Change::Destroyed].map(|change| (by, change));
    let both = [life(injectors[0].port()), life(injectors[1].port())].concat();
    assert_eq!(all, both);
    let ((), heard) = told(&mut deaf, "one life", |items| (items.len() >= 3).then_some(()))?;
    let heard: Vec<_> = heard.iter().filter_map(flow_news).map(|(by, change, _)| (by, change)).collect();
    assert_eq!(heard, life(injectors[1].port()));
    Ok(())
}

#[test]
fn a_listener_that_pauses_hears_nothing_and_then_goes_on() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    let runtime = runtime()?;
    let mut events = listen(&host, &runtime, &Listening::default())?;
    let flow = |port| plain("10.0.0.1", "10.0.0.2", 17, ports(port, 53));
    for (port, on) in [(1, true), (2, false), (3, true)] {
        events.listen(on)?;
        make(&host, &[flow(port)])?;
    }
    let ((), all) = told(&mut events, "two flows", |items| (items.len() >= 2).then_some(()))?;
    let heard: Vec<_> = all.iter().filter_map(flow_news).map(|(_, _, flow)| flow.key.original.ids).collect();
    assert_eq!(heard, [ports(1, 53), ports(3, 53)]);
    Ok(())
}

#[test]
fn a_loss_is_said_once_it_is_over_and_what_comes_then_is_told() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    let runtime = runtime()?;
    let listening = Listening { receive_buffer: 16 << 10, ..Listening::default() };
    let mut events = listen(&host, &runtime, &listening)?;
    let flows: Vec<Flow> =
        (1..=2000).map(|port| plain("10.0.0.1", "10.0.0.2", 17, ports(port, 53))).collect();
    make(&host, &flows)?;
    let overrun = |items: &[Item]| items.contains(&Item::Overrun).then_some(());
    let ((), all) = told(&mut events, "the overrun", overrun)?;
    assert_eq!(all.iter().filter(|item| **item == Item::Overrun).count(), 1);
    assert!(all.len() > 5 && all.len() < 1000, "{} of 2000 were told", all.len());
    assert_eq!(all.last(), Some(&Item::Overrun), "what was told before the loss comes before it");
    make(&host, &[plain("10.0.0.1", "10.0.0.2", 17, ports(3000, 53))])?;
    let ((), after) = told(&mut events, "the next flow", |items| (!items.is_empty()).then_some(()))?;
    assert_eq!(flow_news(&after[0]).unwrap().2.key.original.ids, ports(3000, 53));
    Ok(())
}

#[test]
fn a_listener_sleeps_until_something_happens() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    let runtime = runtime()?;
    let mut events = listen(&host, &runtime, &Listening::default())?;
    let flow = plain("10.0.0.1", "10.0.0.2", 17, ports(1, 53));
    runtime.block_on(async {
        let mut items = Vec::new();
        let briefly = Duration::from_millis(50);
        let silence = tokio::time::timeout(briefly, events.next(&mut |item| items.push(item))).await;
        assert!(silence.is_err(), "nothing has happened");
        make(&host, &[flow])?;
        tokio::time::timeout(SOON.std(), events.next(&mut |item| items.push(item))).await??;
        assert_eq!(items.len(), 1);
        Ok(())
    })
}

#[test]
fn without_the_capability_it_is_named() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    host.enter(move || {
        let _inside = handle.enter();
        // Of this thread only.
        let mut own = rustix::thread::capabilities(None)?;
        own.effective.remove(CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, own)?;
        let errors = [probe().unwrap_err(), Events::open(&Listening::default()).unwrap_err()];
        for error in errors {
            assert!(matches!(error, Error::Privilege { capability: "CAP_NET_ADMIN", .. }), "{error}");
        }
        Ok(())
    })
}

#[test]
fn settings_are_read_and_events_switched_on() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    host.sysctl("netfilter/nf_conntrack_events", "0")?;
    host.sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    let inside = |work: fn() -> Result<Settings>| host.enter(work);
    let before = inside(|| Ok(probe()?))?;
    assert!(before.max > 0 && before.buckets > 0);
    assert_eq!((before.events, before.tcp_loose, before.tcp_be_liberal), (0, false, false));
    assert!(host.enter(|| Ok(switch_events_on()?))?);
    assert!(!host.enter(|| Ok(switch_events_on()?))?);
    assert_eq!(inside(|| Ok(Settings::read()?))?, Settings { events: 1, ..before });
    Ok(())
}
