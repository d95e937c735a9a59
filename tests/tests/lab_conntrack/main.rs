//! The connection table's shell against real kernels: flows of one gateway put into another one's table. Every test in
//! namespaces of its own. Needs root and nft.
#![cfg(test)]

mod carried;
mod events;
mod ftp;
mod moves;
mod orders;
mod paths;
mod sieve;
mod speed;
mod table;
