//! What happens to gw1, and how it is undone.

use super::contender::Couple;
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use carp_tests::lab::clock;
use carp_tests::lab::namespace::Namespace;
use clap::ValueEnum;
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// What happens to gw1, the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// It is told to hand over (carpctl failover), and then to take back
    Planned,
    /// It goes into maintenance, and comes out of it
    Maintenance,
    /// SIGTERM for its daemon, which is then started again
    Sigterm,
    /// SIGKILL for its daemon, which is then started again
    Sigkill,
    /// SIGSTOP for its daemon, then SIGCONT
    Sigstop,
    /// Its links to LAN and WAN go down, and come up again; the sync link stays
    LinksDown,
    /// Nothing gets through to it or from it, sync link included, and no link goes down
    CutOff,
}

/// What is asked of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody wanted it: nobody may notice.
    Planned,
    /// The daemon is gone or does not run, the kernel goes on.
    Daemon,
    /// The network is gone.
    Network,
}

impl Fault {
    /// In tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned move",
            Self::Maintenance => "maintenance",
            Self::Sigterm => "SIGTERM",
            Self::Sigkill => "kill -9",
            Self::Sigstop => "SIGSTOP",
            Self::LinksDown => "links down",
            Self::CutOff => "cut off",
        }
    }

    /// What follows it.
    pub const fn back(self) -> &'static str {
        match self {
            Self::Planned => "planned move: back",
            Self::Maintenance => "maintenance: over",
            Self::Sigterm => "SIGTERM: started again",
            Self::Sigkill => "kill -9: started again",
            Self::Sigstop => "SIGSTOP: SIGCONT",
            Self::LinksDown => "links down: up again",
            Self::CutOff => "cut off: through again",
        }
    }

    /// What is asked of ours.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Planned | Self::Maintenance | Self::Sigterm => Kind::Planned,
            Self::Sigkill | Self::Sigstop => Kind::Daemon,
            Self::LinksDown | Self::CutOff => Kind::Network,
        }
    }

    /// How long is looked on after gw2 serves. Where gw1's kernel goes on, two masters would stay.
    pub const fn aftermath(self) -> Span {
        match self.kind() {
            Kind::Planned | Kind::Network => Span::secs(1),
            Kind::Daemon => Span::millis(2_500),
        }
    }

    /// Does it. Gives the moment.
    pub fn inflict(self, couple: &mut Couple) -> Result<Instant> {
        match self {
            Self::Planned => couple.hand_over(false),
            Self::Maintenance => couple.tell(&["maintenance", "on"]),
            Self::Sigterm => couple.begin_stop(),
            Self::Sigkill => couple.kill(),
            Self::Sigstop => couple.freeze(true),
            Self::LinksDown => ports(couple, Tool::Ip, "down"),
            Self::CutOff => {
                let [gw1, gw2] = &couple.pair.gateways;
                [gw1, gw2].into_iter().try_for_each(|gateway| gateway.load_rules(DEAF))?;
                ports(couple, Tool::Bridge, "0")
            }
        }
    }

    /// Undoes it. Gives the moment from which gw1 could do its work again.
    pub fn repair(self, couple: &mut Couple) -> Result<Instant> {
        match self {
            Self::Planned => couple.hand_over(true),
            Self::Maintenance => couple.tell(&["maintenance", "off"]),
            Self::Sigterm => {
                couple.finish_stop()?;
                couple.run()
            }
            Self::Sigkill => couple.run(),
            Self::Sigstop => couple.freeze(false),
            Self::LinksDown => ports(couple, Tool::Ip, "up"),
            Self::CutOff => {
                let at = ports(couple, Tool::Bridge, "3")?;
                let [gw1, gw2] = &couple.pair.gateways;
                [gw1, gw2].into_iter().try_for_each(|gateway| gateway.load_rules(HEARS))?;
                Ok(at)
            }
        }
    }
}

/// Nothing comes in by the sync link.
const DEAF: &str = "table netdev cut {
    chain in {
        type filter hook ingress device sync0 priority -500; policy drop;
    }
}
";
const HEARS: &str = "delete table netdev cut\n";

#[derive(Clone, Copy)]
enum Tool {
    Ip,
    Bridge,
}

/// Does the same to both of gw1's ports of the switch, within a millisecond: a daemon could say goodbye by the second. The
/// program is there and waits for its words by then. Gives the moment.
fn ports(couple: &Couple, tool: Tool, value: &str) -> Result<Instant> {
    let words = |port: &str| match tool {
        Tool::Ip => format!("link set dev {port} {value}\n"),
        Tool::Bridge => format!("link set dev {port} state {value}\n"),
    };
    let words = ["lan-gw1", "wan-gw1"].map(words).concat();
    let mut child = waiting(&couple.pair.switch, tool)?;
    clock::sleep(Span::millis(50));
    let mut pipe = child.stdin.take().context("its input")?;
    let at = clock::now();
    pipe.write_all(words.as_bytes())?;
    drop(pipe);
    let done = child.wait()?;
    ensure!(done.success(), "the ports of gw1 cannot be set: {done}");
    Ok(at)
}

fn waiting(switch: &Namespace, tool: Tool) -> Result<Child> {
    let program = match tool {
        Tool::Ip => "ip",
        Tool::Bridge => "bridge",
    };
    let mut command = Command::new(program);
    command.args(["-n", switch.name(), "-batch", "-"]).stdin(Stdio::piped());
    command.spawn().with_context(|| format!("starting {program}"))
}
