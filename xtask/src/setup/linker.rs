//! bpf-linker, built from source against the LLVM of the compiler whose bitcode it links.

use std::env;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::debian::{Debian, lock};
use crate::bpf::Compiler;
use crate::command::{cache_dir, cargo, run, which};

/// The release that we build.
const VERSION: &str = "0.13.0";
/// The versions of LLVM that its features name.
pub const LLVM: RangeInclusive<u32> = 21..=23;

/// The linker for bitcode of LLVM `llvm`: named by the user, built by an earlier run, or on the search path.
pub fn find(llvm: u32) -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os("CARP_BPF_LINKER") {
        return Ok(Some(PathBuf::from(named)));
    }
    let built = place(llvm)?.join("bin/bpf-linker");
    Ok(if built.exists() { Some(built) } else { which("bpf-linker") })
}

/// As `find`, and otherwise builds it: the flag says which.
pub fn find_or_build(compiler: &Compiler) -> Result<(PathBuf, bool)> {
    let llvm = compiler.llvm()?;
    if let Some(present) = find(llvm)? {
        return Ok((present, false));
    }
    let _lock = lock()?;
    if let Some(present) = find(llvm)? {
        return Ok((present, false));
    }
    eprintln!("building bpf-linker {VERSION} for LLVM {llvm} (about a minute) ...");
    let objects = cache_dir()?.join("building");
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--quiet", "--locked", "--version", VERSION]);
    install
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(place(llvm)?);
    install.env("CARGO_TARGET_DIR", &objects).current_dir(cache_dir()?);
    if let Some(debian) = Debian::find()? {
        install.env("LLVM_PREFIX", debian.llvm_prefix()); // else its build looks for llvm-config
    }
    let built = run(&mut install).with_context(|| {
        format!(
            "bpf-linker needs the shared library of LLVM {llvm}, or set CARP_BPF_LINKER to one that you have"
        )
    });
    if objects.exists() {
        fs::remove_dir_all(&objects)?;
    }
    built?;
    Ok((place(llvm)?.join("bin/bpf-linker"), true))
}

fn place(llvm: u32) -> Result<PathBuf> {
    Ok(cache_dir()?.join(format!("bpf-linker-{VERSION}-llvm{llvm}")))
}
