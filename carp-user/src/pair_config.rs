//! One configuration on two nodes, beside the daemon's loop: [`editor`] on the node that is edited, [`follower`] on the one that
//! follows; what they say to each other, and what they write down. What is decided is decided in `proto::config_sync`.

pub mod book;
pub mod editor;
pub mod follower;
pub mod talk;
