//! Who is measured: two gateways of a make, and how each is told to do what a fault needs.

use super::fault::Fault;
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::conntrackd::{self, Conntrackd};
use carp_tests::lab::keepalived::{self, Keepalived};
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::{STRICT, fortify, is_in_step};
use carp_tests::lab::windows::Watch;
use carp_tests::lab::{Purpose, clock};
use clap::ValueEnum;

/// Longest wait for a daemon to be as it should be.
const PATIENCE: Span = Span::secs(30);
/// A backup of ours has to have listened for a lease before it can be handed the role.
const LISTENED: Span = Span::secs(4);
/// What keepalived's priority is, and by how much it is lowered so that the other one takes over.
const PRIORITIES: [u8; 2] = [150, 100];
const LOWERED: i8 = -100;

/// A make with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// carpd: LAN and WAN as one group, base 1, connections replicated
    Carp,
    /// The same, its master asked every 5 ms whether it serves (detect), for leases of 100 ms
    CarpDetect,
    /// The same, every millisecond
    CarpFast,
    /// keepalived: VRRPv3 with an advert every 10 ms, one sync group
    Keepalived,
    /// The same, and conntrackd
    KeepalivedConntrackd,
}

/// Two gateways that run, gw1 to lead.
pub struct Couple {
    /// What the datapaths of ours serve.
    watch: Option<Watch>,
    nodes: Nodes,
    _rivals: Vec<Conntrackd>,
    /// The network.
    pub pair: Pair,
}

enum Nodes {
    Carp([Carpd; 2]),
    Keepalived([Keepalived; 2]),
}

impl Contender {
    /// In tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Carp => "carp",
            Self::CarpDetect => "carp, detect 5 ms",
            Self::CarpFast => "carp, detect 1 ms",
            Self::Keepalived => "keepalived 10 ms",
            Self::KeepalivedConntrackd => "keepalived 10 ms, conntrackd",
        }
    }

    /// Whether limits are for it.
    pub const fn is_ours(self) -> bool {
        match self {
            Self::Carp | Self::CarpDetect | Self::CarpFast => true,
            Self::Keepalived | Self::KeepalivedConntrackd => false,
        }
    }

    /// How often the backup asks its master, milliseconds.
    pub const fn detect(self) -> Option<u16> {
        match self {
            Self::CarpDetect => Some(5),
            Self::CarpFast => Some(1),
            Self::Carp | Self::Keepalived | Self::KeepalivedConntrackd => None,
        }
    }

    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        match self {
            Self::Carp | Self::CarpDetect | Self::CarpFast => true,
            Self::Keepalived => keepalived::is_installed(),
            Self::KeepalivedConntrackd => keepalived::is_installed() && conntrackd::is_installed(),
        }
    }

    /// Whether it has what this needs.
    pub const fn knows(self, fault: Fault) -> bool {
        match fault {
            // What keepalived has for it is what it does in a planned move.
            Fault::Maintenance => self.is_ours(),
            Fault::Planned
            | Fault::Sigterm
            | Fault::Sigkill
            | Fault::Sigstop
            | Fault::LinksDown
            | Fault::CutOff => true,
        }
    }
}

impl Couple {
    /// Starts both behind a firewall that lets in only what the LAN began, with translated sources.
    pub fn start(contender: Contender) -> Result<Self> {
        let pair = Pair::new(Purpose::Show)?;
        fortify(&pair, STRICT)?;
        let (mut rivals, mut watch) = (Vec::new(), None);
        let nodes = match contender {
            Contender::Carp | Contender::CarpDetect | Contender::CarpFast => {
                let config = Config::gateway().detecting(contender.detect().unwrap_or(0)).with_sync();
                let gw1 = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
                let gw2 = Carpd::configure(&pair.lab, pair.gw2(), &config.of_backup())?;
                watch = Some(Watch::start([gw1.windows(), gw2.windows()]));
                let mut nodes = [gw1, gw2];
                nodes.iter_mut().try_for_each(Carpd::run)?;
                Nodes::Carp(nodes)
            }
            Contender::Keepalived => Nodes::Keepalived(keepalives(&pair)?),
            Contender::KeepalivedConntrackd => {
                for (gateway, ends) in pair.gateways.iter().zip([[2, 3], [3, 2]]) {
                    // Without it most connections are invalid to the node that comes back.
                    gateway.sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1")?;
                    rivals.push(Conntrackd::start(pair.lab.folder(), gateway, ends)?);
                }
                Nodes::Keepalived(keepalives(&pair)?)
            }
        };
        Ok(Self { watch, nodes, _rivals: rivals, pair })
    }

    /// Waits until the one that stands by (0 or 1) is ready to take over, by its own account; whether it is can be seen from
    /// outside only when it does.
    pub fn ready(&mut self, standby: usize) -> Result<()> {
        let Nodes::Carp(nodes) = &self.nodes else { return Ok(()) };
        let node = nodes.get(standby).context("two nodes")?;
        node.wait_role("BACKUP", PATIENCE)?;
        node.wait_since(LISTENED, PATIENCE)?;
        clock::wait_for("both nodes to be in step", PATIENCE, || nodes.iter().all(is_in_step).then_some(()))
    }

    /// For how long the datapaths of both served an address in `from..to`.
    pub fn both_serve(&self, from: Instant, to: Instant) -> Span {
        self.watch.as_ref().map(|watch| watch.two_masters(from, to)).unwrap_or_default()
    }

    /// `carpctl failover`, or what comes closest: keepalived's priority is lowered by the file that it tracks.
    pub fn hand_over(&self, back: bool) -> Result<Instant> {
        match &self.nodes {
            Nodes::Carp(_) => self.tell(if back { &["failover", "--back"] } else { &["failover"] }),
            Nodes::Keepalived([gw1, _]) => gw1.offset(if back { 0 } else { LOWERED }),
        }
    }

    /// Has carpctl say this to gw1. Gives the moment.
    pub fn tell(&self, words: &[&str]) -> Result<Instant> {
        let Nodes::Carp([gw1, _]) = &self.nodes else { return Ok(clock::now()) };
        let at = clock::now();
        let output = gw1.carpctl(words)?;
        ensure!(
            output.status.success(),
            "carpctl {words:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(at)
    }

    /// SIGTERM for the daemon of gw1. Gives the moment.
    pub fn begin_stop(&mut self) -> Result<Instant> {
        match &mut self.nodes {
            Nodes::Carp([gw1, _]) => gw1.begin_stop(),
            Nodes::Keepalived([gw1, _]) => gw1.begin_stop(),
        }
    }

    /// Waits for its end.
    pub fn finish_stop(&mut self) -> Result<()> {
        match &mut self.nodes {
            Nodes::Carp([gw1, _]) => gw1.finish_stop().map(drop),
            Nodes::Keepalived([gw1, _]) => gw1.finish_stop(),
        }
    }

    /// SIGKILL for it, with all of its processes. Gives the moment.
    pub fn kill(&mut self) -> Result<Instant> {
        match &mut self.nodes {
            Nodes::Carp([gw1, _]) => gw1.kill(),
            Nodes::Keepalived([gw1, _]) => gw1.kill(),
        }
    }

    /// SIGSTOP, or SIGCONT. Gives the moment.
    pub fn freeze(&mut self, freeze: bool) -> Result<Instant> {
        match &mut self.nodes {
            Nodes::Carp([gw1, _]) if freeze => gw1.freeze(),
            Nodes::Carp([gw1, _]) => gw1.thaw(),
            Nodes::Keepalived([gw1, _]) => gw1.freeze(freeze),
        }
    }

    /// Starts it again. Gives the moment.
    pub fn run(&mut self) -> Result<Instant> {
        let at = clock::now();
        match &mut self.nodes {
            Nodes::Carp([gw1, _]) => gw1.run()?,
            Nodes::Keepalived([gw1, _]) => gw1.run()?,
        }
        Ok(at)
    }

    /// After a freeze a fresh keepalived: one that has been frozen before is a second master for longer each time.
    pub fn refresh(&mut self) -> Result<()> {
        let Nodes::Keepalived([gw1, _]) = &mut self.nodes else { return Ok(()) };
        gw1.begin_stop()?;
        gw1.finish_stop()?;
        gw1.run()
    }
}

fn keepalives(pair: &Pair) -> Result<[Keepalived; 2]> {
    let [one, two] = PRIORITIES;
    let configure = |gateway, priority| Keepalived::configure(pair.lab.folder(), gateway, priority);
    let mut nodes = [configure(pair.gw1(), one)?, configure(pair.gw2(), two)?];
    nodes.iter_mut().try_for_each(Keepalived::run)?;
    Ok(nodes)
}
