//! A gateway with keepalived, the independent implementation of VRRP of package `keepalived`, at its fastest: version 3
//! with an advert every 10 ms, LAN and WAN in one sync group.

use super::clock;
use super::namespace::Namespace;
use super::process::Process;
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use rustix::process::{Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest that a start or an orderly end may take.
const PATIENCE: Span = Span::secs(10);

/// Whether there is one on this machine.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("keepalived").is_file())
}

/// A router of two, on a gateway of a [`super::pair::Pair`].
pub struct Keepalived {
    namespace: Namespace,
    /// What its files are called, but for the end.
    files: PathBuf,
    process: Option<Process>,
}

impl Keepalived {
    /// Writes its configuration; does not start it. The higher priority leads, and preempts.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn configure(folder: &Path, namespace: &Namespace, priority: u8) -> Result<Self> {
        let files = folder.join(format!("keepalived-{}", namespace.host()));
        let keepalived = Self { namespace: namespace.clone(), files, process: None };
        keepalived.offset(0)?;
        fs::write(keepalived.file("conf"), configuration(priority, &keepalived.file("offset")))?;
        Ok(keepalived)
    }

    /// Starts it, and waits until its two processes run.
    ///
    /// # Errors
    /// When it cannot be started: is package `keepalived` there? Or ends at once, with its log.
    pub fn run(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "keepalived already runs");
        // After a kill its files are still there.
        for end in ["pid", "vrrp-pid"] {
            fs::remove_file(self.file(end)).ok();
        }
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(self.file("conf"));
        command.arg("--pid").arg(self.file("pid")).arg("--vrrp_pid").arg(self.file("vrrp-pid"));
        let mut process =
            self.namespace.spawn("keepalived", command).context("is package `keepalived` installed?")?;
        let end = clock::now() + PATIENCE;
        while self.child().is_err() {
            ensure!(process.ended()?.is_none(), "keepalived ended at its start:\n{}", process.log());
            ensure!(clock::now() < end, "keepalived does not start:\n{}", process.log());
            clock::sleep(Span::millis(5));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Adds this to its priority from now on: the file that it tracks says so. It notices by itself.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn offset(&self, offset: i8) -> Result<Instant> {
        let at = clock::now();
        fs::write(self.file("offset"), format!("{offset}\n"))?;
        Ok(at)
    }

    /// SIGTERM only. Gives its moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn begin_stop(&mut self) -> Result<Instant> {
        let at = clock::now();
        self.process()?.signal(Signal::TERM)?;
        Ok(at)
    }

    /// Waits for its end after [`Keepalived::begin_stop`].
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish_stop(&mut self) -> Result<()> {
        self.process()?.wait(PATIENCE)?;
        self.process = None;
        Ok(())
    }

    /// SIGKILL for both of its processes. The first is frozen before: it would start the second anew, or that would take the
    /// addresses away when the first is gone. Gives the moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<Instant> {
        let child = self.child()?;
        let at = clock::now();
        self.process()?.signal(Signal::STOP)?;
        rustix::process::kill_process(child, Signal::KILL)?;
        self.process()?.signal(Signal::KILL)?;
        self.finish_stop()?;
        Ok(at)
    }

    /// SIGSTOP, or SIGCONT, for both. Gives the moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self, freeze: bool) -> Result<Instant> {
        let signal = if freeze { Signal::STOP } else { Signal::CONT };
        let (child, at) = (self.child()?, clock::now());
        self.process()?.signal(signal)?;
        rustix::process::kill_process(child, signal)?;
        Ok(at)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("keepalived does not run")
    }

    /// The process that speaks VRRP.
    fn child(&self) -> Result<Pid> {
        let text = fs::read_to_string(self.file("vrrp-pid"))?;
        Pid::from_raw(text.trim().parse()?).context("no process has this number")
    }

    fn file(&self, end: &str) -> PathBuf {
        self.files.with_added_extension(end)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // The first process is ended by its own drop, and would leave the second to end in order.
        if let (Some(_), Ok(child)) = (&self.process, self.child()) {
            rustix::process::kill_process(child, Signal::KILL).ok();
        }
    }
}

fn configuration(priority: u8, offset: &Path) -> String {
    let instance = |name: &str, link: &str, net: u8| {
        format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface {link}
    virtual_router_id {net}
    priority {priority}
    advert_int 0.01
    virtual_ipaddress {{
        10.77.{net}.1/24 dev {link}
    }}
}}
"
        )
    };
    let (lan, wan) = (instance("LAN", "lan0", 1), instance("WAN", "wan0", 2));
    format!(
        "global_defs {{
    vrrp_version 3
}}
track_file offset {{
    file \"{}\"
    weight 1
}}
{lan}{wan}vrrp_sync_group edge {{
    group {{
        LAN
        WAN
    }}
    track_file {{
        offset
    }}
    sync_group_tracking_weight
}}
",
        offset.display()
    )
}
