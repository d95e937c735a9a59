//! The pure half: decides who is master, when to advertise, what the datapath may serve. It owns no
//! socket, clock, file, task, randomness or lock.

mod claiming;
pub mod demote;
pub mod election;
pub mod event;
mod hearing;
mod host;
mod intent;
pub mod keyring;
pub mod node;
mod outgoing;
mod peers;
pub mod status;
mod succession;
mod tally;
mod tenure;
