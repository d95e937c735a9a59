//! What it costs, printed and not judged: `cargo test --release -p carp-tests --test lab_conntrack speed -- --nocapture`.

use crate::table::{plain, ports, tell_all};
use anyhow::Result;
use carp_tests::lab::clock;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::conntrack::{Dump, Events, Injector, Item, Listening, Order, count};
use carp_user::proto::flow::{Flow, ProtocolState, Tcp, status};
use rustix::time::{ClockId, clock_gettime};

#[test]
fn so_much_costs_a_flow() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("a")?;
    tell_all(&host)?;
    let flows: Vec<Flow> = (0..FLOWS).map(flow).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    host.enter(move || {
        let _inside = handle.enter();
        let orders: Vec<Order<'_>> = flows.iter().map(Order::Make).collect();
        let mut injector = Injector::open(true)?;
        let refuse = &mut |index, why| panic!("{index}: {why:?}");
        measure("create, nobody listens", || Ok(injector.carry_out(&orders, refuse)?))?;
        let changes: Vec<Order<'_>> = flows.iter().map(Order::Change).collect();
        measure("change, nobody listens", || Ok(injector.carry_out(&changes, refuse)?))?;
        measure("list and parse", || {
            let (mut dump, mut part, mut all) = (Dump::start(None)?, Vec::new(), 0);
            while dump.part(&mut part)? {
                all += part.len();
            }
            assert_eq!(all + part.len(), flows.len());
            Ok(())
        })?;
        let deletes: Vec<Order<'_>> = flows.iter().map(|flow| Order::Delete(&flow.key)).collect();
        measure("delete, nobody listens", || Ok(injector.carry_out(&deletes, refuse)?))?;
        assert_eq!(count()?, 0);
        let listening = Listening { deaf_to: vec![injector.port()], ..Listening::default() };
        let deaf = Events::open(&listening)?;
        measure("create, a deaf listener", || Ok(injector.carry_out(&orders, refuse)?))?;
        injector.carry_out(&deletes, refuse)?;
        drop(deaf);
        let mut events = Events::open(&Listening::default())?;
        measure("create, a listener", || Ok(injector.carry_out(&orders, refuse)?))?;
        measure("receive and parse", || {
            let mut told = 0;
            while events.waiting(&mut |item| told += usize::from(item != Item::Overrun))? {}
            assert_eq!(told, flows.len());
            Ok(())
        })
    })
}

const FLOWS: u32 = 50_000;

/// Prints the time and the CPU time that one flow takes.
fn measure(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (begun, cpu) = (clock::now(), cpu());
    work()?;
    let (took, cpu) = (clock::now().since(begun).as_nanos(), self::cpu() - cpu);
    let flows = u64::from(FLOWS);
    println!("{what:24} {:6} ns, {:6} ns of CPU a flow", took / flows, cpu / flows);
    Ok(())
}

/// Of this thread, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// One of many, of TCP with a translated source, a mark and a state.
fn flow(number: u32) -> Result<Flow> {
    let port = u16::try_from(number % 50_000)? + 1000;
    let mut flow = plain("10.0.0.1", "192.0.2.1", 6, ports(port, 443));
    flow.reply.destination = "203.0.113.1".parse()?;
    flow.status |= status::SEEN_REPLY | status::ASSURED | status::SOURCE_NAT;
    flow.state = ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [3, 3] });
    (flow.mark, flow.timeout) = (1, 3600);
    Ok(flow)
}
