//! The pure half: decides who is master, when to advertise, what the datapath may serve. It owns no
//! socket, clock, file, task, randomness or lock.

pub mod changes;
mod claiming;
pub mod config_sync;
mod configuring;
pub mod demote;
pub mod election;
pub mod event;
pub mod family;
mod farewell;
pub mod flow;
mod hearing;
mod host;
mod intent;
pub mod keyring;
mod migration;
pub mod node;
pub mod notice;
pub mod notify;
mod outgoing;
mod peers;
pub mod protocol;
mod proving;
pub mod restraint;
mod senders;
pub mod setup;
pub mod standing;
pub mod status;
mod succession;
mod suspicion;
pub mod sync;
mod tally;
mod tenure;
mod together;
pub mod track;
mod watching;
