//! The BPF programs: which compiler builds them, the build, and clippy on the BPF target proper.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{capture, cargo, root, run, which};
use crate::setup::{self, Debian};
use crate::strip::strip;

/// What a machine needs that has no BPF compiler yet.
pub const BOTH_WAYS: &str = "no Rust compiler here can build for BPF; one of these two ways gives one:
  - Debian: `cargo xtask setup` unpacks rustc-web with libstd-rust-web-dev-bpf into its cache (needs apt)
  - elsewhere: `rustup toolchain install nightly --component rust-src`, and LLVM's shared library or a bpf-linker
or name one that you have: CARP_BPF_RUSTC=/path/to/rustc";

const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build for BPF.
pub struct Compiler {
    rustc: PathBuf,
    /// The clippy of the same version: crates that another version compiled are not readable to it.
    clippy: Option<PathBuf>,
    core: Core,
}

/// Where the BPF build of `core` comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Core {
    Shipped,
    /// Built on the way, from the sources of rust-src.
    FromSource,
}

/// A compiler that the machine brings: named in `CARP_BPF_RUSTC`, or rustup's nightly with rust-src. The cache goes
/// before nightly, so this asks rustup only when the cache is empty.
pub fn own_compiler() -> Result<Option<Compiler>> {
    if let Some(named) = env::var_os("CARP_BPF_RUSTC") {
        let rustc = PathBuf::from(named);
        let core = core_of(&rustc).context("CARP_BPF_RUSTC")?.context(
            "the compiler named in CARP_BPF_RUSTC has neither the BPF target's core nor rust-src beside it",
        )?;
        return Ok(Some(Compiler { clippy: clippy_beside(&rustc), rustc, core }));
    }
    if Debian::find()?.is_some() || which("rustup").is_none() {
        return Ok(None);
    }
    // A toolchain may be called nightly and be another: what it says itself counts.
    let Ok(path) = capture(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"])) else {
        return Ok(None);
    };
    let rustc = PathBuf::from(path.trim());
    let is_nightly =
        capture(Command::new(&rustc).arg("--version")).is_ok_and(|said| said.contains("nightly"));
    Ok(match core_of(&rustc)? {
        Some(core) if is_nightly => Some(Compiler { clippy: clippy_beside(&rustc), rustc, core }),
        Some(_) | None => None,
    })
}

/// The compiler to use: the user's choice, the private cache, nightly; an error names the ways to get one.
pub fn compiler() -> Result<Compiler> {
    if let Some(own) = own_compiler()? {
        return Ok(own);
    }
    let debian = Debian::find()?.context(BOTH_WAYS)?;
    Ok(Compiler { rustc: debian.rustc(), clippy: Some(debian.clippy_driver()), core: Core::Shipped })
}

/// Builds the programs and returns the object's path, which never changes; its bytes are written only when they
/// differ, so that its time of change does not rebuild the daemon.
pub fn build() -> Result<PathBuf> {
    let compiler = compiler()?;
    let mut build = compiler.cargo("build", &[])?;
    run(&mut build)?;
    let built = target_dir().join(TARGET).join("release/carp-ebpf");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let bytes = strip(&bytes).with_context(|| format!("in {}", built.display()))?;
    let object = object();
    if fs::read(&object).ok().as_deref() != Some(bytes.as_slice()) {
        let fresh = object.with_extension("o.new");
        fs::write(&fresh, &bytes)?;
        fs::rename(&fresh, &object)?;
    }
    Ok(object)
}

/// Clippy for the code that only the BPF target has; without a clippy that fits, rustc's own lints.
pub fn lint() -> Result<()> {
    let compiler = compiler()?;
    let Some(driver) = &compiler.clippy else {
        return run(&mut compiler.cargo("check", &["-Dwarnings"])?);
    };
    // What `cargo clippy -- -D warnings` does; cargo-clippy itself would take the driver beside itself.
    let mut check = compiler.cargo("check", &[])?;
    check.env("RUSTC_WORKSPACE_WRAPPER", driver);
    check.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    run(&mut check)
}

/// Where carp-user's build finds the programs.
pub fn object() -> PathBuf {
    target_dir().join("carp-ebpf.o")
}

impl Compiler {
    /// The major version of its LLVM, whose bitcode the linker must understand.
    pub fn llvm(&self) -> Result<u32> {
        let said = capture(Command::new(&self.rustc).arg("-vV"))?;
        said.lines()
            .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next()?.parse().ok())
            .with_context(|| format!("{} names no LLVM version", self.rustc.display()))
    }

    /// `cargo VERB` for the programs. Everything is set for this one process: a variable in our own environment
    /// would change, and so rebuild, the host's crates.
    fn cargo(&self, verb: &str, more_flags: &[&str]) -> Result<Command> {
        let linker = setup::find_linker(self.llvm()?)?.context("no bpf-linker; run `cargo xtask setup`")?;
        let mut command = cargo();
        command.args([verb, "--release", "--locked", "--package", "carp-ebpf", "--target", TARGET]);
        // BTF is made from debug information, and our map types come from carp-common: all crates get it. An
        // overflow check would end in a panic that BPF cannot have.
        command.args(["--config", "profile.release.debug=2"]);
        command.args(["--config", "profile.release.overflow-checks=false"]);
        command.arg("--target-dir").arg(target_dir());
        // Flags, joined by the unit separator; this variable wins over a user's RUSTFLAGS for the host.
        let mut flags = vec![
            format!("-Clinker={}", linker.display()),
            "-Clink-arg=--btf".to_owned(),
            // Same bytes wherever the checkout lies.
            format!("--remap-path-prefix={}=.", root().display()),
        ];
        flags.extend(more_flags.iter().map(|&flag| flag.to_owned()));
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command.env("RUSTC", &self.rustc).env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
        match self.core {
            // aya-ebpf asks for unstable features and only it may have them.
            Core::Shipped => command.env("RUSTC_BOOTSTRAP", "aya_ebpf"),
            Core::FromSource => command.args(["-Z", "build-std=core"]).env("RUSTC_BOOTSTRAP", "1"),
        };
        Ok(command)
    }
}

fn target_dir() -> PathBuf {
    root().join("target/bpf")
}

fn core_of(rustc: &Path) -> Result<Option<Core>> {
    let sysroot = capture(Command::new(rustc).args(["--print", "sysroot"]))?;
    let lib = Path::new(sysroot.trim()).join("lib/rustlib");
    Ok(if lib.join(TARGET).is_dir() {
        Some(Core::Shipped)
    } else if lib.join("src/rust/library/core").is_dir() {
        Some(Core::FromSource)
    } else {
        None
    })
}

fn clippy_beside(rustc: &Path) -> Option<PathBuf> {
    Some(rustc.with_file_name("clippy-driver")).filter(|driver| driver.is_file())
}
