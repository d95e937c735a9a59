//! A gateway's daemon, as a service manager would run it.

use super::config::{Config, Files};
use super::namespace::Namespace;
use super::process::Process;
use super::windows::Windows;
use super::{Lab, clock, roles};
use anyhow::{Context, Result, bail, ensure};
use carp_common::time::{Instant, Span};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

/// Longest that a start or an orderly end may take.
const PATIENCE: Span = Span::secs(10);

/// A node: its configuration, and while it runs, its process.
pub struct Carpd {
    namespace: Namespace,
    instance: String,
    files: Files,
    slots: u32,
    has_datapath: bool,
    /// What it sees as `/etc/group`.
    groups: Option<PathBuf>,
    /// `RUST_LOG`.
    levels: Option<&'static str>,
    process: Option<Process>,
}

impl Carpd {
    /// Writes the configuration of a node; does not start it.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn configure(lab: &Lab, namespace: &Namespace, config: &Config) -> Result<Self> {
        let instance = lab.instance(namespace.host());
        let files = config.write(&lab.folder().join(namespace.host()), &instance)?;
        let slots = u32::try_from(config.hosts.len())?;
        let has_datapath = config.xdp != "off";
        let (namespace, groups, levels, process) = (namespace.clone(), None, None, None);
        Ok(Self { namespace, instance, files, slots, has_datapath, groups, levels, process })
    }

    /// Has it log all that it can from its next start on.
    pub fn log_everything(&mut self) {
        self.levels = Some("trace");
    }

    /// Has it find a group `carp` of this number from its next start on, whatever groups there are.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn with_group(&mut self, gid: u32) -> Result<()> {
        let file = self.files.carp.with_file_name("group");
        std::fs::write(&file, format!("root:x:0:\ncarp:x:{gid}:\n"))?;
        self.groups = Some(file);
        Ok(())
    }

    /// Configures and starts a node, and waits until it answers.
    ///
    /// # Errors
    /// As [`Carpd::run`].
    pub fn start(lab: &Lab, namespace: &Namespace, config: &Config) -> Result<Self> {
        let mut carpd = Self::configure(lab, namespace, config)?;
        carpd.run()?;
        Ok(carpd)
    }

    /// Starts the process and waits until it answers on its control socket.
    ///
    /// # Errors
    /// When it cannot be started, ends at once (with its log) or never answers.
    pub fn run(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} already runs", self.instance);
        let mut process = self.namespace.spawn("carpd", self.command()?)?;
        let end = clock::now() + PATIENCE;
        while self.status().is_err() {
            if let Some(status) = process.ended()? {
                bail!("carpd on {} ended at its start, {status}:\n{}", self.namespace.host(), process.log());
            }
            ensure!(clock::now() < end, "carpd does not answer after {PATIENCE}:\n{}", process.log());
            clock::sleep(Span::millis(5));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Writes another configuration that it can only follow by a full stop and start, and has it read that: SIGHUP.
    /// Waits until it has started again. Gives the moment of the signal.
    ///
    /// # Errors
    /// When the files cannot be written, or it does not start again (with its log).
    pub fn reload(&mut self, config: &Config) -> Result<Instant> {
        self.reread(config, "started node=")
    }

    /// Writes another configuration that it can follow as it runs, and has it read that. Waits until it does. Gives the
    /// moment of the signal.
    ///
    /// # Errors
    /// When the files cannot be written, or it does not follow (with its log).
    pub fn reload_live(&mut self, config: &Config) -> Result<Instant> {
        self.reread(config, "reloaded: ")
    }

    /// Writes another configuration and has it read that. Waits until it has said so in its log once more. Gives the
    /// moment of the signal.
    ///
    /// # Errors
    /// When the files cannot be written, or it does not say so (with its log).
    pub fn reread(&mut self, config: &Config, says: &str) -> Result<Instant> {
        config.write(self.files.carp.parent().context("a folder")?, &self.instance)?;
        let times = |log: &str| log.matches(says).count();
        let before = times(&self.process()?.log());
        let at = self.signal(Signal::HUP)?;
        let what = format!("{} to say: {says}", self.namespace.host());
        let process = self.process()?;
        clock::wait_for(&what, PATIENCE, || (times(&process.log()) > before).then_some(()))
            .with_context(|| process.log())?;
        Ok(at)
    }

    /// The command line of this node's daemon.
    ///
    /// # Errors
    /// When carpd is not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = match &self.groups {
            None => Command::new(product("carpd")?),
            Some(file) => {
                let mut shell = Command::new("unshare");
                shell.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/group && exec \"$@\""]);
                shell.arg(file).arg(product("carpd")?);
                shell
            }
        };
        command.envs(self.levels.map(|levels| ("RUST_LOG", levels)));
        command.arg("--config").arg(&self.files.carp).arg("--node").arg(&self.files.node);
        Ok(command)
    }

    /// SIGTERM, and the wait for its end. Gives the moment of the signal.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub fn stop(&mut self) -> Result<Instant> {
        let at = self.begin_stop()?;
        let status = self.finish_stop()?;
        ensure!(status.success(), "carpd on {} stopped with {status}", self.namespace.host());
        Ok(at)
    }

    /// SIGTERM only. Gives its moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn begin_stop(&mut self) -> Result<Instant> {
        self.signal(Signal::TERM)
    }

    /// Waits for its end after [`Carpd::begin_stop`].
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish_stop(&mut self) -> Result<ExitStatus> {
        let status = self.process()?.wait(PATIENCE)?;
        self.process = None;
        Ok(status)
    }

    /// SIGKILL: no goodbye. Gives its moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<Instant> {
        let at = self.signal(Signal::KILL)?;
        self.finish_stop()?;
        Ok(at)
    }

    /// SIGSTOP: it does nothing, but the kernel goes on. Gives its moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&mut self) -> Result<Instant> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT after [`Carpd::freeze`]. Gives its moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&mut self) -> Result<Instant> {
        self.signal(Signal::CONT)
    }

    /// What it says of itself over its control socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        roles::status(&self.instance)
    }

    /// What `carpctl status --json` says.
    ///
    /// # Errors
    /// When carpctl fails or answers something else than JSON.
    pub fn carpctl_status(&self) -> Result<Value> {
        let output = self.carpctl(&["status", "--json"])?;
        ensure!(output.status.success(), "carpctl: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("carpctl status --json is no JSON")
    }

    /// What carpctl answers for this instance, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn carpctl(&self, words: &[&str]) -> Result<Output> {
        let mut carpctl = Command::new(product("carpctl")?);
        carpctl.args(["--instance", &self.instance]).args(words);
        self.namespace.output(&mut carpctl)
    }

    /// Whether this virtual host has this role (`MASTER`, `BACKUP`, `INIT`). Not while it is down.
    pub fn has_role(&self, slot: usize, role: &str) -> bool {
        let status = self.status().unwrap_or_default();
        status.pointer(&format!("/hosts/{slot}/role")).and_then(Value::as_str) == Some(role)
    }

    /// Whether every virtual host has this role.
    pub fn is_all(&self, role: &str) -> bool {
        let status = self.status().unwrap_or_default();
        let hosts = status.get("hosts").and_then(Value::as_array);
        hosts.is_some_and(|hosts| {
            hosts.iter().all(|host| host.get("role").and_then(Value::as_str) == Some(role))
        })
    }

    /// Waits until every virtual host has this role.
    ///
    /// # Errors
    /// When that has not come true after `limit`; with the last status.
    pub fn wait_role(&self, role: &str, limit: Span) -> Result<()> {
        let what = format!("{} to be {role}", self.namespace.host());
        clock::wait_for(&what, limit, || self.is_all(role).then_some(()))
            .with_context(|| format!("last status: {}", self.status().unwrap_or_default()))
    }

    /// Waits until every virtual host has been in its role for so long.
    ///
    /// # Errors
    /// When that has not come true after `limit`; with the last status.
    pub fn wait_since(&self, since: Span, limit: Span) -> Result<()> {
        let settled = |host: &Value| host["since_ms"].as_u64() >= Some(since.as_millis());
        let all = || {
            let status = self.status().ok()?;
            status["hosts"].as_array()?.iter().all(settled).then_some(())
        };
        let what = format!("{} to stay as it is", self.namespace.host());
        clock::wait_for(&what, limit, all)
            .with_context(|| format!("last status: {}", self.status().unwrap_or_default()))
    }

    /// Waits until its datapath serves every virtual host; not at all when it has none.
    ///
    /// # Errors
    /// When that has not come true after `limit`.
    pub fn wait_serving(&self, limit: Span) -> Result<()> {
        let mut windows = self.windows();
        if !self.has_datapath {
            return Ok(());
        }
        let what = format!("{} to serve", self.namespace.host());
        clock::wait_for(&what, limit, || windows.serves_all().then_some(()))
    }

    /// Runs it where it is expected to give up by itself; gives its exit code and what it said.
    ///
    /// # Errors
    /// When it goes on.
    pub fn refusal(&self) -> Result<(Option<i32>, String)> {
        let mut process = self.namespace.spawn("refused", self.command()?)?;
        let status = process.wait(PATIENCE)?;
        Ok((status.code(), process.log()))
    }

    /// Adverts that this virtual host refused for this reason.
    ///
    /// # Errors
    /// As [`Carpd::status`].
    pub fn refused(&self, slot: usize, reason: &str) -> Result<u64> {
        let status = self.status()?;
        let count = status.pointer(&format!("/hosts/{slot}/refused/{reason}"));
        Ok(count.and_then(Value::as_u64).unwrap_or(0))
    }

    /// The windows of its datapath, which outlive the daemon.
    pub fn windows(&self) -> Windows {
        Windows::of(&self.instance, self.slots)
    }

    /// Name of the instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The host it runs on.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where its configuration lies.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("carpd does not run")
    }

    /// All that it has logged; nothing while it does not run.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The most memory that its process has had, bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn most_memory(&mut self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// What of its files is in its memory now, bytes: the program itself, of which a build for tests has several times as
    /// much as an optimized one.
    ///
    /// # Errors
    /// When it does not run.
    pub fn code_in_memory(&mut self) -> Result<u64> {
        self.memory("RssFile:")
    }

    fn memory(&mut self, field: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process()?.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn signal(&mut self, signal: Signal) -> Result<Instant> {
        let process = self.process()?;
        let at = clock::now();
        process.signal(signal)?;
        Ok(at)
    }
}

/// A binary of the product: in the folder that `CARP_PROGRAMS` names (`cargo xtask test` does, so
/// that it is never a stale one), else beside the running program, or one folder above it (tests
/// run in `deps`).
///
/// # Errors
/// When it is not there.
pub fn product(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folders: Vec<PathBuf> = match std::env::var_os("CARP_PROGRAMS") {
        Some(folder) => vec![folder.into()],
        None => program.ancestors().skip(1).take(2).map(Path::to_path_buf).collect(),
    };
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("no {name} in {folders:?}: build packages carp-user and carp-tests first"))
}
