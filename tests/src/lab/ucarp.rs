//! A gateway run by ucarp, the independent implementation of package `ucarp`.

use super::clock;
use super::namespace::Namespace;
use super::process::Process;
use anyhow::{Context, Result};
use carp_common::time::{Instant, Span};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How ucarp is started; one vhid, one IPv4 address.
#[derive(Clone, Debug)]
pub struct Options {
    /// Link.
    pub interface: &'static str,
    /// The link's own address.
    pub source: &'static str,
    /// The virtual address.
    pub vip: &'static str,
    /// 1..=255.
    pub vhid: u8,
    /// Seconds.
    pub base: u8,
    /// 1/256 s.
    pub skew: u8,
    /// Whether it takes over from a worse master.
    pub preempt: bool,
    /// The shared secret.
    pub password: &'static str,
}

/// A running ucarp.
pub struct Ucarp {
    namespace: Namespace,
    options: Options,
    process: Process,
}

impl Options {
    /// On the LAN of a [`super::pair::Pair`], with the password of [`super::config::Config::gateway`].
    pub fn lan(source: &'static str) -> Self {
        Self {
            interface: "lan0",
            source,
            vip: "10.77.1.1",
            vhid: 1,
            base: 1,
            skew: 0,
            preempt: false,
            password: "lab secret",
        }
    }
}

impl Ucarp {
    /// Starts it; it is a backup at first.
    ///
    /// # Errors
    /// When it cannot be started: is package `ucarp` there?
    pub fn start(folder: &Path, namespace: &Namespace, options: &Options) -> Result<Self> {
        let up = script(folder, "up", "ip address replace \"$2/24\" dev \"$1\"")?;
        let down = script(folder, "down", "ip address del \"$2/24\" dev \"$1\" || true")?;
        let Options { interface, source, vip, vhid, base, skew, preempt, password } = options;
        let mut command = Command::new("ucarp");
        command.arg(format!("--interface={interface}")).arg(format!("--srcip={source}"));
        command.arg(format!("--vhid={vhid}")).arg(format!("--pass={password}")).arg(format!("--addr={vip}"));
        command.arg(format!("--advbase={base}")).arg(format!("--advskew={skew}")).arg("--shutdown");
        command.arg("--upscript").arg(up).arg("--downscript").arg(down);
        if *preempt {
            command.arg("--preempt");
        }
        let process = namespace.spawn("ucarp", command).context("is package `ucarp` installed?")?;
        Ok(Self { namespace: namespace.clone(), options: options.clone(), process })
    }

    /// Whether it holds the address: its up script has run, and the down script has not.
    pub fn is_master(&self) -> bool {
        let Options { interface, vip, .. } = &self.options;
        let listed = self.namespace.ip(&format!("-o address show dev {interface} to {vip}/32"));
        listed.is_ok_and(|text| !text.trim().is_empty())
    }

    /// Waits until it is master, or is not.
    ///
    /// # Errors
    /// When that has not come true after `limit`.
    pub fn wait_master(&self, master: bool, limit: Span) -> Result<()> {
        let what =
            format!("ucarp on {} to be {}", self.namespace.host(), ["backup", "master"][usize::from(master)]);
        clock::wait_for(&what, limit, || (self.is_master() == master).then_some(()))
    }

    /// SIGTERM and the wait: the down script runs; ucarp says no goodbye to its peers.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<Instant> {
        let at = clock::now();
        self.process.signal(Signal::TERM)?;
        self.process.wait(Span::secs(15))?;
        Ok(at)
    }

    /// SIGKILL, and its address taken away, as if the machine were gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(mut self) -> Result<Instant> {
        let at = clock::now();
        self.process.signal(Signal::KILL)?;
        self.process.wait(Span::secs(5))?;
        let Options { interface, vip, .. } = &self.options;
        // Not there when it was backup.
        self.namespace.ip(&format!("address del {vip}/24 dev {interface}")).ok();
        Ok(at)
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn script(folder: &Path, name: &str, body: &str) -> Result<PathBuf> {
    let path = folder.join(format!("ucarp-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{body}\n"))
        .with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
