//! The pure half: decides who is master, when to advertise, what the datapath may serve. It owns no
//! socket, clock, file, task, randomness or lock.

pub mod demote;
pub mod election;
pub mod event;
mod hearing;
mod host;
pub mod keyring;
pub mod node;
mod outgoing;
mod peers;
pub mod status;
mod tally;
mod tenure;
