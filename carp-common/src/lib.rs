//! What the kernel datapath and the daemon must agree on: CARP on the wire, its authentication,
//! the election's arithmetic of time, and the layout of the BPF maps.
//!
//! No allocation, no IO, no clock, no randomness: everything here runs unchanged in XDP, in the
//! daemon and in the simulator.
#![cfg_attr(not(test), no_std)]

pub mod admission;
pub mod auth;
pub mod id;
pub mod map;
pub mod pace;
pub mod sender;
pub mod time;
pub mod verdict;
pub mod wire;
