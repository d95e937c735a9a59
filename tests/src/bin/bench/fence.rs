//! The product's datapath at the links of a namespace, opened in this process by the code that the
//! daemon opens it with, so that its windows are ours to set.

use crate::road::SOURCE;
use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use carp_common::id::IfIndex;
use carp_common::map::{Counter, Window};
use carp_common::sender::Challenge;
use carp_common::time::{Instant, Span};
use carp_tests::lab::bpf::{Hook, Program};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use carp_user::io::bpf::{Counters, EGRESS_PROGRAM, Mode, Port, Rings};
use carp_user::io::link::Links;
use carp_user::io::shield::Shield;
use carp_user::proto::event::{HostId, HostSetup};
use std::collections::BTreeMap;

/// Programs and maps at work.
pub struct Fence {
    /// For what comes in.
    pub ingress: Program,
    /// For what leaves.
    pub egress: Program,
    hosts: u32,
    shield: Shield,
    rings: Rings,
}

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// Everything.
    Open,
    /// Nothing, until a master falls silent: a backup's, as a rule.
    Armed,
    /// Nothing at any time.
    Shut,
}

impl Fence {
    /// Attaches to the links that these virtual hosts are on, which all answer pings. All windows are shut.
    pub fn raise(instance: &str, namespace: &Namespace, hosts: &[HostSetup]) -> Result<Self> {
        let links: BTreeMap<IfIndex, String> =
            hosts.iter().map(|host| (host.link, host.interface.clone())).collect();
        let (shield, rings) = namespace.enter(|| open(instance, &links, hosts))?;
        let link = links.values().next().context("no virtual hosts")?;
        let id = xdp_program(namespace, link)?;
        let maps = loaded_programs().flatten().find(|program| program.id() == id);
        let maps = maps.and_then(|program| program.map_ids().ok().flatten()).unwrap_or_default();
        let shares = |ids: Option<Vec<u32>>| ids.is_some_and(|ids| ids.iter().any(|map| maps.contains(map)));
        Ok(Self {
            ingress: Program::find(Hook::Xdp, |program| program.id() == id)?,
            egress: Program::find(Hook::Tc, |program| {
                program.name_as_str() == Some(EGRESS_PROGRAM) && program.map_ids().is_ok_and(shares)
            })?,
            hosts: u32::try_from(hosts.len())?,
            shield,
            rings,
        })
    }

    /// Sets every window. Gives how long that took.
    pub fn set(&mut self, windows: Windows) -> Result<Span> {
        let begun = clock::now();
        let window = match windows {
            Windows::Open => Window::new(Instant::ZERO, Instant::MAX),
            Windows::Armed => Window::armed(Span::secs(3600), Instant::MAX, SOURCE.into()),
            Windows::Shut => Window::CLOSED,
        };
        let changes: Vec<_> = (0..self.hosts).map(|host| (HostId(host), window)).collect();
        self.shield.set_windows(&changes)?;
        Ok(clock::now().since(begun))
    }

    /// Answers to greetings count from this one on, on the first virtual host.
    pub fn challenge(&mut self, challenge: Challenge) -> Result<()> {
        Ok(self.shield.set_challenge(HostId(0), challenge)?)
    }

    /// How many adverts were ever accepted.
    pub fn accepted(&self) -> Result<u64> {
        Ok(Counters::sum(self.shield.counters()?.values()).get(Counter::Advert))
    }

    /// How many adverts have come out of the ring since the last time.
    pub fn heard(&mut self) -> usize {
        std::iter::from_fn(|| self.rings.adverts.next()).count()
    }

    /// Takes everything down.
    pub fn lower(self, namespace: &Namespace) -> Result<()> {
        let Self { shield, rings, ingress, egress, .. } = self;
        drop((rings, ingress, egress));
        let errors = namespace.enter(|| Ok(shield.close()))?;
        errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }
}

fn open(instance: &str, links: &BTreeMap<IfIndex, String>, hosts: &[HostSetup]) -> Result<(Shield, Rings)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let names: Vec<String> = links.values().cloned().collect();
    let vips = hosts.iter().flat_map(|host| &host.vips).copied().collect();
    let facts = Links::open(&names, vips)?;
    let port =
        |(link, name): (&IfIndex, &String)| Port { link: *link, name: name.clone(), mode: Mode::Native };
    let ports: Vec<Port> = links.iter().map(port).collect();
    let pinged: Vec<_> = hosts.iter().map(|host| HostSetup { answer_ping: true, ..host.clone() }).collect();
    Ok(Shield::open(instance, &ports, &facts, ((0..).map(HostId).zip(&pinged), 0))?)
}

/// The id of the program at a link.
fn xdp_program(namespace: &Namespace, link: &str) -> Result<u32> {
    let text = namespace.ip(&format!("-json link show dev {link}"))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let id = links.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64);
    Ok(u32::try_from(id.with_context(|| format!("no XDP program at {link}"))?)?)
}
