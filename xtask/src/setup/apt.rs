//! Packages of the distribution, and components of the Rust toolchain.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::{Report, Scope};
use crate::command::{self, capture, is_root, run, which};

/// What a package is known by: its Debian name, and the file that shows that it is there. Looking for the file
/// is faster than asking dpkg, and right on machines that have the tool from elsewhere.
struct Package {
    name: &'static str,
    sign: Sign,
    scope: Scope,
}

enum Sign {
    Program(&'static str),
    File(&'static str),
}

const PACKAGES: [Package; 24] = [
    Package { name: "git", sign: Sign::Program("git"), scope: Scope::Build },
    Package { name: "gcc", sign: Sign::Program("cc"), scope: Scope::Build },
    Package { name: "libc6-dev", sign: Sign::File("/usr/include/stdio.h"), scope: Scope::Build },
    Package { name: "iproute2", sign: Sign::Program("ip"), scope: Scope::Demo },
    Package { name: "iputils-ping", sign: Sign::Program("ping"), scope: Scope::Demo },
    Package { name: "nftables", sign: Sign::Program("nft"), scope: Scope::Demo },
    Package { name: "bpftool", sign: Sign::Program("bpftool"), scope: Scope::Test },
    Package { name: "tcpdump", sign: Sign::Program("tcpdump"), scope: Scope::Test },
    Package { name: "tshark", sign: Sign::Program("tshark"), scope: Scope::Test },
    Package { name: "keepalived", sign: Sign::Program("keepalived"), scope: Scope::Test },
    Package { name: "ucarp", sign: Sign::Program("ucarp"), scope: Scope::Test },
    Package { name: "conntrackd", sign: Sign::Program("conntrackd"), scope: Scope::Test },
    Package { name: "python3", sign: Sign::Program("python3"), scope: Scope::Test },
    Package { name: "qemu-system-x86", sign: Sign::Program("qemu-system-x86_64"), scope: Scope::Vm },
    Package { name: "busybox-static", sign: Sign::Program("busybox"), scope: Scope::Vm },
    Package { name: "dash", sign: Sign::File("/bin/dash"), scope: Scope::Vm },
    Package { name: "util-linux", sign: Sign::Program("setpriv"), scope: Scope::Vm },
    Package { name: "procps", sign: Sign::Program("sysctl"), scope: Scope::Vm },
    Package { name: "binutils", sign: Sign::Program("strip"), scope: Scope::Vm },
    Package { name: "zstd", sign: Sign::Program("zstd"), scope: Scope::Vm },
    Package { name: "lz4", sign: Sign::Program("lz4"), scope: Scope::Vm },
    Package { name: "xz-utils", sign: Sign::Program("xz"), scope: Scope::Vm },
    Package {
        name: "debian-archive-keyring",
        sign: Sign::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        scope: Scope::Vm,
    },
    Package { name: "g++", sign: Sign::Program("c++"), scope: Scope::Fuzz },
];

impl Package {
    fn is_present(&self) -> bool {
        match self.sign {
            Sign::Program(name) => which(name).is_some(),
            Sign::File(path) => Path::new(path).exists(),
        }
    }
}

/// Installs the packages of `scope` that are missing.
pub fn packages(scope: Scope, report: Report) -> Result<()> {
    let missing = missing(scope, report);
    if missing.is_empty() {
        return Ok(());
    }
    if which("apt-get").is_none() {
        bail!("missing on this machine, which has no apt: {} (names as in Debian)", missing.join(", "));
    }
    if !is_root() {
        for name in &missing {
            println!("would need {name}");
        }
        bail!(
            "run this, then again what you ran:\n  sudo apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        );
    }
    install(&missing)?;
    for name in missing {
        report.installed(name);
    }
    Ok(())
}

/// The packages of `scope` that are not here.
pub fn missing(scope: Scope, report: Report) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for package in PACKAGES.iter().filter(|package| scope.includes(package.scope)) {
        if package.is_present() {
            report.present(package.name);
        } else {
            missing.push(package.name);
        }
    }
    missing
}

/// rustfmt and clippy: a minimal rustup profile has neither.
pub fn components(report: Report) -> Result<()> {
    let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    let bin = Path::new(sysroot.trim()).join("bin");
    let has = |name: &str| bin.join(name).exists() || (which("rustup").is_none() && which(name).is_some());
    if has("cargo-fmt") && has("cargo-clippy") {
        report.present("rustfmt, clippy");
        return Ok(());
    }
    if which("rustup").is_none() {
        bail!("rustfmt or clippy is missing: install them the way that your cargo was installed");
    }
    run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))?;
    report.installed("rustfmt, clippy");
    Ok(())
}

/// Package lists are fetched only when installing fails without: they may be absent or older than the archive.
fn install(names: &[&str]) -> Result<()> {
    eprintln!("installing {} ...", names.join(" "));
    let attempt = || capture(apt_get().args(["install", "-y", "--no-install-recommends"]).args(names));
    if attempt().is_ok() {
        return Ok(());
    }
    update_lists()?;
    attempt().map(drop)
}

/// Fetches the package lists.
pub fn update_lists() -> Result<()> {
    if !is_root() {
        bail!(
            "the package lists are missing or old; run this, then again what you ran:\n  sudo apt-get update"
        );
    }
    capture(apt_get().arg("update")).map(drop)
}

/// apt-get that asks nothing: tshark would ask whether users may capture.
pub fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    apt.args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    if is_root() {
        // The private cache may lie where apt's sandbox user cannot write.
        apt.args(["-o", "APT::Sandbox::User=root"]);
    }
    apt.current_dir(command::root());
    apt
}
