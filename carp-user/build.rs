//! Finds the BPF object that `io/bpf` embeds, so that carpd is one file, and says which one it is.

use sha1::{Digest, Sha1};
use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=CARP_BPF_OBJECT");
    let object = match env::var_os("CARP_BPF_OBJECT") {
        Some(named) => PathBuf::from(named),
        None => built_object(),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    match std::fs::read(&object) {
        Ok(bytes) => {
            println!("cargo::rustc-env=CARP_BPF_OBJECT={}", object.display());
            println!("cargo::rustc-env=CARP_BPF_BUILD={}", build_id(&bytes));
        }
        Err(error) => println!(
            "cargo::error=no BPF object at {} ({error}): run `cargo xtask build-ebpf` first",
            object.display()
        ),
    }
}

/// The first digits of its SHA-1, as git shortens a commit's.
fn build_id(object: &[u8]) -> String {
    const DIGITS: usize = 12;
    let hex: String = Sha1::digest(object).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(DIGITS).collect()
}

/// Where `cargo xtask build-ebpf` leaves it.
fn built_object() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    here.parent().map(PathBuf::from).unwrap_or_default().join("target/bpf/carp-ebpf.o")
}
