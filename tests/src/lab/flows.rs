//! Connections that nobody speaks over, put into a kernel's table as many as are wanted, and room for them there.

use super::namespace::Namespace;
use anyhow::{Context, Result, ensure};
use carp_user::io::conntrack::{Dump, Injector, Order};
use carp_user::proto::flow::{Flow, Ids, ProtocolState, Tcp, Tuple, status};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Flows that are handed to the kernel at a time.
pub const CHUNK: u32 = 1024;
const SETTINGS: &str = "/proc/sys/net/netfilter";

/// Settings of connection tracking of the whole machine, which are put back at the end. One at a time: each puts back what it
/// has found.
pub struct Room {
    before: Vec<(&'static str, String)>,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Room {
    /// Sets them: name in `net.netfilter`, and value.
    ///
    /// # Errors
    /// When there is no such setting, or the kernel refuses the value.
    pub fn set(settings: &[(&'static str, u64)]) -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = Self { before: Vec::new(), _alone: alone };
        for (name, value) in settings {
            let file = Path::new(SETTINGS).join(name);
            let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            fs::write(&file, value.to_string()).with_context(|| file.display().to_string())?;
            room.before.push((name, before));
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for (name, value) in &self.before {
            if let Err(error) = fs::write(Path::new(SETTINGS).join(name), value) {
                eprintln!("warning: {name} is not what it was: {error}");
            }
        }
    }
}

/// One of 2^32: TCP with its source translated, as a gateway has most of.
///
/// # Errors
/// None but for mistakes of this function.
pub fn numbered(number: u32) -> Result<Flow> {
    let address = |net: u32| IpAddr::V4(Ipv4Addr::from_bits(net + number / 50_000));
    let port = u16::try_from(1024 + number % 50_000)?;
    let original = Tuple {
        source: address(0x0a00_0000),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        ids: Ids::Ports { source: port, destination: 443 },
    };
    let plain = Flow::untranslated(original).context("nothing answers this")?;
    Ok(Flow {
        reply: Tuple { destination: address(0xc000_0200), ..plain.reply },
        status: status::CONFIRMED | status::SEEN_REPLY | status::ASSURED,
        timeout: 3600,
        state: ProtocolState::Tcp(Tcp { state: 3, scale: [7, 7], flags: [0, 0] }),
        ..plain
    })
}

/// Makes those of these numbers.
///
/// # Errors
/// When the kernel refuses one.
pub fn make(namespace: &Namespace, numbers: Range<u32>) -> Result<()> {
    make_by(&mut injector(namespace)?, numbers)
}

/// The same through an injector.
///
/// # Errors
/// When the kernel refuses one.
pub fn make_by(injector: &mut Injector, numbers: Range<u32>) -> Result<()> {
    for first in numbers.clone().step_by(usize::try_from(CHUNK)?) {
        let flows = (first..numbers.end.min(first + CHUNK)).map(numbered);
        put(injector, &flows.collect::<Result<Vec<_>>>()?)?;
    }
    Ok(())
}

/// What puts flows into the table of a namespace, whoever uses it.
///
/// # Errors
/// When the kernel has no ctnetlink.
pub fn injector(namespace: &Namespace) -> Result<Injector> {
    namespace.enter(|| Ok(Injector::open(false)?))
}

/// Puts these into the kernel's table.
///
/// # Errors
/// When the kernel refuses one.
pub fn inject(namespace: &Namespace, flows: &[Flow]) -> Result<()> {
    put(&mut injector(namespace)?, flows)
}

fn put(injector: &mut Injector, flows: &[Flow]) -> Result<()> {
    let orders: Vec<Order<'_>> = flows.iter().map(Order::Make).collect();
    let mut refused = None;
    injector.carry_out(&orders, &mut |_, refusal| refused = Some(refusal))?;
    ensure!(refused.is_none(), "the kernel refused a flow: {refused:?}");
    Ok(())
}

/// All that a kernel knows.
///
/// # Errors
/// When it does not say.
pub fn all(namespace: &Namespace) -> Result<Vec<Flow>> {
    all_of(namespace, None)
}

/// Those of a zone.
///
/// # Errors
/// As [`all`].
pub fn all_of(namespace: &Namespace, zone: Option<u16>) -> Result<Vec<Flow>> {
    namespace.enter(|| {
        let (mut dump, mut part, mut all) = (Dump::start(zone)?, Vec::new(), Vec::new());
        while dump.part(&mut part)? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    })
}

/// Ends all that a kernel knows: whoever removes a namespace with many flows keeps a CPU busy long after.
///
/// # Errors
/// As [`all`].
pub fn clear(namespace: &Namespace) -> Result<()> {
    let flows = all(namespace)?;
    let orders: Vec<Order<'_>> = flows.iter().map(|flow| Order::Delete(&flow.key)).collect();
    // What has ended by itself meanwhile is no matter.
    Ok(injector(namespace)?.carry_out(&orders, &mut |_, _| {})?)
}
