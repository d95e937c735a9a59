//! The programs at every link with virtual hosts. XDP in front of it: adverts to the daemon, answers
//! to ARP and neighbour solicitations, the virtual MAC, and the fence around the VIPs. tc behind it:
//! the same fence for what leaves.
//!
//! Every stage is a pure verdict of [`carp_common::verdict`] with a thin loader around it. The
//! first stage that knows the frame decides; what no stage knows passes.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod advert;
#[cfg(target_arch = "bpf")]
mod arp;
#[cfg(target_arch = "bpf")]
mod egress;
#[cfg(target_arch = "bpf")]
mod entry;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod ndp;
#[cfg(target_arch = "bpf")]
mod parse;
#[cfg(target_arch = "bpf")]
mod vip;

/// The program is for the kernel: on the host this crate only compiles. Its decisions are
/// carp-common's and tested there; the whole of it is tested by running it in the kernel.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is the source of a BPF object: build it with `cargo xtask build-ebpf`");
}
