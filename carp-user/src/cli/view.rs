//! One look at a node: what its daemon says, joined with the pinned maps; or the maps alone.

use super::health::Judgement;
use super::instance::{self, Silence};
use crate::api::{Host, MapWindow, Request, Response, SCHEMA, Status};
use crate::io::bpf::{self, Counters, Pinned, Standing};
use crate::io::clock;
use crate::io::readers::GROUP;
use anyhow::{Context, Result, bail};
use carp_common::map::{ABI, ARMED_FOR};
use carp_common::time::Instant;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where a status comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The daemon, and the maps where they may be read.
    Daemon,
    /// The pinned maps alone: the daemon does not answer.
    Maps,
}

/// What there is to show.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The node.
    #[serde(flatten)]
    pub status: Status,
    /// Who says so.
    pub source: Source,
    /// What to make of it.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl View {
    /// Looks at the named instance, or the only one there is; `before` is the last look, if any.
    ///
    /// # Errors
    /// When there is no such instance, it may not be read, or neither daemon nor maps answer.
    pub fn look(name: Option<&str>, before: Option<&Status>) -> Result<Self> {
        let name = instance::resolve(name)?;
        let begun = clock::now();
        // Before the daemon is asked: so one that it calls served for long was served here too.
        let pinned = bpf::read_pinned(&name);
        let (mut status, source) = match instance::call(&name, &Request::Status)? {
            Ok(response) => {
                let Response::Status(mut status) = response else { return Err(instance::something_else()) };
                if let Ok(pinned) = &pinned {
                    join(&mut status, pinned, begun);
                }
                (*status, Source::Daemon)
            }
            Err(silence) => (alone(&name, pinned, &silence)?, Source::Maps),
        };
        status.age_ms = clock::now().since(begun).as_millis();
        Ok(Self { judgement: Judgement::of(&status, source, before), status, source })
    }
}

/// The maps alone, because of the daemon's silence.
fn alone(name: &str, pinned: Result<Pinned, bpf::Error>, silence: &Silence) -> Result<Status> {
    let pinned = match pinned {
        Err(error) if !rustix::process::geteuid().is_root() => bail!(
            "{silence}; the pinned maps, which tell what the datapath does, are not to be read either \
             ({error}): run it with sudo, or join group {GROUP} (before Linux 5.19 only root may)"
        ),
        pinned => pinned.with_context(|| silence.to_string())?,
    };
    Ok(status_of(name, &pinned, clock::now()))
}

/// What the maps tell of a node.
fn status_of(name: &str, pinned: &Pinned, now: Instant) -> Status {
    let mut hosts = pinned.hosts.clone();
    hosts.sort_by_key(|(_, host)| host.slot);
    let hosts = hosts.iter().map(|(key, host)| {
        let mut vips: Vec<IpAddr> = pinned
            .vips
            .iter()
            .filter(|entry| entry.vip.slot == host.slot)
            .map(|entry| entry.key.address())
            .collect();
        vips.sort();
        let window = pinned.windows.get(&host.slot).map(|window| map_window(window, now));
        let mut shown = Host {
            interface: pinned.link_name(key.ifindex),
            vhid: u8::try_from(key.vhid).unwrap_or(0),
            role: "UNKNOWN".to_owned(),
            reason: "carpd does not answer".to_owned(),
            serving: window.as_ref().is_some_and(|window| window.open),
            lease_left_ms: window.as_ref().map_or(0, |window| window.left_ms),
            vips: vips.iter().map(ToString::to_string).collect(),
            datapath: pinned.counters.get(&host.slot).map(Counters::by_name).unwrap_or_default(),
            window,
            ..Host::default()
        };
        pinned.counters.get(&host.slot).into_iter().for_each(|counters| shown.add_refused(counters));
        shown
    });
    let modes = pinned.interfaces.values().map(|link| (link.clone(), "attached".to_owned()));
    Status {
        schema: SCHEMA,
        abi: ABI,
        build: pinned.build.clone(),
        node: name.to_owned(),
        hosts: hosts.collect(),
        datapath: modes.collect::<BTreeMap<_, _>>(),
        counters: Counters::sum(pinned.counters.values()).by_name(),
        ..Status::default()
    }
}

/// Adds to the daemon's view what the maps say of the windows.
fn join(status: &mut Status, pinned: &Pinned, now: Instant) {
    for (key, host) in &pinned.hosts {
        let interface = pinned.link_name(key.ifindex);
        let is_it = |shown: &&mut Host| shown.interface == interface && u32::from(shown.vhid) == key.vhid;
        if let (Some(shown), Some(window)) =
            (status.hosts.iter_mut().find(is_it), pinned.windows.get(&host.slot))
        {
            shown.window = Some(map_window(window, now));
        }
    }
}

fn map_window(standing: &Standing, now: Instant) -> MapWindow {
    let Standing { window, heard } = *standing;
    let leased_until = (window.serve_until != 0).then(|| Instant::from_nanos(window.serve_until));
    let opens = window.opening(heard);
    // An armed backup's is open for so long.
    let armed_until = opens.map(|at| (at + ARMED_FOR).min(Instant::from_nanos(window.armed_until)));
    let is_open = standing.is_open(now);
    let end = [leased_until, armed_until].into_iter().flatten().max();
    let to_come = opens.filter(|at| !is_open && *at > now);
    MapWindow {
        open: is_open,
        left_ms: end.filter(|_| is_open).map_or(0, |end| end.since(now).as_millis()),
        ended_ms: end.filter(|end| to_come.is_none() && *end <= now).map(|end| now.since(end).as_millis()),
        opens_in_ms: to_come.map(|at| at.since(now).as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::map::Window;
    use carp_common::time::Span;

    #[test]
    fn a_window_in_a_map_is_open_or_ended_or_was_never_opened() {
        let now = Instant::ZERO + Span::secs(100);
        let standing = |window| Standing { window, heard: now - Span::secs(1) };
        let window = |until| map_window(&standing(Window::new(Instant::ZERO, until)), now);
        let open = MapWindow { open: true, left_ms: 2_000, ..MapWindow::default() };
        assert_eq!(window(now + Span::secs(2)), open);
        let ended = MapWindow { ended_ms: Some(1_000), ..MapWindow::default() };
        assert_eq!(window(now - Span::secs(1)), ended);
        assert_eq!(map_window(&standing(Window::CLOSED), now), MapWindow::default());
        let arm = |until| standing(Window::armed(Span::secs(3), until, [10, 0, 0, 2].into()));
        let armed = arm(now + Span::secs(9));
        let waits = MapWindow { opens_in_ms: Some(2_000), ..MapWindow::default() };
        assert_eq!(map_window(&armed, now), waits);
        let takes_over = MapWindow { open: true, left_ms: 60, ..MapWindow::default() };
        assert_eq!(map_window(&armed, now + Span::millis(2_040)), takes_over);
        let not_claimed = MapWindow { ended_ms: Some(400), ..MapWindow::default() };
        assert_eq!(map_window(&armed, now + Span::millis(2_500)), not_claimed);
        assert_eq!(map_window(&arm(now + Span::secs(1)), now), MapWindow::default());
        let armed_after_a_lease = Window { serve_until: (now - Span::secs(9)).nanos(), ..armed.window };
        assert_eq!(map_window(&standing(armed_after_a_lease), now), waits);
    }
}
