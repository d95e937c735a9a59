//! One virtual machine, from its start to its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::transcript::Transcript;
use crate::command::{line, which};

/// From start to the first word; 4 s on an idle machine, 15 s with virtual time on a busy one, two minutes where it gets a
/// twentieth of a processor.
const BOOT: Duration = Duration::from_secs(300);
/// Between two lines. A test says when it begins, so this is the longest that one may take: the one that starts the
/// datapath sixty times, over those of other versions, takes a busy machine ten minutes.
const SILENCE: Duration = Duration::from_secs(1800);

/// Whose time the guest lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Time {
    /// The guest's clock counts instructions, a nanosecond each: its timers are exact to 60 µs however busy this
    /// machine is, and idle time costs nothing. One processor; with two, 6.1 does not boot.
    Virtual,
    /// Two processors, and timers that may be 40 ms late.
    Real,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with a status.
    Finished,
    /// Without a word.
    NeverStarted,
    /// We ended it: it had said nothing for too long. Where its processors were.
    Silent(String),
    /// By itself, before its end: a panic.
    Died,
}

impl Time {
    /// The guest's choice of its clock. In real time its processor's counter is this machine's, and the guest finds out
    /// its rate while both are busy: that has come out a fifteenth of what it is. The HPET says its rate itself.
    fn clock(self) -> &'static str {
        match self {
            Self::Virtual => "clocksource=tsc",
            Self::Real => "clocksource=hpet",
        }
    }
}

/// What a machine is made of.
pub struct Machine<'a> {
    /// The kernel, uncompressed.
    pub kernel: &'a Path,
    /// Its first file system.
    pub files: &'a Path,
    /// Whose time it lives in.
    pub time: Time,
    /// Its two logs are called so, with `.log` and `.kernel.log`.
    pub logs: PathBuf,
}

impl Machine<'_> {
    /// Boots it and takes down what it says.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn run(&self) -> Result<(Transcript, End)> {
        let mut command = self.command()?;
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(&command)))?;
        let output = child.stdout.take().context("QEMU without output")?;
        let lines = lines_of(output, File::create(self.log())?);
        let mut transcript = Transcript::default();
        let is_silent = loop {
            let limit = if transcript.release.is_none() { BOOT } else { SILENCE };
            match lines.recv_timeout(limit) {
                Ok(line) => transcript.read(&line),
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        let where_it_was = if is_silent { self.registers() } else { String::new() };
        child.kill().ok(); // in vain when it has ended by itself
        child.wait()?;
        let end = match (&transcript.status, &transcript.release) {
            (Some(_), _) => End::Finished,
            (None, None) => End::NeverStarted,
            (None, Some(_)) if is_silent => End::Silent(where_it_was),
            (None, Some(_)) => End::Died,
        };
        Ok((transcript, end))
    }

    /// What the guest said.
    pub fn log(&self) -> PathBuf {
        self.logs.with_added_extension("log")
    }

    /// The end of what its kernel said.
    pub fn last_words(&self) -> String {
        let mut said = Vec::new();
        File::open(self.kernel_log()).and_then(|mut file| file.read_to_end(&mut said)).ok();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn command(&self) -> Result<Command> {
        // So that it never outlives us, whatever becomes of us. The signal comes when the *thread* ends that started
        // it, which waits here.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(which(QEMU).with_context(|| format!("no {QEMU}"))?);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]);
        // KVM is not asked for: /dev/kvm may open and not run an ordinary kernel. One thread for all processors:
        // with one each, QEMU 7.2 crashes the guest once in 60 boots. Without `erms` the guest copies words, which
        // are emulated one by one like bytes.
        command.args([
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max,-erms,-fsrm",
            "-m",
            "2048",
        ]);
        match self.time {
            Time::Real => command.args(["-smp", "2"]),
            Time::Virtual => command
                .args(["-smp", "1", "-icount", "shift=0,sleep=off"])
                .args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]),
        };
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.files);
        command.args(["-append", &format!("{BOOT_LINE} {}", self.time.clock())]);
        let kernel_log = self.kernel_log();
        command.args(["-chardev", &format!("file,id=kernel,path={}", kernel_log.display())]);
        command.args(["-chardev", "stdio,id=said,signal=off", "-serial", "chardev:kernel"]);
        command.args(["-serial", "chardev:said"]);
        command.args(["-monitor", &format!("unix:{},server=on,wait=off", self.monitor().display())]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }

    fn kernel_log(&self) -> PathBuf {
        self.logs.with_added_extension("kernel.log")
    }

    fn monitor(&self) -> PathBuf {
        self.logs.with_added_extension("monitor")
    }

    /// Where its processors are, for the report of a hang.
    fn registers(&self) -> String {
        let Ok(mut monitor) = UnixStream::connect(self.monitor()) else { return "no monitor".to_owned() };
        let mut said = Vec::new();
        monitor.set_read_timeout(Some(Duration::from_secs(2))).ok();
        monitor.write_all(b"info registers -a\n").ok();
        monitor.read_to_end(&mut said).ok(); // until it says no more
        let said = String::from_utf8_lossy(&said);
        let lines =
            said.lines().map(str::trim).filter(|line| line.starts_with("CPU#") || line.starts_with("RIP="));
        lines.collect::<Vec<_>>().join("\n")
    }
}

const QEMU: &str = "qemu-system-x86_64";

/// A panic ends the machine at once; nothing is probed that it does not have.
const BOOT_LINE: &str = "console=ttyS0 panic=-1 oops=panic loglevel=4 quiet nokaslr mitigations=off no_timer_check \
    tsc=reliable random.trust_cpu=on init_on_alloc=0 rcupdate.rcu_expedited=1 cryptomgr.notests audit=0 selinux=0 \
    apparmor=0 nowatchdog edd=off i8042.noaux i8042.nokbd i8042.dumbkbd 8250.nr_uarts=2 pci=lastbus=0 reboot=t \
    rdinit=/init";

/// Its lines as they come, each also into the log.
fn lines_of(output: ChildStdout, mut log: File) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            log.write_all(&line).and_then(|()| log.write_all(b"\n")).ok();
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return; // nobody waits any more
            }
        }
    });
    receiver
}
