//! The usual place: a client, two gateways and a server.
//!
//! ```text
//!  client ── lan ──┬── gw1 ──┬── wan ── server
//!   .1.10          │    │    │           .2.10
//!                  │  sync   │
//!                  └── gw2 ──┘
//! ```
//!
//! LAN 10.77.1.0/24 and fd77:1::/64, WAN 10.77.2.0/24 and fd77:2::/64; gw1 is .2, gw2 is .3, the
//! virtual addresses are .1; between them is a cable, 10.77.9.0/24. Client and server have their default routes over the virtual addresses. The
//! bridges `lan` and `wan` are in a namespace `switch`, whose ports are called `lan-gw1` and so on.

use super::namespace::Namespace;
use super::process::run_with_input;
use super::{Lab, Purpose};
use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use std::fmt::Write;
use std::process::Command;

/// The four hosts and the switch between them.
pub struct Pair {
    /// On the LAN.
    pub client: Namespace,
    /// Gateway of two: [0] is gw1, [1] is gw2. Links `lan0`, `wan0` and `sync0`.
    pub gateways: [Namespace; 2],
    /// On the WAN.
    pub server: Namespace,
    /// Both bridges.
    pub switch: Namespace,
    passes: Vec<OwnedFd>,
    /// Last, so that all else is gone when it cleans up.
    pub lab: Lab,
}

impl Pair {
    /// Builds it all; a quarter of a second.
    ///
    /// # Errors
    /// When a step fails; nothing stays behind.
    pub fn new(purpose: Purpose) -> Result<Self> {
        let lab = Lab::new(purpose)?;
        let [client, gw1, gw2, server, switch] = ["client", "gw1", "gw2", "server", "switch"];
        let (client, server, switch) =
            (lab.namespace(client)?, lab.namespace(server)?, lab.namespace(switch)?);
        let gateways = [lab.namespace(gw1)?, lab.namespace(gw2)?];
        let mut pair = Self { client, gateways, server, switch, passes: Vec::new(), lab };
        pair.switch.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        for gateway in &pair.gateways {
            gateway.sysctl("ipv4/ip_forward", "1")?;
            gateway.sysctl("ipv6/conf/all/forwarding", "1")?;
        }
        run_with_input(Command::new("ip").args(["-batch", "-"]), &pair.links())?;
        for (namespace, script) in pair.addresses() {
            run_with_input(Command::new("ip").args(["-n", namespace.name(), "-batch", "-"]), &script)?;
        }
        for port in ["lan-gw1", "lan-gw2", "wan-gw1", "wan-gw2"] {
            pair.passes.push(pair.switch.xdp_pass(port)?);
        }
        Ok(pair)
    }

    /// Leaves it all up until [`super::clean`]; for a lab of [`Purpose::Keep`].
    ///
    /// # Errors
    /// When the kernel or the file system refuses; then it is removed as usual.
    pub fn keep(self) -> Result<()> {
        for (number, pass) in self.passes.iter().enumerate() {
            self.lab.pin(pass, &format!("pass{number}"))?;
        }
        self.lab.keep()
    }

    /// gw1.
    pub fn gw1(&self) -> &Namespace {
        let [gw1, _] = &self.gateways;
        gw1
    }

    /// gw2.
    pub fn gw2(&self) -> &Namespace {
        let [_, gw2] = &self.gateways;
        gw2
    }

    /// Pulls a cable out of the switch, or puts it back: port `lan-gw1` and so on. The host at its
    /// end sees the carrier go.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn plug(&self, port: &str, up: bool) -> Result<()> {
        self.switch.ip(&format!("link set dev {port} {}", if up { "up" } else { "down" })).map(drop)
    }

    /// Whether the switch takes and sends anything by this port: the host behind it has a carrier nevertheless.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn carries(&self, port: &str, carries: bool) -> Result<()> {
        let mut bridge = Command::new("bridge");
        bridge.args(["link", "set", "dev", port, "state", if carries { "3" } else { "0" }]);
        ensure!(self.switch.output(&mut bridge)?.status.success(), "{port} stays as it was");
        Ok(())
    }

    /// Whether the host behind this port of the switch gets what is for many.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn hears_multicast(&self, port: &str, hears: bool) -> Result<()> {
        let mut bridge = Command::new("bridge");
        bridge.args(["link", "set", "dev", port, "mcast_flood", if hears { "on" } else { "off" }]);
        ensure!(self.switch.output(&mut bridge)?.status.success(), "{port} stays as it was");
        Ok(())
    }

    /// Takes a gateway (0 or 1) off all its cables, as a machine without power is, or puts them back.
    ///
    /// # Errors
    /// When there is no such gateway.
    pub fn connect(&self, gateway: usize, up: bool) -> Result<()> {
        let gateway = self.gateways.get(gateway).context("there are two gateways")?;
        for net in ["lan", "wan"] {
            self.plug(&format!("{net}-{}", gateway.host()), up)?;
        }
        gateway.ip(&format!("link set dev sync0 {}", if up { "up" } else { "down" })).map(drop)
    }

    /// The port behind which the bridge `net` knows `mac`; none when it has to flood.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn learned(&self, net: &str, mac: &str) -> Result<Option<String>> {
        let mut bridge = Command::new("bridge");
        bridge.args(["fdb", "show", "br", net]);
        let text = self.switch.output(&mut bridge)?.stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        let entry = text.lines().find(|line| line.starts_with(mac) && !line.contains("self"));
        Ok(entry.and_then(|line| line.split(' ').nth(2)).map(str::to_owned))
    }

    /// Cables, from the first namespace: both ends are made where they belong.
    fn links(&self) -> String {
        let switch = self.switch.name();
        let [gw1, gw2] = &self.gateways;
        let cables = [
            ("lan", &self.client, "eth0"),
            ("lan", gw1, "lan0"),
            ("lan", gw2, "lan0"),
            ("wan", &self.server, "eth0"),
            ("wan", gw1, "wan0"),
            ("wan", gw2, "wan0"),
        ];
        let sync =
            format!("link add sync0 netns {} type veth peer name sync0 netns {}\n", gw1.name(), gw2.name());
        cables.iter().fold(sync, |mut text, (net, host, link)| {
            let (port, host) = (format!("{net}-{}", host.host()), host.name());
            // Writing to a String cannot fail.
            writeln!(text, "link add {port} netns {switch} type veth peer name {link} netns {host}").ok();
            text
        })
    }

    fn addresses(&self) -> [(&Namespace, String); 5] {
        let mut switch = String::new();
        for (net, host) in [("lan", "client"), ("wan", "server")] {
            // Writing to a String cannot fail.
            writeln!(switch, "link add {net} up type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
                .ok();
            for port in [host, "gw1", "gw2"] {
                writeln!(switch, "link set {net}-{port} master {net} up").ok();
            }
        }
        let [gw1, gw2] = &self.gateways;
        [
            (&self.switch, switch),
            (gw1, gateway(2)),
            (gw2, gateway(3)),
            (&self.client, end_host(1)),
            (&self.server, end_host(2)),
        ]
    }
}

fn gateway(number: u8) -> String {
    [("lan0", 1), ("wan0", 2), ("sync0", 9)].map(|(link, net)| interface(link, net, number)).concat()
}

fn end_host(net: u8) -> String {
    let routes = format!("route add default via 10.77.{net}.1\nroute add default via fd77:{net}::1\n");
    format!("{}{routes}", interface("eth0", net, 10))
}

/// Words for `ip` that set up a link with the addresses of a host in a network.
pub(super) fn interface(link: &str, net: u8, number: u8) -> String {
    let v4 = format!("address add 10.77.{net}.{number}/24 dev {link}");
    let v6 = format!("address add fd77:{net}::{number}/64 dev {link} nodad");
    format!("link set {link} up\n{v4}\n{v6}\n")
}
