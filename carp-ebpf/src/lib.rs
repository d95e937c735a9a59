//! The stages of the datapath at every link with virtual hosts. In front of it: adverts to the
//! daemon, answers to ARP, neighbour solicitations and pings, the virtual MAC, and the fence around the
//! VIPs. Behind it: the same fence for what leaves.
//!
//! Every stage is a pure verdict of [`carp_common::verdict`] with a thin loader around it, over a
//! [`world::Packet`] and [`world::Maps`]. The first stage that knows the frame decides; what no
//! stage knows passes. The programs for the kernel are the crate's binary.
#![no_std]

mod advert;
mod arp;
mod echo;
pub mod egress;
pub mod ingress;
mod ndp;
mod probe;
mod vip;
pub mod world;
