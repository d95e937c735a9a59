//! A gateway whose connections conntrackd replicates: the independent implementation of package `conntrackd`.

use super::clock;
use super::namespace::Namespace;
use super::process::Process;
use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest that a start may take.
const PATIENCE: Span = Span::secs(10);

/// Whether there is one on this machine.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("conntrackd").is_file())
}

/// A running conntrackd.
pub struct Conntrackd {
    namespace: Namespace,
    file: PathBuf,
    process: Process,
}

impl Conntrackd {
    /// Starts it on a gateway of a [`super::pair::Pair`], whose address on the sync link ends with `own` and the other
    /// one's with `peer`, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started: is package `conntrackd` there? Or ends at once, with its log.
    pub fn start(folder: &Path, namespace: &Namespace, [own, peer]: [u8; 2]) -> Result<Self> {
        let place = |end: &str| folder.join(format!("conntrackd-{own}.{end}"));
        let (file, lock, socket) = (place("conf"), place("lock"), place("ctl"));
        fs::write(&file, configuration(own, peer, &lock, &socket))?;
        let mut command = Command::new("conntrackd");
        command.arg("-C").arg(&file);
        let process = namespace.spawn("conntrackd", command).context("is package `conntrackd` installed?")?;
        let mut conntrackd = Self { namespace: namespace.clone(), file, process };
        let end = clock::now() + PATIENCE;
        while conntrackd.statistics().is_err() {
            let log = conntrackd.process.log();
            ensure!(conntrackd.process.ended()?.is_none(), "conntrackd ended at its start:\n{log}");
            ensure!(clock::now() < end, "conntrackd does not answer after {PATIENCE}:\n{log}");
            clock::sleep(Span::millis(20));
        }
        Ok(conntrackd)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn statistics(&self) -> Result<String> {
        let mut ask = Command::new("conntrackd");
        ask.arg("-C").arg(&self.file).arg("-s");
        let output = self.namespace.output(&mut ask)?;
        ensure!(output.status.success(), "conntrackd: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// FTFW, its reliable mode, as in Debian's example but for three things: the entries go straight into the other
/// kernel, the cable is a plain one (UDP), and everything has room for a million connections.
fn configuration(own: u8, peer: u8, lock: &Path, socket: &Path) -> String {
    let (lock, socket) = (lock.display(), socket.display());
    format!(
        "Sync {{
    Mode FTFW {{
        DisableExternalCache On
    }}
    UDP {{
        IPv4_address 10.77.9.{own}
        IPv4_Destination_Address 10.77.9.{peer}
        Port 3780
        Interface sync0
        SndSocketBuffer 67108864
        RcvSocketBuffer 67108864
        Checksum on
    }}
}}
General {{
    HashSize 524288
    HashLimit 2097152
    LogFile off
    Syslog off
    LockFile {lock}
    UNIX {{
        Path {socket}
    }}
    NetlinkBufferSize 67108864
    NetlinkBufferSizeMaxGrowth 268435456
    Filter From Kernelspace {{
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address 10.77.9.2
            IPv4_address 10.77.9.3
        }}
    }}
}}
"
    )
}
