//! A guest's first file system: payload, modules, and the script that the kernel starts.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::payload::{self, Payload};
use super::{Job, Task, modules};

/// Lines of the guest that are for us begin so.
pub const MARK: &str = "VMTEST-";
/// Seconds of the guest's clock that a test target may take. Against one that goes on saying something for ever: a test
/// that says nothing is found earlier, and in real time a target takes half an hour with a fifth of a processor.
const LIMIT: u32 = 7200;

/// Writes the archive that QEMU hands to the kernel.
///
/// # Errors
/// A kernel without modules; a full disk.
pub fn write(payload: &Payload, job: &Job, file: &Path) -> Result<()> {
    let mut cpio = payload.common.clone();
    for folder in ["/proc", "/sys", "/dev", "/run", "/tmp", "/root"] {
        cpio.folder(folder)?;
    }
    cpio.device("/dev/console", 5, 1)?;
    cpio.device("/dev/null", 1, 3)?;
    modules::add(&mut cpio, &job.kernel.tree)?;
    payload.add(&mut cpio, &job.task.target)?;
    cpio.file("/init", 0o755, init(&job.task).as_bytes())?;
    fs::write(file, cpio.finish()?)?;
    Ok(())
}

/// The kernel's own messages go to the first serial line, and what is said here to the second: a warning of the
/// kernel's must not cut a line of ours in two. Nothing raises the limit on locked memory, against which kernels before
/// 5.11 count BPF: that is the product's task.
fn init(task: &Task) -> String {
    let Task { target, arguments } = task;
    let arguments: String =
        arguments.iter().map(|word| format!(" '{}'", word.replace('\'', r"'\''"))).collect();
    let test = format!("$B timeout -s KILL {LIMIT} {}/{target} --test-threads=1{arguments}", payload::FOLDER);
    INIT.replace("@MARK@", MARK).replace("@PAYLOAD@", payload::FOLDER).replace("@TEST@", &test)
}

const INIT: &str = r"#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C CARP_PROGRAMS=@PAYLOAD@
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts devpts /dev/pts
for folder in /run /tmp /dev/shm; do $B mount -t tmpfs tmpfs $folder; done
$B mount -t bpf bpf /sys/fs/bpf
$B mount -t cgroup2 cgroup /sys/fs/cgroup
$B ln -s /proc/self/fd /dev/fd
exec </dev/null >/dev/ttyS1 2>&1
$B ip link set lo up
cd /tmp
echo @MARK@BEGIN $($B uname -r)
@TEST@
echo @MARK@END $?
$B poweroff -f
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_the_target_with_its_arguments() {
        let script = init(&Task { target: "xdp_a".to_owned(), arguments: vec!["it's".to_owned()] });
        assert!(script.contains("/payload/xdp_a --test-threads=1 'it'\\''s'\n"));
        assert!(script.contains("echo VMTEST-BEGIN") && !script.contains('@'));
    }
}
