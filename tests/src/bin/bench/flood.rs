//! Forged adverts for a virtual host that there is, as many as one CPU sends and takes in, while a valid
//! master advertises every second: what its backup makes of it.

use crate::adverts;
use crate::programs;
use crate::receiving::received;
use crate::report::{Must, Row, Unit, ratio};
use crate::road::{FAR, LAN, Road};
use crate::{Effort, cpu};
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use std::sync::atomic::{AtomicBool, Ordering};

pub const PART: &str = "flood";

const PATIENCE: Span = Span::secs(10);
/// Time between two looks at the backup.
const PACE: Span = Span::millis(50);

/// What was seen of the backup.
#[derive(Default)]
struct Seen {
    role_changes: u64,
    accepted: u64,
    /// The longest time without a valid advert.
    longest: Span,
}

pub fn measure(effort: &Effort) -> Result<Vec<Row>> {
    let road = Road::new()?;
    let config = Config::gateway().for_ucarp();
    let far = Config { interfaces: vec![("lan", FAR)], xdp: "off", ..config.clone() };
    let master = Carpd::start(&road.lab, &road.source, &far)?;
    let mut backup = Carpd::start(&road.lab, &road.gateway, &config.with_skew(100).with_xdp("native"))?;
    master.wait_role("MASTER", PATIENCE)?;
    backup.wait_role("BACKUP", PATIENCE)?;
    let (begun, frames) = (clock::now(), received(&road.gateway, LAN)?);
    let spent = cpu::of_process(backup.process()?.id())?;
    let sent = count(&master, "sent")?;
    let seen = under_flood(&road, &backup, effort)?;
    let (took, sent) = (clock::now().since(begun), count(&master, "sent")? - sent);
    let spent = cpu::of_process(backup.process()?.id())?.less(spent);
    let frames = received(&road.gateway, LAN)? - frames;
    let one = |name, unit, number| Row::new(PART, name, unit, vec![number]);
    Ok(vec![
        one("forged adverts", Unit::Mpps, ratio(frames * 1000, took.as_nanos())),
        one("changes of role", Unit::Count, seen.role_changes * 1000).must(Must::AtMost(0)),
        one("longest time without a valid advert", Unit::Millis, seen.longest.as_micros())
            .must(Must::AtMost(2_000_000))
            .note(format!("{} of {sent} accepted", seen.accepted)),
        one("CPU of the daemon", Unit::Percent, 100 * ratio(spent.as_nanos(), took.as_nanos()))
            .must(Must::AtMost(5000)),
    ])
}

fn under_flood(road: &Road, backup: &Carpd, effort: &Effort) -> Result<Seen> {
    let send = programs::send(&adverts::forged(road)?)?;
    let from = road.source.ifindex(FAR)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let source = &road.source;
        let flood = scope.spawn(|| {
            source.enter(|| {
                while !over.load(Ordering::Relaxed) {
                    send.run_live(&[0; 70], from, effort.frames)?;
                }
                Ok(())
            })
        });
        let seen = look(backup, clock::now() + effort.flood);
        over.store(true, Ordering::Relaxed);
        flood.join().ok().context("the flood panicked")??;
        seen
    })
}

/// A daemon that does not answer has no role.
fn look(backup: &Carpd, end: Instant) -> Result<Seen> {
    let mut seen = Seen::default();
    let (begin, mut role) = (count(backup, "accepted")?, backup.has_role(0, "BACKUP"));
    let (mut accepted, mut at) = (begin, clock::now());
    while clock::now() < end {
        clock::sleep(PACE);
        let status = backup.status().unwrap_or_default();
        let now = clock::now();
        let is_backup = status.pointer("/hosts/0/role").and_then(serde_json::Value::as_str) == Some("BACKUP");
        seen.role_changes += u64::from(is_backup != role);
        role = is_backup;
        seen.longest = seen.longest.max(now.since(at));
        if let Some(more) = status.pointer("/hosts/0/accepted").and_then(serde_json::Value::as_u64)
            && more > accepted
        {
            (accepted, at) = (more, now);
        }
    }
    seen.accepted = accepted - begin;
    Ok(seen)
}

fn count(node: &Carpd, name: &str) -> Result<u64> {
    let count = node.status()?.pointer(&format!("/hosts/0/{name}")).and_then(serde_json::Value::as_u64);
    count.with_context(|| format!("no {name} in the status"))
}
