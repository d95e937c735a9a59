//! The programs at every link with virtual hosts: the stages of [`carp_ebpf`] over the kernel's
//! frames and maps.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod entry;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod parse;

/// The programs are for the kernel: on the host this binary only compiles. The stages run there
/// too, in the tests.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is the source of a BPF object: build it with `cargo xtask build-ebpf`");
}
