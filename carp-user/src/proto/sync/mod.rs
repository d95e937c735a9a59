//! Replication of tracked connections, the pure half: what two nodes tell each other of their flows, who is
//! right when they differ, and what each has to do about it.

pub mod filter;
pub mod identity;
pub mod message;
pub mod record;
pub mod rule;
pub mod session;
pub mod table;
mod wire;

pub use wire::Malformed;
