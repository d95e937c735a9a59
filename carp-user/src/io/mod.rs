//! The shells: each turns one interface of the kernel or the network into events and actions, and
//! decides nothing.

pub mod accounts;
pub mod address;
pub mod advert;
pub mod applier;
pub mod bpf;
pub mod clock;
pub mod conntrack;
pub mod control;
pub mod disk;
pub mod ear;
pub mod epoch;
pub mod error;
pub mod fdb;
pub mod forwarding;
pub mod group;
pub mod https;
pub mod instance;
pub mod leftovers;
pub mod link;
pub mod maintenance;
pub mod marks;
pub mod neighbour;
mod netlink;
pub mod nft;
mod note;
pub mod pairing;
pub mod peer;
pub mod privilege;
pub mod raw;
pub mod readers;
pub mod revisions;
pub mod route;
pub mod shield;
pub mod sysctl;
pub mod tuning;
