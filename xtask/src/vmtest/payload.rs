//! What runs in the guest: the test executables, the product's programs, and the tools that they call, each with
//! its shared libraries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cpio::Cpio;
use crate::command::{capture, cargo, line, run, target_dir, which};

/// Where tests and the product's programs are in the guest.
pub const FOLDER: &str = "/payload";

/// Tools that the tests and the lab's guard call. Others are busybox's.
const TOOLS: [&str; 10] =
    ["ip", "bridge", "tc", "nft", "ping", "tcpdump", "ucarp", "bpftool", "setpriv", "sysctl"];

/// A tool that one target alone calls: its libraries are half as large as everything else.
const TOOL_OF_A_TARGET: [(&str, &str); 1] = [("lab_keepalived", "keepalived")];

/// What goes into the guests.
pub struct Payload {
    /// For every guest.
    pub common: Cpio,
    tests: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

impl Payload {
    /// Builds the tests and the programs.
    ///
    /// # Errors
    /// Something does not compile, or a tool is not installed.
    pub fn collect(targets: &[&str], work: &Path) -> Result<Self> {
        let folder = work.join("stripped");
        fs::create_dir_all(&folder)?;
        let mut common = Cpio::default();
        let busybox = which("busybox").context("no busybox")?;
        add_program(&mut common, &busybox, "/bin/busybox")?;
        for tool in TOOLS {
            add_tool(&mut common, tool)?;
        }
        // Not busybox's: Debian's would take its own applets for ip and ping, whatever PATH says.
        add_program(&mut common, Path::new("/bin/dash"), "/bin/sh")?;
        for applet in capture(Command::new(&busybox).arg("--list"))?.split_whitespace() {
            // What has been added stays.
            common.link(&format!("/bin/{applet}"), "/bin/busybox")?;
        }
        common.link("/sbin/modprobe", "/bin/busybox")?; // the kernel calls it by this path
        common.file("/etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
        common.file("/etc/group", 0o644, b"root:x:0:\n")?;
        for (name, file) in programs()? {
            add_program(&mut common, &stripped(&name, &file, &folder)?, &format!("{FOLDER}/{name}"))?;
        }
        let mut tests = tests(targets)?;
        for (name, file) in &mut tests {
            *file = stripped(name, file, &folder)?;
        }
        Ok(Self { common, tests, folder })
    }

    /// Adds a test, and the tool that it alone needs.
    ///
    /// # Errors
    /// When there is none of this name; a tool is not installed.
    pub fn add(&self, cpio: &mut Cpio, target: &str) -> Result<()> {
        for (_, tool) in TOOL_OF_A_TARGET.iter().filter(|(only, _)| *only == target) {
            add_tool(cpio, tool)?;
        }
        let file = self.tests.get(target).with_context(|| format!("cargo built no test {target}"))?;
        add_program(cpio, file, &format!("{FOLDER}/{target}"))
    }

    /// Removes the files that it is made of.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn forget(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

fn programs() -> Result<BTreeMap<String, PathBuf>> {
    let packages = ["--package", "carp-user", "--package", "carp-tests"];
    built(cargo().args(["build", "--release", "--locked", "--bins"]).args(packages), "bin")
}

/// Optimised, too: an emulated processor takes a third of the time for them.
fn tests(targets: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut tests = cargo();
    tests.args(["test", "--release", "--workspace", "--locked", "--no-run"]);
    for name in targets {
        tests.args(["--test", name]);
    }
    built(&mut tests, "test")
}

/// Without debug information, which is nine tenths of it.
fn stripped(name: &str, file: &Path, folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join(name);
    run(Command::new("strip").arg("-o").arg(&stripped).arg(file))?;
    Ok(stripped)
}

/// Builds, and says which executables of this kind that made.
fn built(command: &mut Command, kind: &str) -> Result<BTreeMap<String, PathBuf>> {
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", line(command), output.status);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().filter_map(|message| executable(message, kind)).collect())
}

fn executable(message: &str, kind: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let is_of_kind = target.get("kind")?.as_array()?.iter().any(|one| one == kind);
    let file = message.get("executable")?.as_str()?;
    is_of_kind.then_some((target.get("name")?.as_str()?.to_owned(), target_dir().join(file)))
}

fn add_tool(cpio: &mut Cpio, tool: &str) -> Result<()> {
    let file = which(tool).with_context(|| format!("no `{tool}` on this machine"))?;
    add_program(cpio, &file, &format!("/usr/bin/{tool}"))
}

/// A program under this path, and its shared libraries under theirs.
fn add_program(cpio: &mut Cpio, file: &Path, path: &str) -> Result<()> {
    cpio.file(path, 0o755, &read(file)?)?;
    // Fails for what needs none.
    let libraries = capture(Command::new("ldd").arg(file)).unwrap_or_default();
    for library in libraries.lines().filter_map(library) {
        if !cpio.contains(library) {
            cpio.file(library, 0o755, &read(Path::new(library))?)?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The file in a line of ldd: `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld-linux.so.2 (0x…)`.
fn library(line: &str) -> Option<&str> {
    let (file, _) = line.trim().rsplit_once(" (0x")?;
    let file = file.rsplit_once("=> ").map_or(file, |(_, file)| file);
    file.starts_with('/').then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(
            said.lines().filter_map(library).collect::<Vec<_>>(),
            ["/lib/x/libc.so.6", "/lib64/ld.so.2"]
        );
        assert_eq!(library("\tnot a dynamic executable"), None);
    }

    #[test]
    fn only_executables_of_the_kind_count() {
        let message = r#"{"target":{"kind":["test"],"name":"lab_pair"},"executable":"/x/lab_pair-1"}"#;
        assert_eq!(
            executable(message, "test"),
            Some(("lab_pair".to_owned(), PathBuf::from("/x/lab_pair-1")))
        );
        assert_eq!(executable(message, "bin"), None);
        assert_eq!(executable(r#"{"reason":"build-finished"}"#, "test"), None);
    }
}
