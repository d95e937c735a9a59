//! Finds the BPF object that `io/bpf` embeds, so that carpd is one file.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=CARP_BPF_OBJECT");
    let object = match env::var_os("CARP_BPF_OBJECT") {
        Some(named) => PathBuf::from(named),
        None => built_object(),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo::rustc-env=CARP_BPF_OBJECT={}", object.display());
    } else {
        println!("cargo::error=no BPF object at {}: run `cargo xtask build-ebpf` first", object.display());
    }
}

/// Where `cargo xtask build-ebpf` leaves it.
fn built_object() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    here.parent().map(PathBuf::from).unwrap_or_default().join("target/bpf/carp-ebpf.o")
}
